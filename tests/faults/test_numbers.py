"""A loss that is not finite stops the run before it does harm, or is skipped; what is needed to see why is kept."""

import json

import numpy as np
import pytest
import runs

SETTINGS = {'TRAIN_STEPS': 12, 'CHECKPOINT_PERIOD': 4}
BAD = 7  # the update whose batch is broken


@pytest.fixture(scope='module')
def whole(zygote, tmp_path_factory):
  """A run of which nothing is broken, and the ids of the examples of update BAD."""
  folder = tmp_path_factory.mktemp('whole')
  zygote.train(folder, **SETTINGS)
  replay = zygote.command(['replay', f'--model_dir={folder}', f'--step={BAD}', '--rows=0'])
  assert replay.wait() == 0, replay.said()
  return folder, _ids(replay.said())


def _ids(said: str) -> list[int]:
  (line,) = [line for line in said.splitlines() if line.startswith('examples ')]
  return [int(number) for number in line.removeprefix('examples ').split(',')]


def objective(folder, **fields) -> str:
  """A gin file with the objective of `broken_rows`."""
  bindings = ''.join(f'broken_rows.Broken.{name} = {value!r}\n' for name, value in fields.items())
  imports = 'from __gin__ import dynamic_registration\nimport broken_rows\n'
  (folder / 'broken.gin').write_text(f'{imports}OBJECTIVE = @broken_rows.Broken()\n{bindings}')
  return str(folder / 'broken.gin')


def _report(model_dir, kind: str, update: int) -> tuple[dict, dict]:
  folder = model_dir / 'anomalies' / f'{kind}-{update:08d}'
  with np.load(folder / 'batch-0.npz', allow_pickle=False) as batch:
    return json.loads((folder / 'report.json').read_text()), dict(batch)


def test_a_broken_update_stops_the_run_before_it(whole, zygote, tmp_path):
  clean, ids = whole
  bad = objective(tmp_path, rows=(ids[3],), weight=1e39)  # infinite as a float32
  model_dir = tmp_path / 'run'
  said = zygote.train(model_dir, files=(bad,), expect=2, **SETTINGS)
  assert f'Update {BAD} is not finite' in said
  assert 'Traceback' not in said
  assert runs.steps(model_dir)[-1] == BAD - 1  # nothing is lost: this is the state that the update met
  report, batch = _report(model_dir, 'nonfinite', BAD)
  assert report['step'] == BAD
  assert report['example_ids'] == batch['example_id'].tolist() == ids
  assert report['first_bad_tensor'].startswith('loss cross_entropy')
  assert not np.isfinite(np.load(model_dir / 'anomalies' / f'nonfinite-{BAD:08d}' / 'first_bad_tensor.npy')).all()
  assert runs.lines(model_dir) == [row for row in runs.lines(clean) if row['step'] < BAD]
  replay = zygote.command(['replay', f'--model_dir={model_dir}', f'--step={BAD}'])
  assert replay.wait() == 0, replay.said()
  assert f'update {BAD}, from checkpoint {BAD - 1} on' in replay.said()
  assert _ids(replay.said()) == ids
  assert 'loss cross_entropy' in replay.said()
  (loss,) = [line for line in replay.said().splitlines() if line.startswith('  loss ')]
  assert loss.endswith('as the run had it')


def test_a_broken_update_is_skipped_if_wanted(whole, zygote, tmp_path):
  clean, ids = whole
  bad = objective(tmp_path, rows=(ids[3],), weight=1e39)
  model_dir = tmp_path / 'run'
  more = SETTINGS | {'AnomalyPolicy.nonfinite': 'skip'}
  said = zygote.train(model_dir, files=(bad,), **more)
  assert f'update {BAD} is not finite' in said
  assert 'skipped' in said
  found, expected = runs.lines(model_dir), runs.lines(clean)
  assert [row['step'] for row in found if 'loss' in row] == [n for n in range(1, 13) if n != BAD]
  assert [row for row in found if row['step'] < BAD] == [row for row in expected if row['step'] < BAD]
  assert [row['total_tokens'] for row in found if row['step'] == 12 and 'loss' in row] == [
    row['total_tokens'] for row in expected if row['step'] == 12 and 'loss' in row
  ]  # it was read
  # Stopped and resumed around it, the run is the same to the bit.
  zygote.train(tmp_path / 'parts', files=(bad,), **more | {'train.stop_at': BAD + 1})
  zygote.train(tmp_path / 'parts', files=(bad,), **more)
  (step, state, position), (_, other, other_position) = runs.final(model_dir), runs.final(tmp_path / 'parts')
  assert step == 12
  assert position == other_position
  for name, leaf in state.items():
    np.testing.assert_array_equal(leaf, other[name], err_msg=name)


def test_many_in_a_row_end_a_run_that_skips(zygote, tmp_path):
  more = {'LEARNING_RATE': 1e30, 'AnomalyPolicy.nonfinite': 'skip', 'AnomalyPolicy.most_skipped': 3}
  said = zygote.train(tmp_path, expect=2, **SETTINGS | more)
  assert said.count(': skipped;') == 3
  assert 'after 3 others in a row: the run is stopped' in said


def test_a_spike_is_told_with_its_examples(whole, zygote, tmp_path):
  update = 40
  settings = {'TRAIN_STEPS': 45, 'LEARNING_RATE': 0.02}
  zygote.train(tmp_path / 'clean', **settings)
  replay = zygote.command(['replay', f'--model_dir={tmp_path / "clean"}', f'--step={update}', '--rows=0'])
  assert replay.wait() == 0, replay.said()
  ids = _ids(replay.said())
  bad = objective(tmp_path, rows=tuple(ids), target=300)
  said = zygote.train(
    tmp_path / 'run', files=(bad,), **settings | {'AnomalyPolicy.window': 20, 'AnomalyPolicy.spike': 4.0}
  )
  assert f'update {update}: the loss jumped to ' in said
  report, batch = _report(tmp_path / 'run', 'spike', update)
  assert report['example_ids'] == batch['example_id'].tolist() == ids
  assert report['loss'] > report['usual']['mean'] + 4 * report['usual']['standard_deviation']
  assert not list((tmp_path / 'clean').glob('anomalies/*'))


def test_replay_of_what_never_was(whole, zygote, tmp_path):
  for argv, sign in (
    ([f'--model_dir={whole[0]}', '--step=13'], 'it has updates 1 to 12'),
    ([f'--model_dir={whole[0]}', '--step=x'], 'invalid int value'),
    ([f'--model_dir={tmp_path}', '--step=1'], 'is no trained model'),
  ):
    run = zygote.command(['replay', *argv])
    assert run.wait() == 2
    assert sign in run.said()
    assert 'Traceback' not in run.said()
