"""Resumed equals uninterrupted, bit for bit; no row is read twice or left out."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from test_gin_files import HOME, train
from unmask.launch import checkpoints, meters, metrics


def _state(model_dir):
  saved = checkpoints.Checkpoints(str(model_dir))
  step = saved.newest_sound()
  items = ocp.args.Composite(state=ocp.args.StandardRestore(), position=ocp.args.JsonRestore())
  state = saved._manager.restore(step, args=items)
  saved.close()
  return step, state.state, state.position


@pytest.mark.parametrize('objective', ['next_token', 'causal_masked', 'salient_span'])
def test_stop_and_resume_is_bit_equal(objective, default_task, tmp_path):
  files = ('gin/runs/pretrain.gin', f'gin/objectives/{objective}.gin')
  more = {
    'TRAIN_STEPS': 5,
    'BATCH_SIZE': 16,
    'EVAL_PERIOD': 2,
    'CHECKPOINT_PERIOD': 2,
    'train.log_period': 1,
    'train.microbatches': 2,
    **HOME,
  }
  assert train(tmp_path / 'whole', *files, **more) == 0
  assert train(tmp_path / 'parts', *files, **more, **{'train.stop_at': 3}) == 0
  assert not (tmp_path / 'parts' / 'done.json').exists()
  assert train(tmp_path / 'parts', *files, **more) == 0
  (step, whole, position), (other, parts, other_position) = _state(tmp_path / 'whole'), _state(tmp_path / 'parts')
  assert step == other == 5
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  timeless = lambda p: {key: value for key, value in p.items() if key != 'seconds'}
  assert timeless(position) == timeless(other_position)
  clean = lambda row: {k: v for k, v in row.items() if k not in meters.RATES}
  rows = {name: [clean(row) for row in metrics.read(str(tmp_path / name))] for name in ('whole', 'parts')}
  extra_eval = [row for row in rows['parts'] if row['step'] == 3 and 'eval/loss' in row]
  assert [row for row in rows['parts'] if row not in extra_eval] == rows['whole']


def test_a_finished_run_does_nothing_again(default_task, tmp_path, capsys):
  files = ('gin/runs/pretrain.gin', 'gin/objectives/mlm.gin')
  assert train(tmp_path / 'run', *files, **HOME) == 0
  before = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
  assert train(tmp_path / 'run', *files, **HOME) == 0
  assert 'is trained: 2 of 2 steps' in capsys.readouterr().out
  assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == before


def test_metrics_beyond_the_checkpoint_are_taken_back(tmp_path):
  writer = metrics.MetricsWriter(str(tmp_path), 0)
  for step in range(1, 5):
    writer.write(step, {'loss': float(step)})
  writer.close()
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 5, "lo')  # cut off by a crash
  writer = metrics.MetricsWriter(str(tmp_path), 2)
  writer.write(3, {'loss': 30.0})
  writer.close()
  assert [(row['step'], row['loss']) for row in metrics.read(str(tmp_path))] == [(1, 1.0), (2, 2.0), (3, 30.0)]
