"""Axes, budgets, the choice of a learning rate and the division of devices, without a run."""

import io
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import pytest
import rich.console
from unmask import UserError
from unmask.launch.sweeping import axes, board, cells, engines, estimates, local, plans, shares, tuning
from unmask.launch.sweeping.budget import Budget

THREE = {'objective': ['mlm', 'meap'], 'rate': {'low': ['X = 1'], 'high': ['X = 2', 'Y = 3']}}


def _made(given, seeds=(0,), only=None, exclude=()):
  return [cells.Cell.of(choice, '/s', 'x', {}) for choice in axes.grid(axes.parse(given, seeds), only, exclude)]


def test_a_cell_is_named_by_what_it_varies():
  made = _made(THREE, seeds=[0, 7])
  assert [cell.name for cell in made] == [
    f'{objective}-rate{rate}-seed{seed}' for objective in ('mlm', 'meap') for rate in ('low', 'high') for seed in (0, 7)
  ]
  last = made[-1]
  assert last.row == 'meap-ratehigh'
  assert last.labels == {'objective': 'meap', 'rate': 'high', 'seed': 7}
  assert last.gin_files == ('gin/objectives/meap.gin',)
  assert last.lines == ('X = 2', 'Y = 3', 'SEED = 7')


def test_values_are_bound_to_the_axis_and_references_stay_references():
  lines = [cell.lines[0] for cell in _made({'TEXT': ['a', 'b.c'], 'n': [3]})]
  assert lines == ["TEXT = 'a'", "TEXT = 'b.c'"]
  option = axes.parse({'model': {'mine': '@config.DecoderConfig()'.join(['MODEL = ', ''])}}, [0])['model'][0]
  assert option == axes.Option('mine', lines=('MODEL = @config.DecoderConfig()',))
  with pytest.raises(UserError, match='no part of a directory'):
    axes.parse({'X': ['a/b']}, [0])


def test_lines_may_depend_on_the_objective():
  given = {'objective': ['mlm', 'meap'], 'rate': {'0.3': {'mlm': 'A.rate = 0.3', 'meap': ['B.rate = 0.3', 'C = 1']}}}
  assert [cell.lines[:-1] for cell in _made(given)] == [('A.rate = 0.3',), ('B.rate = 0.3', 'C = 1')]
  with pytest.raises(
    UserError, match=r"The option '0\.3' of the axis 'rate' is for mlm, meap; say what it is for mntp"
  ):
    _made(given | {'objective': ['mntp']})


def test_grids_that_are_no_product():
  only = [{'objective': 'mlm'}, {'objective': 'meap', 'rate': 'low'}]
  assert [cell.row for cell in _made(THREE, only=only)] == ['mlm-ratelow', 'mlm-ratehigh', 'meap-ratelow']
  exclude = [{'rate': 'high', 'objective': 'meap'}]
  assert _made(THREE, exclude=exclude) == _made(THREE, only=only)
  for entries, sign in (
    ([{'rat': 'low'}], "CELLS names the axis 'rat', which does not exist; AXES has objective, rate, seed"),
    ([{'rate': 'mid'}], "CELLS names 'mid' of the axis 'rate', which has low, high"),
  ):
    with pytest.raises(UserError, match=sign):
      _made(THREE, only=entries)
  with pytest.raises(UserError, match='leave no cell'):
    _made(THREE, exclude=[{}])


@pytest.mark.parametrize(
  ('given', 'seeds', 'sign'),
  [
    ({'objective': []}, [0], "The axis 'objective' is \\[\\]"),
    ({'objective': 'mlm'}, [0], "The axis 'objective' is 'mlm'"),
    ({'objective': ['mlm', 'mlm']}, [0], "'mlm' twice: the cells would share a directory"),
    ({'objective': ['mlm']}, [0, 0], "'seed' has 0 twice"),
    ({'objective': ['mlm']}, [-1], "'seed' has -1; a seed is a whole number"),
    ({'objective': ['mlm']}, [True], "'seed' has True"),
    ({'objective': ['mlm']}, [], "The axis 'seed' is \\[\\]"),
    ({'objective': ['mlm'], 'seed': [1]}, [0], 'give the seeds by SEEDS'),
    ({'a/b': [1]}, [0], "an axis 'a/b'"),
    ({'rate': {'x': ['MaskedLM.rate']}}, [0], "The option 'x' of the axis 'rate' holds 'MaskedLM.rate'"),
    ({'rate': {'x': [0.3]}}, [0], "The option 'x' of the axis 'rate' is \\[0.3\\]"),
  ],
)
def test_axes_that_make_no_sense(given, seeds, sign):
  with pytest.raises(UserError, match=sign):
    axes.parse(given, seeds)


def test_cells_that_share_a_directory():
  made = _made({'a': {'b1': 'X = 1'}, 'c': {'2': 'Y = 2'}}) + _made({'a': {'b1-c2': 'Z = 3'}})
  with pytest.raises(UserError, match='/s/ab1-c2-seed0: a=b1, c=2, seed=0 and a=b1-c2, seed=0'):
    cells.check_apart(made)


@hypothesis.given(
  st.dictionaries(
    st.from_regex(r'[a-z]{1,3}', fullmatch=True).filter(lambda axis: axis not in axes.FOLDERS),
    st.lists(st.from_regex(r'[a-z0-9.-]{1,3}', fullmatch=True), min_size=1, max_size=3, unique=True),
    max_size=3,
  ),
  st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_every_combination_once_and_none_in_anothers_directory(given, seeds):
  made = _made({axis: {label: [f'X = {label!r}'] for label in labels} for axis, labels in given.items()}, seeds)
  assert len({tuple(cell.labels.items()) for cell in made}) == len(made)
  apart = len({cell.model_dir for cell in made}) == len(made)
  if apart:
    cells.check_apart(made)
  else:
    with pytest.raises(UserError, match='share the directory'):
      cells.check_apart(made)
  shown = engines.names([cell.name for cell in made]) if apart else []
  assert len(set(shown)) == len(shown)
  assert all(name[0].isalpha() and name[-1] != '-' and len(name) <= 45 for name in shown)


def test_budgets():
  assert Budget.parse(None).steps(own=7, tokens=100, flops=None) == 7
  assert Budget.parse({'tokens': 3e6}).steps(7, tokens=2048, flops=None) == round(3e6 / 2048)
  assert Budget.parse({'flops': 1e9}).steps(7, tokens=1, flops=3e8) == 3
  assert Budget.parse({'tokens': 1}).steps(7, tokens=100, flops=None) == 1
  for wrong in ({}, {'token': 1}, {'tokens': 0}, {'tokens': True}, {'tokens': 1, 'flops': 1}, {'tokens': float('inf')}):
    with pytest.raises(UserError, match='BUDGET'):
      Budget.parse(wrong)
  with pytest.raises(UserError, match='size of the vocabulary'):
    Budget.parse({'flops': 1e9}).steps(7, tokens=1, flops=None)


def test_the_best_learning_rate():
  assert tuning.best({1e-3: 5.0, 3e-3: 4.0, 1e-2: 4.5}) == 3e-3
  assert tuning.best({1e-3: 5.0, 3e-3: float('nan'), 1e-2: None}) == 1e-3
  assert tuning.best({3e-3: 4.0, 1e-3: 4.0}) == 1e-3
  assert tuning.best({1e-3: None}) is None
  for rates, share, seed, sign in (
    ([1e-3], 0.2, 9, 'two or more'),
    ([1e-3, -1], 0.2, 9, 'above 0'),
    ([1e-3, 1e-2], 0.0, 9, 'tuning_share is 0.0'),
    ([1e-3, 1e-2], 0.2, 1, 'tuning_seed is 1, which is judged too'),
  ):
    with pytest.raises(UserError, match=sign):
      tuning.Search.parse(rates, share, seed, [0, 1])


@pytest.mark.parametrize(('losses', 'best', 'edge'), [((5, 4, 5), 3e-3, False), ((3, 4, 5), 1e-3, True)])
def test_a_best_rate_at_the_edge_of_the_grid_is_said(losses, best, edge, tmp_path):
  rates, tries = (1e-3, 3e-3, 1e-2), {}
  for rate, loss in zip(rates, losses, strict=True):
    cell = cells.Cell(row='mlm', options={}, model_dir=str(tmp_path / str(rate)), shared={})
    pathlib.Path(cell.model_dir).mkdir()
    (tmp_path / str(rate) / 'done.json').write_text('{}')
    (tmp_path / str(rate) / 'metrics.jsonl').write_text(json.dumps({'step': 4, 'eval/loss': loss}) + '\n')
    how = {'command': (), 'train_steps': 4, 'update_tokens': 64, 'update_flops': None, 'learning_rate': rate}
    tries[rate] = plans.Plan(cell=cell, facts={}, **how)
  found = tuning.result(tuning.Search(rates=rates), tries)
  assert (found['value'], found['edge']) == (best, edge)
  assert ('at the edge of the grid' in tuning.told('mlm', found)) == edge


def test_devices_are_divided():
  gpus = shares.Machine('gpu', 8, 'H100', 1e15)
  made = shares.divide(2, gpus, range(16), {})
  assert [share.environment for share in made] == [
    {'CUDA_VISIBLE_DEVICES': '0,1,2,3'},
    {'CUDA_VISIBLE_DEVICES': '4,5,6,7'},
  ]
  assert [share.cores for share in made] == [frozenset(range(8)), frozenset(range(8, 16))]
  named = shares.divide(3, shares.Machine('gpu', 3, 'H100', 1e15), range(16), {'CUDA_VISIBLE_DEVICES': '5,2,GPU-7'})
  assert [share.environment['CUDA_VISIBLE_DEVICES'] for share in named] == ['5', '2', 'GPU-7']
  tpu = shares.divide(2, shares.Machine('tpu', 8, 'TPU v5 lite', 1e15), range(4), {})
  assert tpu[1].environment == {
    'TPU_CHIPS_PER_PROCESS_BOUNDS': '2,2,1',
    'TPU_PROCESS_BOUNDS': '1,1,1',
    'TPU_VISIBLE_CHIPS': '4,5,6,7',
  }
  assert [share.cores for share in shares.divide(2, shares.Machine('cpu', 1, 'cpu', 1e11), [3, 1, 2], {})] == [
    frozenset([1]),
    frozenset([2]),
  ]
  assert shares.divide(1, gpus, range(16), {}) == [shares.Share()]


@pytest.mark.parametrize(
  ('parallel', 'machine', 'sign'),
  [
    (3, shares.Machine('cpu', 8, 'cpu', 1e11), 'there are 2 cores'),
    (3, shares.Machine('gpu', 2, 'H100', 1e15), 'there are 2 devices'),
    (2, shares.Machine('tpu', 6, 'TPU v4', 1e15), 'not 3'),
  ],
)
def test_devices_that_cannot_be_divided(parallel, machine, sign):
  with pytest.raises(UserError, match=sign):
    shares.divide(parallel, machine, [0, 1], {})


def test_times_are_spoken():
  spoken = [estimates.spoken(seconds) for seconds in (None, 7.6, 200, 7500)]
  assert spoken == ['?', '8 s', '3 min 20 s', '2 h 05 min']


def test_the_last_line_of_a_log(tmp_path):
  log = tmp_path / 'train.log'
  assert local.last_line(str(log)) == ''
  log.write_text('first\nbar 1%\rbar 2%\nunmask: MODEL_DIR is full.\n\n')
  assert local.last_line(str(log)) == 'MODEL_DIR is full.'
  assert local.why(-9, 'bar 2%') == 'killed by SIGKILL (out of memory?); it last printed: bar 2%'


def _board(tmp_path) -> board.Board:
  cells_made = [cells.Cell.of(choice, str(tmp_path), 'x', {}) for choice in axes.grid(axes.parse(THREE, [0]), None, [])]
  facts = {'command': (), 'train_steps': 600, 'update_tokens': 1000, 'update_flops': 1e9, 'learning_rate': 1e-3}
  return board.Board('three', [plans.Plan(cell=cell, facts={}, **facts) for cell in cells_made])


def test_the_table_says_how_far_a_cell_is(tmp_path):
  made = _board(tmp_path)
  first, second, *_ = (row.plan for row in made.rows.values())
  folder = pathlib.Path(first.cell.model_dir)
  folder.mkdir(parents=True)
  cut = '{"step": 1, "loss": 9.0, "tok'
  lines = [{'step': 90, 'loss': 7.5, 'tokens_per_second': 5000.0}, {'step': 100, 'eval/loss': 7.25}]
  (folder / 'metrics.jsonl').write_text('x' * 9000 + '\n' + ''.join(json.dumps(line) + '\n' for line in lines) + cut)
  made.to(first, 'running')
  made.to(second, 'failed')
  shown = io.StringIO()
  rich.console.Console(file=shown, width=120).print(made.table())
  row = next(line for line in shown.getvalue().split('\n') if first.cell.name in line)
  assert [part.strip() for part in row.split('│')[1:-1]] == [
    'mlm-ratelow-seed0',
    'running',
    '100/600',
    '7.500',
    '5,000',
    '1 min 40 s',  # 500 updates of 1,000 tokens
  ]
  assert 'failed' in shown.getvalue()
  assert made.rows[
    first.cell.model_dir
  ].line() == f'{first.cell.name}: running, 100 of 600, loss 7.500, 5,000 tokens/s, ' + ('1 min 40 s left')
