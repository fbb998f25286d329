"""Weeks of training: nothing grows, and old checkpoints go by the rules that were given."""

import os
import signal

import numpy as np
import pytest
import runs
from unmask import UserError
from unmask.launch import checkpoints, metrics

STEPS = 5000


def _usage(pid: int) -> tuple[float, int]:
  """Resident megabytes and open files of a process."""
  with open(f'/proc/{pid}/statm') as file:
    pages = int(file.read().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 1e6, len(os.listdir(f'/proc/{pid}/fd'))


def test_memory_and_files_are_flat(zygote, tmp_path):
  """Over 5,000 updates with evaluations and checkpoints, from the thousandth on."""
  often = {'CHECKPOINT_PERIOD': 500, 'EVAL_PERIOD': 500}
  run = zygote.start(tmp_path, 'mlm', **often | {'TRAIN_STEPS': STEPS + 1000, 'BATCH_SIZE': 16})
  found = []
  for step in range(1000, STEPS + 1, 100):
    run.until(lambda step=step: _last(tmp_path) >= step)
    found.append(_usage(run.pid))
  run.signal(signal.SIGTERM)
  assert run.wait() == 75
  megabytes, files = np.array(found).T
  half = len(found) // 2
  # A save holds a copy of the state, 6.7 MB, for a while, so the least of each half is compared. A batch has 24 kB:
  # 2,000 kept ones would be 48 MB.
  assert min(megabytes[half:]) - min(megabytes[:half]) < 16, megabytes
  assert min(files[half:]) - min(files[:half]) <= 1, files
  assert len(runs.steps(tmp_path)) == 3


def _last(model_dir) -> int:
  """The last step that was told; the file's end alone is read."""
  path = model_dir / 'metrics.jsonl'
  if not path.exists() or not path.stat().st_size:
    return 0
  with open(path, 'rb') as file:
    file.seek(-min(path.stat().st_size, 2000), os.SEEK_END)
    lines = [line for line in file.read().split(b'\n')[:-1] if line.startswith(b'{"step": ')]
  return int(lines[-1].split(b':')[1].split(b',')[0]) if lines else 0


def test_what_is_kept(zygote, tmp_path):
  """The last two, the best one by held-out loss, and each at a multiple of 20; whatever one rule wants stays."""
  policy = {'keep': 2, 'keep_best': 1, 'keep_every': 20}
  settings = {'TRAIN_STEPS': 60, 'CHECKPOINT_PERIOD': 5, 'EVAL_PERIOD': 5}
  settings |= {'LEARNING_RATE': 10.0, 'Schedule.warmup_steps': 60}  # it only gets worse
  settings |= {f'CheckpointPolicy.{name}': value for name, value in policy.items()}
  zygote.train(tmp_path, **settings | {'train.stop_at': 35})
  zygote.train(tmp_path, **settings)  # the rules hold over an interruption
  losses = {row['step']: row['eval/loss'] for row in metrics.read(str(tmp_path)) if 'eval/loss' in row}
  best = min(losses, key=losses.get)
  assert best not in (20, 40, 55, 60), losses  # else the rule for the best would not be seen
  assert runs.steps(tmp_path) == sorted({55, 60, 20, 40, best})


@pytest.mark.parametrize(
  'wrong',
  [{'period': 0}, {'keep': 0}, {'keep_best': -1}, {'keep_every': 7, 'period': 5}, {'keep': 1.5}, {'patience': -1.0}],
)
def test_senseless_policies(wrong):
  with pytest.raises(UserError, match='CheckpointPolicy'):
    checkpoints.CheckpointPolicy(**wrong)
