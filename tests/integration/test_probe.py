"""`unmask probe` by its command: what it writes, what it does not do twice, and what it refuses."""

import json
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from test_bad_input import _refused
from test_gin_files import HOME, train
from unmask.launch import cli
from unmask.launch.probing import probe, tuning

SMALL = {
  'Grid.learning_rates': '[0.001, 0.01]',
  'Grid.updates': 2,
  'Grid.batch_size': 8,
  'Sizes.train': 24,
  'Sizes.dev': 16,
  'Sizes.test': 20,
}


def _probe(model_dir, **more) -> int:
  bindings = {f'--gin.{name}={value}' for name, value in (SMALL | more).items()}
  return cli.main(['probe', f'--model_dir={model_dir}', *bindings])


@pytest.fixture(scope='module')
def trained(default_task, tmp_path_factory) -> pathlib.Path:
  model_dir = tmp_path_factory.mktemp('probe') / 'mlm'
  assert train(model_dir, 'gin/runs/pretrain.gin', 'gin/objectives/mlm.gin', **HOME) == 0
  return model_dir


@pytest.fixture(scope='module')
def probed(trained) -> dict:
  assert _probe(trained) == 0
  return json.loads((trained / 'evaluation' / '2.json').read_text())


def test_both_probes_are_reported(probed, trained):
  assert (probed['checkpoint'], probed['sees'], probed['home']) == (2, 'left and right', 'masked')
  assert set(probed['tests']) == {'probe_topic', 'probe_span'}
  with np.load(trained / 'evaluation' / '2.npz') as arrays:
    for name, figure in (('probe_topic', 'accuracy'), ('probe_span', 'exact')):
      test = probed['tests'][name]
      assert (test['part'], test['kind'], test['items'], test['primary']['figure']) == ('probes', 'probe', 20, figure)
      assert 0 <= test['primary']['baseline'] < 1
      assert list(test['groups']['attention']) == ['bidirectional', 'causal']
      assert list(test['groups']['learning_rate']) == ['0.001', '0.01']
      assert list(test['groups']['start']) == ['pretrained', 'untrained']
      assert len(test['runs']) == 3 * (2 + 1)
      for key in ('right', 'cluster', 'seed'):
        assert arrays[f'{name}/{key}'].shape == (40,)
      assert arrays[f'{name}/right'].mean() == pytest.approx(test['figures'][figure])
      assert test['questions']['examples']['test'] == 20


def test_the_same_is_not_run_again(probed, trained, capfd, monkeypatch):
  before = (trained / 'evaluation' / '2.json').stat().st_mtime_ns
  runs = []
  run = probe.Prober.run
  monkeypatch.setattr(probe.Prober, 'run', lambda self, task, *rest: runs.append(task.name) or run(self, task, *rest))
  assert _probe(trained) == 0
  assert runs == []
  assert (trained / 'evaluation' / '2.json').stat().st_mtime_ns == before
  assert 'probe_topic' in capfd.readouterr().out
  assert _probe(trained, PROBES="['topic']", **{'Grid.untrained': False}) == 0
  assert runs == ['probe_topic']
  after = json.loads((trained / 'evaluation' / '2.json').read_text())
  assert after['tests']['probe_span'] == probed['tests']['probe_span']
  assert after['tests']['probe_topic']['asked'] != probed['tests']['probe_topic']['asked']


@pytest.mark.filterwarnings('ignore:Sharding info not provided')  # the file's own: the checkpoint is of this machine
def test_tuning_begins_with_the_checkpoints_weights(trained, monkeypatch):
  """What the tuner is given is what Orbax reads from the checkpoint by itself; the control is given something else."""
  given = []
  tune = tuning.Tuner.tune
  monkeypatch.setattr(
    tuning.Tuner, 'tune', lambda self, params, *rest: given.append(params) or tune(self, params, *rest)
  )
  assert _probe(trained, PROBES="['topic']", **{'Grid.seeds': 1, 'Sizes.test': 19}) == 0
  folder = trained / 'checkpoints' / '2' / 'state'
  stored = ocp.PyTreeCheckpointer().restore(folder)['params']
  leaves = [jax.tree.leaves(params) for params in (stored, given[0], given[2], given[-1])]
  assert len(given) == 3 * 2
  for kept, first, causal, control in zip(*leaves, strict=True):
    np.testing.assert_array_equal(kept, first)
    np.testing.assert_array_equal(kept, causal)
    if np.asarray(kept).std() > 1e-3:  # norms begin alike
      assert (np.asarray(kept) != np.asarray(control)).any()


@pytest.mark.parametrize(
  ('more', 'signs'),
  [
    ({'PROBES': "['topics']"}, ("no probe 'topics'", "'topic'", 'tfds:')),
    ({'PROBES': '[]'}, ('PROBES is empty',)),
    ({'PROBES': "'topic'"}, ('PROBES',)),
    ({'PROBES': "['tfds:no_such_set']"}, ("TFDS cannot give the probe 'no_such_set'",)),
    ({'Grid.updates': 0}, ('Grid.updates is 0',)),
    ({'Grid.learning_rates': '[]'}, ('Grid.learning_rates is []',)),
    ({'Grid.learning_rate': 0.1}, ('learning_rate',)),
    ({'Grid.attentions': "['both']"}, ('Grid.attentions',)),
    ({'Grid.batch_size': 12}, ('Grid.batch_size=12', '8 devices')),
    ({'Sizes.test': 0}, ('Sizes.test is 0',)),
    ({'Sizes.tset': 1}, ('tset',)),
  ],
)
def test_mistakes(trained, capfd, more, signs):
  kept = {path.name: path.read_bytes() for path in (trained / 'evaluation').glob('*')}
  _refused(capfd, _probe(trained, **more), *signs)
  assert {path.name: path.read_bytes() for path in (trained / 'evaluation').glob('*')} == kept


def test_no_model(tmp_path, capfd):
  _refused(capfd, _probe(tmp_path / 'nowhere'), 'is no trained model')
  _refused(capfd, cli.main(['probe']), '--model_dir')
