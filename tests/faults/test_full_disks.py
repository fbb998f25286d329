"""A disk that is full, read-only or slow costs checkpoints, no training: the last good one stays, and the message says
which disk it is.
"""

import disks
import pytest
import runs

SETTINGS = {'TRAIN_STEPS': 120, 'CHECKPOINT_PERIOD': 20, 'BATCH_SIZE': 16}


@pytest.fixture(scope='module')
def whole(zygote, tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  zygote.train(folder, **SETTINGS)
  return folder


def _at(model_dir, step: int):
  return lambda: (runs.lines(model_dir) or [{'step': 0}])[-1]['step'] >= step


@disks.mounts
def test_a_full_disk_that_is_freed(zygote, tmp_path, whole):
  with disks.small_disk(tmp_path / 'disk', 60) as disk:
    run = zygote.start(disk / 'run', **SETTINGS)
    run.until(lambda: 20 in runs.steps(disk / 'run'))
    filler = disks.fill(disk)
    run.until(lambda: 'was not saved' in run.said())
    assert f'the disk of {disk / "run" / "checkpoints"} is full. Training goes on; checkpoint' in run.said()
    assert runs.steps(disk / 'run')[-1] >= 20
    filler.unlink()
    assert run.wait() == 0, run.said()
    assert 'Traceback' not in run.said()
    runs.assert_same(whole, disk / 'run')


@disks.mounts
def test_a_full_disk_that_stays_full(zygote, tmp_path, whole):
  with disks.small_disk(tmp_path / 'disk', 60) as disk:
    run = zygote.start(disk / 'run', **SETTINGS)
    run.until(lambda: 20 in runs.steps(disk / 'run'))
    filler = disks.fill(disk)
    assert run.wait() == 2, run.said()  # it trained to its end, and could not keep that
    assert 'The last checkpoint was not saved: the disk of ' in run.said()
    assert 'Traceback' not in run.said()
    kept = runs.steps(disk / 'run')
    assert kept
    assert kept[-1] < 120
    assert not list((disk / 'run' / 'checkpoints').glob('*tmp*'))  # what is half-written takes no room
    filler.unlink()
    zygote.train(disk / 'run', **SETTINGS)
    runs.assert_same(whole, disk / 'run')


@disks.mounts
def test_a_disk_that_turns_read_only_and_back(zygote, tmp_path, whole):
  model_dir = tmp_path / 'run'
  with disks.small_disk(model_dir / 'checkpoints', 60) as disk:
    run = zygote.start(model_dir, **SETTINGS)
    run.until(lambda: 20 in runs.steps(model_dir) and (disk / '20' / 'integrity.json').exists())
    with disks.read_only(disk):
      run.until(lambda: 'was not saved' in run.said())
    assert f'the disk of {disk} is read-only. Training goes on; checkpoint' in run.said()
    assert run.wait() == 0, run.said()
    assert 'Traceback' not in run.said()
    runs.assert_same(whole, model_dir)


def test_a_slow_disk(zygote, tmp_path, whole):
  """Training stands still for no longer than it has patience."""
  more = SETTINGS | {'CheckpointPolicy.patience': 0.2}
  run = zygote.start(tmp_path, slow=4.0, **more)
  run.until(lambda: 'is still being written' in run.said())
  (step,) = {path.name.split('.')[0] for path in (tmp_path / 'checkpoints').glob('*tmp*')}
  before = runs.lines(tmp_path)[-1]['step']
  run.until(_at(tmp_path, before + 5))
  assert list((tmp_path / 'checkpoints').glob(f'{step}.*tmp*'))  # all that while
  assert run.wait() == 0, run.said()
  assert f'checkpoint {step} is still being written to {tmp_path / "checkpoints"}' in run.said()
  runs.assert_same(whole, tmp_path)
