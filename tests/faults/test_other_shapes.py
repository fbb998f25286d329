"""A run goes on with other devices, another mesh, or another number of machines: the same batches, and the same losses
within what float32 sums in another order allow.
"""

import json
import shutil

import pytest
import runs

SETTINGS = {'TRAIN_STEPS': 12, 'CHECKPOINT_PERIOD': 6, 'EVAL_PERIOD': 4, 'DecoderConfig.num_kv_heads': 2}
OBJECTIVE = 'causal_masked'


@pytest.fixture(scope='module')
def whole(zygote, tmp_path_factory):
  """Twelve updates on eight devices."""
  folder = tmp_path_factory.mktemp('whole')
  zygote.train(folder, OBJECTIVE, devices=8, **SETTINGS)
  return runs.lines(folder)


@pytest.fixture(scope='module')
def stopped(zygote, tmp_path_factory):
  """Six of them."""
  folder = tmp_path_factory.mktemp('stopped') / 'run'
  zygote.train(folder, OBJECTIVE, devices=8, **SETTINGS | {'MeshConfig.fsdp': 2, 'train.stop_at': 6})
  return folder


@pytest.fixture
def half(stopped, tmp_path):
  return shutil.copytree(stopped, tmp_path / 'run')


def _assert_close(found: list[dict], expected: list[dict]) -> None:
  found = [row for row in found if (row['step'], 'eval/loss' in row) != (6, True)]  # the end of the first half
  assert [row['step'] for row in found] == [row['step'] for row in expected]
  for one, other in zip(found, expected, strict=True):
    assert one == pytest.approx(other, rel=2e-4)
    for name in ('tokens', 'scored', 'total_tokens', 'total_scored', 'padding'):  # of the batches alone
      assert one.get(name) == other.get(name)


@pytest.mark.parametrize(
  ('devices', 'mesh'),
  [(4, {}), (2, {'fsdp': 2}), (1, {}), (8, {'fsdp': 4, 'tensor': 2}), (8, {'data': 2, 'sequence': 2, 'fsdp': 2})],
  ids=str,
)
def test_resumed_elsewhere(devices, mesh, half, whole, zygote):
  bound = {f'MeshConfig.{axis}': size for axis, size in mesh.items()}
  zygote.train(half, OBJECTIVE, devices=devices, **SETTINGS | bound)
  _assert_close(runs.lines(half), whole)


def test_resumed_by_more_and_by_fewer_machines(half, whole, zygote):
  for processes, last in ((2, 9), (4, 11), (1, 12)):
    meeting = runs.free_address()
    places = [(meeting, processes, number) for number in range(processes)] if processes > 1 else [None]
    more = SETTINGS | {'train.stop_at': last, 'EVAL_PERIOD': 4}
    running = [zygote.start(half, OBJECTIVE, 8 // processes, processes=place, **more) for place in places]
    statuses = [run.wait() for run in running]
    assert statuses == [0] * processes, '\n'.join(run.said()[-2000:] for run in running)
  found = [row for row in runs.lines(half) if 'loss' in row]
  _assert_close(found, [row for row in whole if 'loss' in row])
  assert json.loads((half / 'done.json').read_text())['tokens_read'] == found[-1]['total_tokens']
