"""Building the collocation lexicon of a task, and showing one."""

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich.console
import rich.table
import tqdm

from .. import UserError
from ..tasks import corpora
from ..tasks.units import collocations, counting
from ..tasks.units.lexicon import LENGTHS, Lexicon
from . import config

if TYPE_CHECKING:
  from ..tasks import text_task


def build(
  *,
  task: 'text_task.TextTask',
  output: str | None = None,
  engine: str = 'local',
  memory_limit: int = 2 << 30,
  scratch_dir: str | None = None,
  beam_flags: Sequence[str] = (),
) -> str:
  """Writes the lexicon of a task's training documents, unless the file is there and nothing changed; returns its path.

  Args:
    task: names the corpus, its held-out documents and the lexicon's settings.
    output: the file; None takes 'lexicon-NAME-MEASURE.tsv' in the task's data_dir.
    engine: 'local', in this process, or 'beam'; they write the same file.
    memory_limit: bytes for the local engine.
    scratch_dir: a folder for what the local engine spills; None takes the system's.
    beam_flags: Apache Beam's pipeline options.

  Raises:
    UserError: the corpus cannot be read or has no words, or the file cannot be written or is something else.
  """
  config.refuse_unused()
  corpora.require(task)
  began = time.monotonic()
  say = lambda line: print(f'[{time.monotonic() - began:5.1f} s] {line}', flush=True)
  settings, fingerprint = task.lexicon, task.training_fingerprint()
  default = os.path.join(task.data_dir, f'lexicon-{task.name}-{settings.measure}.tsv')
  path = os.path.expanduser(output or default)
  before = _present(path, say)
  if before and (before.corpus, before.settings) == (fingerprint, settings.described()):
    say(f'{path} is there and nothing changed')
    _report(before, say)
    return path
  _check_writable(path)
  say(f'counting {fingerprint} with the {engine} engine: {settings.described()}')
  with contextlib.ExitStack() as stack:
    if engine == 'beam':
      from ..tasks.units import beam_lexicon

      counter = stack.enter_context(
        beam_lexicon.BeamEngine(task.corpus, task.validation_one_in, beam_flags, task.longest_document)
      )
    else:
      bar = stack.enter_context(tqdm.tqdm(task.training_texts(), desc='read', unit='doc', leave=False, mininterval=1))
      counter = stack.enter_context(counting.LocalEngine(bar, memory_limit, scratch_dir))
    lexicon = collocations.build(counter, settings, fingerprint, say)
  if not lexicon.totals[0]:
    raise UserError(f'The corpus of {task.name} has no words in its training documents; mend the corpus.')
  lexicon.save(path)
  _report(lexicon, say)
  if settings.size is None and lexicon.coverage < settings.coverage:
    say(f'this is less than the {settings.coverage:.1%} asked for: the corpus has no more such n-grams')
  say(f'{path} written; {lexicon.totals[0] / (time.monotonic() - began):,.0f} words a second')
  return path


def _present(path: str, say) -> Lexicon | None:
  """The lexicon that is there, None if it must be made again; UserError for a file that is none."""
  if not os.path.exists(path):
    return None
  try:
    return Lexicon.load(path)
  except UserError as error:
    if 'is no lexicon file' in str(error) or 'Cannot read' in str(error):
      raise UserError(f'{path} is there and is no lexicon; give another --output or remove it.') from error
    say(str(error))
    return None


def _check_writable(path: str) -> None:
  """Before the corpus is counted, not after."""
  folder = os.path.dirname(os.path.abspath(path))
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise UserError(f'Cannot make the folder {folder}: {error.strerror}; give another --output.') from error
  if not os.access(folder, os.W_OK):
    raise UserError(f'Cannot write in {folder}; give another --output.')


def _report(lexicon: Lexicon, say) -> None:
  numbers = ', '.join(f'{len(lexicon.of_length(n)):,} of {n}' for n in LENGTHS)
  say(f'{len(lexicon.entries):,} entries ({numbers} words) cover {lexicon.coverage:.1%} of {lexicon.totals[0]:,} words')


def show(path: str, top: int = 50) -> None:
  """Prints what a lexicon file says of itself and the best `top` entries of each length."""
  lexicon = Lexicon.load(path)
  console = rich.console.Console(highlight=False)
  settings = ', '.join(f'{name} {value}' for name, value in sorted(lexicon.settings.items()))
  console.print(f'{path}: {lexicon.corpus}', markup=False)
  console.print(settings, markup=False)
  _report(lexicon, lambda line: console.print(line, markup=False))
  for n, total, frequent in zip(LENGTHS, lexicon.totals[1:], lexicon.frequent[1:], strict=True):
    entries = lexicon.of_length(n)
    console.print(f'\n{n} words: {len(entries):,} of {frequent:,} frequent n-grams; {total:,} in the corpus')
    table = rich.table.Table()
    for column in ('', 'words', 'occurrences', 'score'):
      table.add_column(column, justify='left' if column == 'words' else 'right', overflow='fold')
    for place, entry in enumerate(entries[:top], 1):
      table.add_row(str(place), ' '.join(entry.ngram), f'{entry.count:,}', f'{entry.score:.3f}')
    console.print(table)
