"""Seeded mistakes: configurations and corpora as nobody should write them, and the run that must take or refuse them.

A case is made of a seed and a number alone, so that one that fails can be run again: see fuzz.py.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator

import corpus_mistakes
import gin_mistakes
from unmask.launch import cli, loop
from unmask.tasks import default_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIN = ROOT / 'gin'
SECONDS = 60  # a case that takes longer hangs
SMALL = {
  'DecoderConfig.embed_dim': 16,
  'DecoderConfig.num_layers': 1,
  'DecoderConfig.num_heads': 2,
  'DecoderConfig.num_kv_heads': 1,
  'DecoderConfig.head_dim': 8,
  'DecoderConfig.mlp_dim': 16,
  'DecoderConfig.scan_unroll': 1,
  'DecoderConfig.loss_chunk': 16,
  'EVAL_PERIOD': 1,
  'Evaluation.batches': 1,
  'BATCH_SIZE': 8,
  'TASK_FEATURE_LENGTHS': "{'targets': 32}",
}
NEED_MORE = ('meap_fine_tuning', 'answers_only', 'guided_masking')  # rows of questions; a scorer
OBJECTIVES = sorted(path.stem for path in (GIN / 'objectives').glob('*.gin') if path.stem not in NEED_MORE)
MODELS = sorted(path.stem for path in (GIN / 'models').glob('*.gin'))


@dataclasses.dataclass(frozen=True)
class Case:
  """One mistake, or several.

  Attributes:
    number: with the seed, all that the case is made of.
    kind: 'gin', 'flags' or 'corpus'.
    said: what was done.
    argv: the command.
    finish: whether an accepted configuration is trained to its end, not only to where it would be compiled.
    repair: writes a good corpus where the bad one is, and gives the status of another try; None tries nothing.
  """

  number: int
  kind: str
  said: str
  argv: list[str]
  finish: bool = False
  repair: Callable[[], int] | None = None


class _Accepted(BaseException):
  """Raised where the configuration is checked and the text is open."""


class _Hangs(BaseException):
  """Raised where a case takes too long."""


class Fuzzer:
  """Makes and runs the cases of a seed in a folder of its own."""

  def __init__(self, folder: pathlib.Path, seed: int):
    self._folder, self._seed = folder, seed
    self.outcome = ''
    self._text = folder / 'good'
    self._text.mkdir(parents=True)
    for number, text in enumerate(corpus_mistakes.good_text()):
      (self._text / f'{number}.txt').write_text(text)

  def case(self, number: int) -> Case:
    """A case by its number; its files are written."""
    rng = random.Random(f'{self._seed}:{number}')
    place = self._folder / f'case{number}'
    place.mkdir()
    kind = rng.choices(('gin', 'flags', 'corpus'), (5, 7, 2))[0]
    if kind == 'corpus':
      return self._corpus(number, rng, place)
    finish = rng.random() < 0.015
    files = ['runs/pretrain.gin', f'models/{rng.choice(MODELS)}.gin', 'tasks/local_text.gin']
    files.append(f'objectives/{rng.choice(OBJECTIVES)}.gin')
    given = {'TRAIN_STEPS': 1, 'MODEL_DIR': place / 'run', 'DATA_DIR': self._folder / 'data'}
    given |= {'TEXT_PATTERN': self._text / '*.txt', 'VOCABULARY_SIZE': 350} | (SMALL if finish else {})
    argv = [f'--gin.{name}={value}' for name, value in given.items()]
    said = ''
    paths = [f'gin/{name}' for name in files]
    if kind == 'gin':
      at = rng.randrange(len(files))
      text = gin_mistakes.mutated((GIN / files[at]).read_text(), rng)
      paths[at] = str(place / os.path.basename(files[at]))
      data = text.encode('utf-8', 'surrogatepass')
      if rng.random() < 0.03:
        data = text.encode('utf-16') if rng.random() < 0.5 else bytes(rng.randbytes(200)) + data
      pathlib.Path(paths[at]).write_bytes(data)
      said = f'{files[at]}:\n{text}'
      if rng.random() < 0.7:  # what the flags bind hides what the file does
        kept = ('MODEL_DIR', 'DATA_DIR', 'TEXT_PATTERN', 'VOCABULARY_SIZE')
        argv = [f'--gin.{name}={value}' for name, value in given.items() if name in kept or finish]
    argv = [*(f'--gin_file={path}' for path in paths), *argv]
    if kind == 'flags':
      for _ in range(rng.choice((1, 1, 2))):
        gin_mistakes.spoil(argv, rng)
      said = ' '.join(argv)
    return Case(number, kind, said, ['train', *argv], finish)

  def _corpus(self, number: int, rng: random.Random, place: pathlib.Path) -> Case:
    text = place / 'text'
    text.mkdir()
    suffix = rng.choice(('txt', 'txt', 'jsonl'))
    if rng.random() < 0.5:
      self._good(text, suffix)
    said = []
    for bad in range(rng.choice((1, 1, 2))):
      make = rng.choice(corpus_mistakes.MAKERS)
      said.append(make.__name__)
      path = text / f'bad{bad}.{suffix}'
      if (data := make(rng, suffix)) is None:
        path.mkdir()
      else:
        path.write_bytes(data)
    if rng.random() < 0.05:
      path.chmod(0)
      said.append('unreadable')
    given = {'TEXT_PATTERN': text / '*', 'DATA_DIR': place / 'data', 'VALIDATION_ONE_IN': rng.choice((2, 5))}
    given['VOCABULARY_SIZE'] = rng.choice((300, 350, 400, None))
    if rng.random() < 0.2:
      given['LocalText.separator'] = rng.choice(("'\\n'", "'\\n\\n'", "'. '", "''"))
    argv = [
      'prepare',
      '--gin_file=gin/tasks/local_text.gin',
      *(f'--gin.{name}={value}' for name, value in given.items()),
    ]

    def repair() -> int:
      for path in text.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
      self._good(text, 'txt')
      return cli.main(
        [*argv, '--gin.VOCABULARY_SIZE=350', '--gin.VALIDATION_ONE_IN=5', '--gin.LocalText.separator=None']
      )

    return Case(number, 'corpus', f'{said} in {suffix}', argv, repair=repair if rng.random() < 0.25 else None)

  def _good(self, folder: pathlib.Path, suffix: str) -> None:
    for number, text in enumerate(corpus_mistakes.good_text()):
      line = json.dumps({'text': text}) + '\n' if suffix == 'jsonl' else text
      (folder / f'good{number}.{suffix}').write_text(line)

  def run(self, case: Case) -> str | None:
    """What is wrong with how the case ended; None if nothing is. Its outcome is 'taken' or 'refused'."""
    status, output = self._outcome(case)
    self.line = ' '.join(lines)[:300] if (lines := [x for x in output.split('\n') if 'unmask: ' in x]) else ''
    self.outcome = {0: 'taken', 2: 'refused'}.get(status, 'wrong')
    lines = [line for line in output.replace('\r', '\n').split('\n') if line.strip().startswith('unmask: ')]
    if isinstance(status, str):
      return status
    if status not in (0, 2):
      return f'status {status}: {output[-2000:]}'
    if 'Traceback' in output:
      return f'a traceback: {output[-2000:]}'
    if len(lines) != (status == 2):
      return f'{len(lines)} lines with status {status}: {output[-2000:]}'
    if left := self._left(case, refused=status == 2):
      return f'left behind: {left}'
    if case.repair is not None:
      with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        status = case.repair()
      if status:
        return f'a good corpus in its place is refused: {error.getvalue()[-500:]}'
    return None

  def _outcome(self, case: Case) -> tuple[int | str, str]:
    """The exit status, or what else happened; and what was printed on stderr."""
    quiet = contextlib.redirect_stdout(io.StringIO())
    with _hooks(case.finish), _limit(SECONDS), quiet, contextlib.redirect_stderr(io.StringIO()) as error:
      try:
        status: int | str = cli.main(case.argv)
      except _Accepted:
        status = 0
      except _Hangs:
        status = f'takes more than {SECONDS} s: {traceback.format_exc()[-1500:]}'
      except SystemExit as stop:
        status = f'SystemExit({stop.code})'
      except Exception:
        status = traceback.format_exc()[-3000:]
    return status, error.getvalue()

  def _left(self, case: Case, refused: bool) -> list[str]:
    """Files that only something unfinished leaves, and of a refused run any in its MODEL_DIR."""
    place = self._folder / f'case{case.number}'
    folders = [self._folder / 'data', place / 'data', place / 'run']
    names = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return [
      str(path)
      for path in names
      if path.name.startswith('.') or path.name.endswith('.tmp') or (refused and path.parent.name == 'run')
    ]


@contextlib.contextmanager
def _hooks(finish: bool) -> Iterator[None]:
  """Stops train before anything is compiled, and the default corpus before it is downloaded."""

  def accepted(*arguments, **more):
    raise _Accepted

  def not_here(*arguments, **more):
    raise default_text.UserError('No network.')

  before = loop._run, default_text._download
  loop._run, default_text._download = loop._run if finish else accepted, not_here
  try:
    yield
  finally:
    loop._run, default_text._download = before


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
  def stop(*arguments):
    raise _Hangs

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run_all(folder: pathlib.Path, seed: int, numbers: range, say: Callable[[str], None]) -> dict[str, int]:
  """Runs cases; AssertionError with all that went wrong. Returns how many of each kind ran, by kind and outcome."""
  fuzzer, wrong, counts = Fuzzer(folder, seed), [], {}
  before = os.getcwd()
  os.chdir(folder)
  try:
    for number in numbers:
      began, case = time.monotonic(), fuzzer.case(number)
      found = fuzzer.run(case)
      counts[f'{case.kind} {fuzzer.outcome}'] = counts.get(f'{case.kind} {fuzzer.outcome}', 0) + 1
      say(f'{number} {case.kind} {time.monotonic() - began:.1f} s {"WRONG" if found else fuzzer.outcome}')
      say(f'   {fuzzer.line or [flag for flag in case.argv if flag.startswith("--gin.")][-2:]}')
      if found:
        wrong.append(f'case {number} of seed {seed} ({case.kind}): {case.said}\n{found}')
        say(wrong[-1])
  finally:
    os.chdir(before)
  assert not wrong, f'{len(wrong)} of {len(numbers)} cases:\n' + '\n\n'.join(wrong)
  return counts
