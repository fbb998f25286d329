"""Preparing a corpus ahead of training, and saying what was made."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich.console
import rich.table

from ..tasks import corpora
from . import config

if TYPE_CHECKING:
  from ..tasks import text_task


def prepare(*, task: 'text_task.TextTask', engine: str = 'local', beam_flags: Sequence[str] = ()) -> str:
  """Prepares a corpus unless it is prepared, prints where it lies and what it holds, and returns the folder.

  Args:
    task: the corpus and what to make of it.
    engine: 'local', this machine, or 'beam'; they make the same files.
    beam_flags: Apache Beam's pipeline options.

  Raises:
    UserError: there is no task, or as `TextTask.prepare` and `beam_engine.BeamEngine` do.
  """
  config.refuse_unused()
  corpora.require(task)
  chosen = None
  if engine == 'beam':
    from ..tasks.preparation import beam_engine

    chosen = beam_engine.BeamEngine(beam_flags)
  said: list[str] = []

  def say(line: str) -> None:
    said.append(line)
    print(line, flush=True)

  folder = task.prepare(say, chosen)
  print(f'{folder} written' if said else f'{folder} is there and nothing changed', flush=True)
  with open(os.path.join(folder, 'summary.json')) as file:
    _show(json.load(file))
  return folder


def _show(summary: dict) -> None:
  """The summary as a table; seconds are those of the build."""
  splits, salient = summary['splits'], summary['salient']
  seconds = summary['seconds']
  rows = {
    'documents': f'{summary["documents"]:,}',
    'of them cut': f'{summary["cut_documents"]:,}, into {summary["pieces"]:,} pieces',
    'of them renamed': f'{summary["renamed_documents"]:,}',
    'training words': f'{summary["training_words"]:,}',
    'training tokens': f'{splits["train"]["targets_tokens"]:,}',
    'validation tokens': f'{splits["validation"]["targets_tokens"]:,}',
    'vocabulary': f'{summary["vocabulary_size"]:,} ids',
    'collocations': f'{summary["lexicon_entries"]:,}, in {summary["lexicon_coverage"]:.1%} of the words',
    **{f'salient {label}': f'{count:,}' for label, count in salient['spans'].items()},
    'seconds': f'{seconds:,.1f}',
    'words a second': f'{summary["training_words"] / seconds:,.0f}',
  }
  table = rich.table.Table(show_header=False)
  table.add_column()
  table.add_column(justify='right')
  for name, value in rows.items():
    table.add_row(name, value)
  rich.console.Console(highlight=False).print(table)
