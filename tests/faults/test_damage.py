"""Damaged checkpoints are found out, named and passed over; what is read is what was written."""

import os
import pathlib
import random
import shutil

import numpy as np
import pytest
import runs
import virtual_devices
from unmask import UserError
from unmask.launch import checkpoints

SETTINGS = {'TRAIN_STEPS': 9, 'CHECKPOINT_PERIOD': 3, 'environment': {'XLA_FLAGS': virtual_devices.flags(1)}}
DAMAGES = ('flip', 'truncate', 'remove', 'empty', 'half')


@pytest.fixture(scope='module')
def whole(zygote, tmp_path_factory):
  """A finished run with checkpoints 3, 6 and 9."""
  folder = tmp_path_factory.mktemp('damaged') / 'run'
  zygote.train(folder, 'pmi_masking', **SETTINGS)
  assert runs.steps(folder) == [3, 6, 9]
  return folder


@pytest.fixture
def copy(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / 'run')


def damage(step: pathlib.Path, how: str, draw: random.Random) -> None:
  """Does something to a checkpoint."""
  files = sorted(path for path in step.rglob('*') if path.is_file())
  victim = draw.choice([path for path in files if path.stat().st_size])
  data = bytearray(victim.read_bytes())
  if how == 'flip':
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    victim.write_bytes(data)
  elif how == 'truncate':
    victim.write_bytes(data[: draw.randrange(len(data))])
  elif how == 'remove':
    victim.unlink()
  elif how == 'empty':
    shutil.rmtree(step)
    step.mkdir()
  else:  # as a copy that was cut off
    for path in files[draw.randrange(1, len(files)) :]:
      path.unlink()


@pytest.mark.parametrize('how', DAMAGES)
def test_the_one_before_is_used_and_the_run_ends_the_same(how, copy, whole, zygote):
  damage(copy / 'checkpoints' / '9', how, random.Random(1))
  said = zygote.train(copy, 'pmi_masking', **SETTINGS)
  assert 'checkpoint 9 is damaged (' in said
  assert 'checkpoint 6 is used. It is kept as ' in said
  (kept,) = (copy / 'damaged').iterdir()
  assert kept.name.startswith('9-')
  runs.assert_same(whole, copy)


def test_a_hundred_damages(whole, tmp_path):
  """Whatever is done to the newest checkpoint, what is restored is the bits of one that was saved.

  More of them by hand: UNMASK_DAMAGES=1000 pytest tests/faults/test_damage.py -k hundred
  """
  draw = random.Random(2)
  expected = {step: runs.final(whole, step)[1] for step in (6, 9)}
  for number in range(int(os.environ.get('UNMASK_DAMAGES', '100'))):
    folder = tmp_path / f'{number}'
    shutil.copytree(whole / 'checkpoints', folder / 'checkpoints')
    damage(folder / 'checkpoints' / '9', draw.choice(DAMAGES), draw)
    sound = {path: path.read_bytes() for path in (whole / 'checkpoints' / '9').rglob('*') if path.is_file()}
    sound = {path: data for path, data in sound.items() if path.name != 'integrity.json'}
    changed = [path for path, data in sound.items() if _bytes(folder / path.relative_to(whole)) != data]
    step, state, _ = runs.final(folder)
    assert step == 6 or not changed  # the record alone was hit
    for name, leaf in expected[step].items():
      np.testing.assert_array_equal(state[name], leaf, err_msg=name)
    shutil.rmtree(folder)


def _bytes(path: pathlib.Path) -> bytes | None:
  return path.read_bytes() if path.exists() else None


def test_nothing_sound_is_left(copy, zygote):
  for step in (3, 6, 9):
    damage(copy / 'checkpoints' / str(step), 'truncate', random.Random(step))
  said = zygote.train(copy, 'pmi_masking', expect=2, **SETTINGS)
  assert 'Every checkpoint in ' in said
  assert all(f'{step}: ' in said for step in (3, 6, 9))
  assert 'Traceback' not in said
  assert runs.steps(copy) == [3, 6, 9]  # nothing was thrown away


def test_what_a_crash_left_half_written_is_cleared_away(copy, whole, zygote):
  shutil.rmtree(copy / 'checkpoints' / '9')
  shutil.copytree(copy / 'checkpoints' / '6', copy / 'checkpoints' / '9.orbax-checkpoint-tmp')
  (copy / 'checkpoints' / '9.orbax-checkpoint-tmp' / 'state' / '_METADATA').unlink()
  assert 'damaged' not in zygote.train(copy, 'pmi_masking', **SETTINGS)
  assert not list((copy / 'checkpoints').glob('*tmp*'))
  runs.assert_same(whole, copy)


def test_another_configuration_is_told_by_its_bindings(copy, zygote):
  for bindings, signs in (
    ({'PMIMasking.rate': 0.3}, ['PMIMasking.rate was 0.15 and is now 0.3']),
    ({'DecoderConfig.mlp_dim': 64}, ['DecoderConfig.mlp_dim was 48 and is now 64']),
    ({'Optimizer.weight_decay': 0.5, 'BATCH_SIZE': 16}, ['weight_decay was ', ' and is now 0.5', 'BATCH_SIZE was 8']),
  ):
    said = zygote.train(copy, 'pmi_masking', expect=2, **SETTINGS | bindings)
    assert 'holds another run: ' in said
    for sign in signs:
      assert sign in said, said
  before = runs.lines(copy)
  said = zygote.train(copy, 'pmi_masking', **SETTINGS | {'TRAIN_STEPS': 10})
  assert 'TRAIN_STEPS was 9 and is now 10' in said
  assert runs.lines(copy)[: len(before)] == before


def test_a_torn_model_json(copy, zygote):
  (copy / 'model.json').write_text((copy / 'model.json').read_text()[:40])
  said = zygote.train(copy, 'pmi_masking', expect=2, **SETTINGS)
  assert 'model.json is damaged' in said
  assert 'Traceback' not in said


def test_there_is_nothing_to_read(tmp_path):
  with pytest.raises(UserError, match='no checkpoints'):
    checkpoints.Checkpoints(str(tmp_path))
