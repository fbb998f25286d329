"""`unmask evaluate` on trained models: what is kept, what is asked anew, which checkpoint, and what is wrong."""

import json
import pathlib
import shutil
import types
from typing import Any

import numpy as np
import pytest
from test_gin_files import HOME, SHRINK
from unmask.launch import cli
from unmask.launch.sweeping import grid

FEW = {
  'LeftToRight.gaps': 16,
  'Masked.segments': 4,
  'Infill.gaps': '{1: 8, 3: 4}',
  'EntityCloze.spans': 6,
  'CollocationCloze.units': 6,
  'KeyValue.per_cell': 1,
  'Needle.per_cell': 1,
  'MultiDocument.per_cell': 1,
  'EntityTracking.stories': 8,
  'evaluate.batch_size': 8,
}


def _train(folder: pathlib.Path, objective: str) -> pathlib.Path:
  bindings = SHRINK | HOME | {'MODEL_DIR': str(folder), 'TRAIN_STEPS': 4, 'CHECKPOINT_PERIOD': 2}
  files = ['gin/runs/pretrain.gin', f'gin/objectives/{objective}.gin']
  given = [*(f'--gin_file={file}' for file in files), *(f'--gin.{name}={value}' for name, value in bindings.items())]
  assert cli.main(['train', *given]) == 0
  return folder


@pytest.fixture(scope='module')
def trained(default_task, tmp_path_factory) -> dict[str, pathlib.Path]:
  folder = tmp_path_factory.mktemp('trained')
  return {name: _train(folder / name, name) for name in ('mlm', 'mntp', 'electra')}


@pytest.fixture
def model(trained, tmp_path) -> pathlib.Path:
  return shutil.copytree(trained['mlm'], tmp_path / 'mlm')


@pytest.fixture
def blimp(tmp_path) -> str:
  (tmp_path / 'blimp').mkdir()
  pairs = [
    {
      'sentence_good': f'The cats near the {name} sleep.',
      'sentence_bad': f'The cats near the {name} sleeps.',
      'field': 'morphology',
      'linguistics_term': 'agreement',
      'UID': 'distractor',
    }
    for name in ('house', 'tree', 'river')
  ]
  (tmp_path / 'blimp' / 'distractor.jsonl').write_text('\n'.join(map(json.dumps, pairs)))
  return str(tmp_path / 'blimp')


def _evaluate(*models: pathlib.Path, flags=(), **more) -> int:
  given = [f'--gin.{name}={value}' for name, value in (FEW | more).items()]
  return cli.main(['evaluate', *(f'--model_dir={model}' for model in models), *flags, *given])


def _read(model: pathlib.Path, step: int = 4) -> dict:
  return json.loads((model / 'evaluation' / f'{step}.json').read_text())


def test_what_it_writes(model, blimp, capsys):
  assert _evaluate(model, BLIMP=blimp) == 0
  found = _read(model)
  assert (found['checkpoint'], found['sees'], found['home']) == (4, 'left and right', 'masked')
  assert {'left_to_right', 'masked_salient', 'infill_3', 'entity_cloze', 'key_value', 'blimp'} <= set(found['tests'])
  assert 'blimp_causal' not in found['tests']
  shown = capsys.readouterr().out
  with np.load(model / 'evaluation' / '4.npz') as arrays:
    for name, test in found['tests'].items():
      assert f'  {name} ' in shown
      expected = {'nll', 'tokens', 'exact', 'gaps'} if test['kind'] == 'gaps' else {'right', 'reciprocal_rank'}
      for array in expected | {'cluster'}:
        assert arrays[f'{name}/{array}'].shape == (test['items'],)
      assert test['primary']['figure'] in test['figures']
      assert test['overlap'] is not None
      if test['kind'] == 'gaps':
        loss = arrays[f'{name}/nll'].sum() / arrays[f'{name}/tokens'].sum()
        assert test['figures']['loss'] == pytest.approx(loss)
      else:
        assert test['figures']['accuracy'] == pytest.approx(arrays[f'{name}/right'].mean())
  assert set(found['tests']['blimp']['groups']) == {'phenomenon', 'field', 'set'}
  assert {'32|0.00', '64|1.00'} <= set(found['tests']['key_value']['groups']['length_depth'])


def test_a_shifted_masked_model_is_scored_both_ways(trained, blimp):
  assert _evaluate(trained['mntp'], BLIMP=blimp) == 0
  assert {'blimp', 'blimp_causal'} <= set(_read(trained['mntp'])['tests'])


def test_an_unchanged_test_is_not_asked_again(model, blimp, monkeypatch, capsys):
  from unmask.launch.judging import judge

  asked = []
  ask = judge.Judge.ask
  monkeypatch.setattr(
    judge.Judge, 'ask', lambda self, tests, *rest: asked.append([t.name for t in tests]) or ask(self, tests, *rest)
  )
  assert _evaluate(model) == 0
  assert '--gin.BLIMP=FOLDER' in capsys.readouterr().err
  before = (model / 'evaluation' / '4.json').read_bytes()
  assert _evaluate(model) == 0
  assert (model / 'evaluation' / '4.json').read_bytes() == before
  assert _evaluate(model, BLIMP=blimp) == 0
  assert _evaluate(model, BLIMP=blimp, **{'LeftToRight.gaps': 8}) == 0
  assert [len(names) > 8 for names in asked] == [True, False, False]
  assert asked[1:] == [['blimp'], ['left_to_right']]
  after = _read(model)['tests']
  for name, test in json.loads(before)['tests'].items():
    assert name == 'left_to_right' or after[name] == test


def test_another_checkpoint(model, capsys):
  assert _evaluate(model, flags=['--step=2']) == 0
  assert 'checkpoint 2,' in capsys.readouterr().out
  assert _evaluate(model) == 0
  assert _read(model, 2)['checkpoint'] == 2
  assert _read(model, 4)['checkpoint'] == 4
  losses = [_read(model, step)['tests']['masked_token']['figures']['loss'] for step in (2, 4)]
  assert losses[0] != losses[1]
  assert _evaluate(model, flags=['--step=3']) == 2
  assert 'There is no checkpoint 3 in ' in (said := capsys.readouterr().err)
  assert 'there are 2, 4.' in said


def _damage(model: pathlib.Path, step: int) -> None:
  largest = max((model / 'checkpoints' / str(step)).rglob('*'), key=lambda path: path.is_file() and path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-7])


def test_checkpoints_that_are_missing_or_damaged(model, trained, tmp_path, capsys):
  _damage(model, 4)
  assert _evaluate(model, flags=['--step=4']) == 2
  assert 'Checkpoint 4 in ' in (said := capsys.readouterr().err)
  assert 'is damaged (' in said
  assert _evaluate(model) == 0  # the one before it
  assert 'checkpoint 2,' in capsys.readouterr().out
  _damage(model, 2)
  assert _evaluate(model) == 2
  assert 'Every checkpoint in ' in capsys.readouterr().err
  shutil.rmtree(model / 'checkpoints')
  other = shutil.copytree(trained['mlm'], tmp_path / 'other')
  assert _evaluate(model, other) == 2  # the other is judged
  said = capsys.readouterr()
  assert 'There are no checkpoints in ' in said.err
  assert '1 of 2 models could not be judged' in said.err
  assert f'{other}, checkpoint 4,' in said.out
  assert 'Traceback' not in said.err


def test_what_overlaps_is_refused_or_dropped(model, capsys):
  assert _evaluate(model, OVERLAP='refuse', **{'LeftToRight.gaps': 400}) == 2
  assert 'words in a row with the training text' in capsys.readouterr().err
  assert not (model / 'evaluation').exists()
  assert _evaluate(model, OVERLAP='drop', **{'LeftToRight.gaps': 400}) == 0
  assert 'items that stand in the training text are dropped' in capsys.readouterr().err
  test = _read(model)['tests']['left_to_right']
  assert test['items'] < 400
  assert test['overlap'] == 0.0


@pytest.mark.parametrize(
  ('more', 'sign'),
  [
    ({'BLIMP': '/nowhere/at/all'}, "Blimp.path='/nowhere/at/all' cannot be read"),
    ({'OVERLAP': 'perhaps'}, 'Overlap.action'),
    ({'LeftToRight.gaps': 0}, 'LeftToRight.gaps is 0'),
    ({'LeftToRight.gap': 5}, 'gap'),
    ({'TESTS': '[3]'}, 'TESTS'),
  ],
)
def test_settings_that_are_wrong(more, sign, model, capsys):
  assert _evaluate(model, **more) == 2
  said = capsys.readouterr().err
  assert sign in said
  assert 'Traceback' not in said
  assert not (model / 'evaluation').exists()


def test_the_full_suite_is_more_of_the_same(model):
  """Of each kind of question a few, by the file that ships."""
  assert _evaluate(model, flags=['--gin_file=gin/evaluations/full.gin']) == 0
  assert 'left_to_right' in _read(model)['tests']


def test_every_model_is_asked_for_vectors(trained, tmp_path, capsys):
  """Those too that have no scorer: the same questions, kept, and a column of the report."""
  models = [shutil.copytree(trained[name], tmp_path / name) for name in ('mlm', 'electra')]
  flags = [*(f'--model_dir={model}' for model in models), '--gin.TESTS=[%EMBEDDING]', '--gin.PassageHalves.passages=40']
  assert cli.main(['evaluate', *flags]) == 0
  said = capsys.readouterr()
  assert f'{models[1]} is asked for vectors of texts alone: Electra has no scorer' in said.err
  shown = [line for line in said.out.splitlines() if 'passage_halves' in line]
  assert len(shown) == 2
  assert all('(chance 5.0%)  mrr 0.' in line for line in shown)
  found = [_read(model)['tests'] for model in models]
  assert [list(tests) for tests in found] == [['passage_halves']] * 2
  for model, tests in zip(models, found, strict=True):
    test = tests['passage_halves']
    assert (test['items'], test['asked']) == (40, found[0]['passage_halves']['asked'])
    with np.load(model / 'evaluation' / '4.npz') as arrays:
      for figure, array in (('accuracy', 'right'), ('mrr', 'reciprocal_rank')):
        assert test['figures'][figure] == pytest.approx(arrays[f'passage_halves/{array}'].mean())
  before = [(model / 'evaluation' / '4.npz').stat().st_mtime_ns for model in models]
  assert cli.main(['evaluate', *flags]) == 0
  assert [(model / 'evaluation' / '4.npz').stat().st_mtime_ns for model in models] == before
  assert cli.main(['report', *flags[:2], f'--out={tmp_path / "report"}']) == 0
  assert 'Halves of a passage, by vectors' in (tmp_path / 'report' / 'report.md').read_text()


def test_a_model_without_a_scorer_is_asked_nothing_else(trained, capsys):
  assert _evaluate(trained['electra']) == 0
  assert 'is asked nothing: Electra has no scorer' in capsys.readouterr().err
  assert not (trained['electra'] / 'evaluation').exists()


def test_a_sweep_is_reported_without_those_that_have_no_scorer(trained, tmp_path, capfd):
  """They are named; where no cell has one, there is no report and nothing has failed."""
  models = [shutil.copytree(trained[name], tmp_path / f'{name}-seed0') for name in ('electra', 'mlm')]
  lines = [f'{name} = {value}' for name, value in FEW.items()]

  def judged(*cells: pathlib.Path) -> str:
    plans = [
      types.SimpleNamespace(cell=types.SimpleNamespace(trained=True, step=lambda: 4, model_dir=str(m))) for m in cells
    ]
    swept: Any = types.SimpleNamespace(plans=plans, search_paths=['.'], sweep_dir=str(tmp_path))
    assert grid.Grid.judge(swept, lines, None) == []
    return capfd.readouterr().out

  assert 'There is nothing to report: no objective of these has a scorer.' in judged(models[0])
  assert not (tmp_path / 'report.md').exists()
  said = judged(*models)
  assert 'note: 1 cell is not in this report: electra-seed0 (not judged: its objective has no scorer).' in said
  assert '| mlm' in (tmp_path / 'report.md').read_text()
