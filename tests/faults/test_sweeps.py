"""A sweep whose cells fail, are killed or are asked to stop; each cell is a process of its own."""

import contextlib
import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator

import runs

LINES = [
  f'{name} = {value!r}' if 'DIR' in name else f'{name} = {value}'
  for name, value in (runs.TINY | {'CHECKPOINT_PERIOD': 1000}).items()
]


def _argv(folder: pathlib.Path, axes: dict, steps: int, *more: str) -> list[str]:
  given = {
    'SWEEP_DIR': folder,
    'RUN': 'gin/runs/pretrain.gin',
    'AXES': {'objective': ['next_token']} | axes,
    'BINDINGS': [*LINES, f'TRAIN_STEPS = {steps}'],
  }
  flags = [f'--gin.{name}={value}' for name, value in given.items()]
  return ['sweep', '--gin_file=gin/sweeps/core.gin', '--no-judge', *flags, *more]


def _pid(cell: pathlib.Path) -> int | None:
  with contextlib.suppress(OSError, ValueError, KeyError):
    return json.loads((cell / '.lock').read_text())['process']
  return None


@contextlib.contextmanager
def _ended(sweep: runs.Run) -> Iterator[None]:
  """A test that fails inside leaves no cell behind, whose processes are the sweep's own."""
  try:
    yield
  except BaseException:
    sweep.signal(signal.SIGTERM)
    sweep.wait()
    raise


def test_a_failed_cell_ends_no_other_and_can_be_tried_again(zygote, tmp_path):
  """One cell cannot read its corpus. The other is trained; the sweep says which failed, why, and where its log is."""
  nowhere = tmp_path / 'corpus' / '*.txt'
  files = [
    'gin/tasks/local_text.gin',
    f"TEXT_PATTERN = '{nowhere}'",
    f"DATA_DIR = '{tmp_path / 'data'}'",
    'VOCABULARY_SIZE = 380',
  ]
  lines = [line for line in LINES if not line.startswith(('DOWNLOAD_DIR', 'VOCABULARY_SIZE'))]
  home = [f"DOWNLOAD_DIR = '{runs.TINY['DOWNLOAD_DIR']}'", 'VOCABULARY_SIZE = 1024']
  argv = _argv(
    tmp_path / 'runs', {'corpus': {'none': files, 'own': home}}, 2, f'--gin.BINDINGS={[*lines, "TRAIN_STEPS = 2"]}'
  )
  bad, good = (tmp_path / 'runs' / f'next_token-corpus{name}-seed0' for name in ('none', 'own'))
  sweep = zygote.command(argv)
  assert sweep.wait() == 1, sweep.said()
  assert (good / 'done.json').exists()
  (told,) = [line for line in sweep.said().split('\n') if line.startswith('unmask: ')]
  assert told.startswith(f'unmask: {bad.name} failed: ')
  assert str(nowhere) in told
  assert str(bad / 'train.log') in told
  assert 'Traceback' not in sweep.said()
  before = (bad / 'train.log').stat().st_size
  left = zygote.command([*argv, '--no-retry_failed'])
  assert left.wait() == 1
  assert told in left.said()
  assert (bad / 'train.log').stat().st_size == before
  nowhere.parent.mkdir()
  for number in range(60):
    text = f'Paragraph {number} tells of the year {1900 + number} and of what was seen there. ' * 12
    (nowhere.parent / f'{number}.txt').write_text(text)
  again = zygote.command(argv)
  status = again.wait()
  assert (bad / 'train.log').stat().st_size > before
  assert f'{good.name}: is trained' in again.said()
  assert status == 0, (bad / 'train.log').read_text()[-2000:]
  assert not (bad / 'failed.json').exists()


def test_a_killed_cell_is_told_and_the_next_one_runs(zygote, tmp_path):
  argv = _argv(tmp_path, {'SEED_OF_NOTHING': {'a': [], 'b': ['TRAIN_STEPS = 2']}}, 100_000)
  cells = [tmp_path / f'next_token-SEED_OF_NOTHING{name}-seed0' for name in ('a', 'b')]
  sweep = zygote.command(argv)
  with _ended(sweep):
    sweep.until(lambda: len(runs.lines(cells[0])) >= 2)
    os.kill(_pid(cells[0]), signal.SIGKILL)
  assert sweep.wait() == 1, sweep.said()
  assert f'unmask: {cells[0].name} failed: killed by SIGKILL (out of memory?); it last printed:' in sweep.said()
  assert (cells[1] / 'done.json').exists()


def test_cells_side_by_side_all_save_when_the_sweep_is_told_to_stop(zygote, tmp_path):
  """SIGTERM reaches the sweep alone: every cell saves, none is begun anew, and the same command goes on."""
  argv = _argv(tmp_path, {}, 100_000, '--gin.SEEDS=[0,1,2]', '--gin.PARALLEL=2')
  cells = [tmp_path / f'next_token-seed{seed}' for seed in range(3)]
  sweep = zygote.command(argv)
  with _ended(sweep):
    sweep.until(lambda: all(len(runs.lines(cell)) >= 3 for cell in cells[:2]))
    cores = [os.sched_getaffinity(_pid(cell)) for cell in cells[:2]]
    assert not cores[0] & cores[1]
  began = time.monotonic()
  sweep.signal(signal.SIGTERM)
  assert sweep.wait() == 75, sweep.said()
  assert time.monotonic() - began < 25
  saved = [runs.steps(cell) for cell in cells[:2]]
  assert all(len(steps) == 1 and steps[0] >= 3 for steps in saved)
  assert runs.steps(cells[2]) == []
  assert f'{cells[0]}, {cells[1]} were trained, which is saved. The same command goes on.' in sweep.said()
  again = zygote.command(argv)
  with _ended(again):
    again.until(
      lambda: all(runs.lines(cell)[-1]['step'] > steps[0] for cell, steps in zip(cells[:2], saved, strict=True))
    )
  again.signal(signal.SIGINT)
  assert again.wait() == 130
  assert 'Traceback' not in again.said()
  for cell, steps in zip(cells[:2], saved, strict=True):
    assert [row['step'] for row in runs.lines(cell)] == list(range(1, runs.steps(cell)[-1] + 1))
    assert runs.steps(cell)[-1] > steps[0]
