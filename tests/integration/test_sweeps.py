"""Every shipped sweep, shrunk: its cells are trained two updates each and differ as they should; what is refused."""

import json
import pathlib
import re
from collections.abc import Sequence

import pytest
import runs
import virtual_devices
from test_gin_files import HOME, NEED_MORE, SHRINK, names
from unmask.launch import cli, config, flags, loop
from unmask.launch.sweeping import runner
from unmask.launch.sweeping.plans import Plan

SETTINGS = SHRINK | HOME
LINES = [
  f'{name} = {value if isinstance(value, int) or value[0] == "{" else repr(value)}' for name, value in SETTINGS.items()
]

LONGER = [*LINES, 'TRAIN_STEPS = 6']  # for stages


@pytest.fixture(autouse=True)
def nothing_stays_bound():
  """Cells are bound in this process; whatever test comes next begins without them."""
  yield
  config.load([], [])


class Forked:
  """An engine that forks its cells from a process that has imported everything: what is tested are the cells."""

  def __init__(self, zygote: runs.Zygote):
    self._zygote = zygote
    self.statuses: dict[str, int] = {}

  def check(self, sweep_dir: str) -> None:
    """Every place will do."""

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    """Trains them one after another."""
    self.statuses |= {one.cell.model_dir: self._trained(one) for one in plans}

  def _trained(self, plan: Plan) -> int:
    quick = {'XLA_FLAGS': virtual_devices.flags(1)}
    return self._zygote.command(['train', *plan.command], environment=quick).wait()


class _Kept:
  """An engine that keeps what it is to write."""

  plans: Sequence[Plan] = ()

  def check(self, sweep_dir: str) -> None:
    """Every place will do."""

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    self.plans = plans


def _planned(name: str, folder: pathlib.Path) -> Sequence[Plan]:
  """The cells of a shipped sweep."""
  kept = _Kept()
  config.load([f'gin/sweeps/{name}.gin'], [f'SWEEP_DIR = {str(folder)!r}', f'BINDINGS = {LONGER!r}'])
  assert config.call(runner.sweep, options=runner.Options(engine=kept)) == 0
  return kept.plans


def _trained(zygote, name: str, folder: pathlib.Path, *more: str, lines: Sequence[str] = LINES) -> dict[str, dict]:
  """Runs a shipped sweep; what the realised figures and 'cell.json' of each cell say, by row."""
  bindings = [f'SWEEP_DIR = {str(folder)!r}', f'BINDINGS = {list(lines)!r}', *more]
  here = Forked(zygote)
  config.load([f'gin/sweeps/{name}.gin'], bindings)
  assert config.call(runner.sweep, options=runner.Options(engine=here)) == 0
  assert set(here.statuses.values()) == {0}
  found = {}
  for model_dir in map(pathlib.Path, here.statuses):
    read = lambda file, at=model_dir: json.loads((at / file).read_text())
    assert (model_dir / 'done.json').exists()
    cell = read('cell.json')
    if model_dir.parent == folder:  # not a try of a search
      assert model_dir.name == f'{cell["name"]}-seed{cell["axes"]["seed"]}'
    found[cell['name']] = read('realised.json') | {'cell': cell, 'model': read('model.json')}
  return found


def _as_labelled(found: dict[str, dict], figure: str, axis: str, within: float) -> None:
  for name, one in found.items():
    assert one[figure] == pytest.approx(float(one['cell']['axes'][axis]), abs=within), name


def _masking_rate(found):
  assert len(found) == 4
  _as_labelled(found, 'corrupted', 'rate', 0.02)


def _meap_ratio(found):
  assert len(found) == 2
  _as_labelled(found, 'corrupted', 'ratio', 0.02)
  assert found['meap-ratio0.00']['corrupted'] == 0


def _mlm_or_mntp(found):
  assert len(found) == 2
  _as_labelled(found, 'corrupted', 'rate', 0.02)
  assert {name: 'shifted=True' in one['model']['objective'] for name, one in found.items()} == {
    name: name.startswith('mntp') for name in found
  }


def _causal_masked_untouched(found):
  assert len(found) == 2
  _as_labelled(found, 'untouched', 'untouched', 0.08)


def _salient_or_random(found):
  assert set(found) == {'salient_span_budget', 'random_span', 'mlm'}
  assert found['random_span']['corrupted'] == pytest.approx(0.15, abs=0.02)
  assert found['mlm']['corrupted'] == pytest.approx(0.15, abs=0.02)
  assert 0.05 < found['salient_span_budget']['corrupted'] <= 0.17  # no more than there is to mask


# All are trained in tests/faults/test_exact_resume.py; here, beside each other, those whose forms differ most.
SMOKE = ['bottleneck', 'masked_diffusion', 'electra', 'antlm']


def _family(found):
  assert set(found) == set(SMOKE)
  assert found['masked_diffusion']['corrupted'] == pytest.approx(0.5, abs=0.1)
  assert all(one['supervised'] > 0 for one in found.values())


# Of each shipped sweep how many cells it has, and which of them are trained here.
SHIPPED = {
  'masking_rate': (9, [{'objective': 'mlm', 'rate': '0.15'}, {'rate': '0.40'}]),
  'meap_ratio': (5, [{'ratio': '0.00'}, {'ratio': '0.20'}]),
  'mlm_or_mntp': (4, [{'rate': '0.20'}]),
  'causal_masked_untouched': (4, [{'untouched': '0.00'}, {'untouched': '0.75'}]),
  'salient_or_random': (3, None),
  'family': (len(names('objectives')) - len(NEED_MORE), [{'objective': name} for name in SMOKE]),
}


# See test_road, test_architecture_grid, and the chains below.
ELSEWHERE = {'core', 'core_3M', 'architecture_objective', 'guided_masking'}


def test_every_sweep_is_known():
  assert set(SHIPPED) | ELSEWHERE == set(names('sweeps'))


@pytest.mark.parametrize('name', SHIPPED)
def test_every_cell_of_a_shipped_sweep_is_as_labelled(name, tmp_path):
  """What its command binds; no cell is trained."""
  plans = _planned(name, tmp_path)
  assert len(plans) == SHIPPED[name][0]
  for plan in plans:
    options = flags.parse(flags.parser('train', ''), plan.command)
    config.load(options.gin_file, options.gin_bindings)
    objective = config.bound(loop.train)['objective']
    axes = plan.cell.labels
    assert options.gin_file[-1] == f'gin/objectives/{axes["objective"]}.gin'
    for axis, setting in (('rate', 'rate'), ('ratio', 'rate'), ('untouched', 'p_untouched')):
      assert axis not in axes or getattr(objective, setting) == float(axes[axis])


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_sweep(name, zygote, tmp_path):
  lines = LONGER if name == 'family' else LINES
  found = _trained(zygote, name, tmp_path, f'CELLS = {SHIPPED[name][1]}', lines=lines)
  globals()[f'_{name}'](found)
  own = ('objective', 'left_to_right', 'seed')
  alike = [{k: v for k, v in one['model'].items() if k not in own} for one in found.values()]
  assert all(one == alike[0] for one in alike), 'not the same corpus, vocabulary, model and optimizer'


def test_a_chain_of_cells_from_pretraining_to_prompts(zygote, tmp_path):
  """Span corruption, adapted to next-token prediction, then fine-tuned on prompts: each when the one before is done."""
  cells = {'objective': 'span_corruption', 'decoder': 'non_causal'}
  more = (
    f'CELLS = [{cells | {"adapted": "no", "tuned": "no"}}, {cells | {"adapted": "lm"}}]',
    "ADAPT = 'TRAIN_STEPS = 2'",
    "TUNE = 'TRAIN_STEPS = 2'",
  )
  chain = [f'span_corruption-decodernon_causal-{stage}' for stage in ('adaptedno-tunedno', 'adaptedlm-tunedno')]
  chain.append('span_corruption-decodernon_causal-adaptedlm-tunedprompts')
  begun = [_trained(zygote, 'architecture_objective', tmp_path, *more) for _ in chain]
  assert [list(one) for one in begun] == [[name] for name in chain]
  places = [f'{tmp_path}/{name}-seed0' for name in chain]
  for (found,), start in zip((one.values() for one in begun), [None, *places], strict=False):
    assert found['model']['initial_weights'] == start
    assert found['cell']['settings'].get('start') == (start and start.rpartition('/')[2])
    assert found['supervised'] > 0
  objectives = [one[name]['model']['objective'].partition('(')[0] for one, name in zip(begun, chain, strict=True)]
  assert objectives == ['SpanCorruption', 'NextToken', 'AnswersOnly']
  assert 'levels' not in begun[2][chain[2]]['model']['objective']
  # The judge asks the last two the same held-out prompts.
  flags = [f'--model_dir={place}' for place in places[1:]]
  assert cli.main(['evaluate', *flags, '--gin.TESTS=[%PROMPTED]', '--gin.Prompted.each=4']) == 0
  read = [json.loads((pathlib.Path(place) / 'evaluation' / '2.json').read_text())['tests'] for place in places[1:]]
  assert [list(tests) for tests in read] == [['prompted']] * 2
  assert read[0]['prompted']['asked'] == read[1]['prompted']['asked']
  assert read[0]['prompted']['items'] > 4


def test_a_cell_has_another_for_its_scorer(zygote, tmp_path):
  """Its own weights are random; what it is told is where the other is, of its own seed."""
  more = ("CELLS = [{'objective': 'next_token'}, {'objective': 'unsure'}]", 'SEEDS = [3]')
  first, then = (_trained(zygote, 'guided_masking', tmp_path, *more) for _ in range(2))
  assert (list(first), list(then)) == (['next_token'], ['unsure'])
  model, settings = then['unsure']['model'], then['unsure']['cell']['settings']
  assert model['frozen']['guide']['checkpoint'] == f'{tmp_path}/next_token-seed3'
  assert model['initial_weights'] is None
  assert (settings['Frozen.checkpoint'], settings.get('start')) == ('next_token-seed3', None)
  assert "masks='unsure'" in model['objective']


def test_a_learning_rate_is_tuned_for_each_row(zygote, tmp_path):
  """First the tries, by a seed that is not judged; then the cells, at the rate of the lowest held-out loss."""
  rates = [1e-4, 1e-2]
  lines = [line for line in LINES if 'TRAIN_STEPS' not in line]
  tokens = SETTINGS['BATCH_SIZE'] * 64
  more = (
    'SEEDS = [0]',
    "AXES = {'objective': ['mlm', 'next_token']}",
    f'LEARNING_RATES = {rates}',
    f"BUDGET = {{'tokens': {10 * tokens}}}",
    'sweep.tuning_share = 0.4',
  )
  _trained(zygote, 'core_3M', tmp_path, *more, lines=lines)
  tries = sorted(path.name for path in (tmp_path / 'tuning').iterdir())
  assert tries == sorted(f'{row}-lr{rate:g}-seed1000' for row in ('mlm', 'next_token') for rate in rates)
  assert not list(tmp_path.glob('*-seed0'))
  found = _trained(zygote, 'core_3M', tmp_path, *more, lines=lines)
  for row, one in found.items():
    loss = {}
    for rate in rates:
      lines_of = (tmp_path / 'tuning' / f'{row}-lr{rate:g}-seed1000' / 'metrics.jsonl').read_text().split('\n')
      written = [json.loads(line) for line in lines_of if line]
      assert max(line['step'] for line in written) == 4
      loss[rate] = [line['eval/loss'] for line in written if 'eval/loss' in line][-1]
    rate = one['cell']['learning_rate']
    assert rate['value'] == min(loss, key=loss.get)
    assert rate['over'] == {f'{each:g}': loss[each] for each in rates}
    assert (rate['how'], rate['steps'], rate['edge']) == ('tuned', 4, True)
    assert one['cell']['budget'] == {'unit': 'tokens', 'amount': 10 * tokens, 'train_steps': 10}
    assert f'peak={rate["value"]}' in one['model']['optimizer']


def test_a_budget_of_flops_gives_the_same_flops(zygote, tmp_path):
  lines = [line for line in LINES if 'TRAIN_STEPS' not in line]
  found = _trained(
    zygote, 'core', tmp_path, "BUDGET = {'flops': 2e9}", "AXES = {'objective': ['mlm', 'next_token']}", lines=lines
  )
  steps = {row: one['cell']['budget']['train_steps'] for row, one in found.items()}
  assert steps['mlm'] > steps['next_token'] > 1  # whose head scores every position
  for one in found.values():
    done = json.loads((tmp_path / f'{one["cell"]["name"]}-seed0' / 'done.json').read_text())
    assert done['train_flops'] == pytest.approx(2e9, rel=0.25)  # padding and empty slots of the head are not counted


def test_a_budget_of_flops_counts_what_is_seen(tmp_path, capfd):
  """A table costs nothing, stages lie between what their parts cost; they are bound before their updates are known."""
  names = ('next_token', 'forgetful_causal', 'biphasic', 'mlm_mask_only')
  given = [f"--gin.AXES={{'objective': {list(names)}}}", "--gin.BUDGET={'flops': 1e13}", '--dry_run']
  assert cli.main(['sweep', '--gin_file=gin/sweeps/family.gin', f'--gin.SWEEP_DIR={tmp_path}', *given]) == 0
  updates = dict(re.findall(r'(\w+)-seed0 +│ to run │ +(\d+) │', capfd.readouterr().out))
  assert list(updates) == list(names)
  next_token, forgetful, staged, masked = map(int, updates.values())
  assert forgetful == next_token < staged < masked


def _sweep(folder: pathlib.Path, *more: str) -> int:
  return cli.main(
    ['sweep', '--gin_file=gin/sweeps/meap_ratio.gin', f'--gin.SWEEP_DIR={folder}', f'--gin.BINDINGS={LINES}', *more]
  )


@pytest.mark.parametrize(
  ('flags', 'sign'),
  [
    (["--gin.AXES={'objective': ['mlm'], 'rtae': [0.3]}"], "The axis 'rtae' does not exist: Nothing uses rtae"),
    (["--gin.AXES={'objective': ['mlm'], 'MaskedLM.rtae': [0.3]}"], "The axis 'MaskedLM.rtae' does not exist"),
    (["--gin.AXES={'objective': ['mlm'], 'MaskedLN.rate': [0.3]}"], "The axis 'MaskedLN.rate' does not exist"),
    (["--gin.AXES={'objective': ['mln']}"], "The option 'mln' of the axis 'objective'"),
    (["--gin.AXES={'model': ['tinny'], 'objective': ['mlm']}"], "The option 'tinny' of the axis 'model'"),
    (["--gin.AXES={'objective': ['mlm'], 'MaskedLM.rate': [1.5]}"], 'MaskedLM.rate is 1.5'),
    (["--gin.AXES={'objective': ['mlm'], 'a': {'b1': []}, 'ab1': {'': []}}"], "has an option ''"),
    (['--gin.TRAIN_STEPS=60'], 'or leave it out. What the cells are to take goes into BINDINGS: ['),
    (['--gin.SEEDS=[0,0]'], 'the cells would share a directory'),
    (["--gin.EXCLUDE=[{'ratoi': '0.05'}]"], "EXCLUDE names the axis 'ratoi', which does not exist"),
    (["--gin.BUDGET={'tokens': 100000}"], 'BUDGET decides TRAIN_STEPS, which BINDINGS has too'),
    (["--gin.BUDGET={'hours': 3}"], 'BUDGET is'),
    (['--gin.PARALLEL=0'], 'PARALLEL is 0'),
    (['--gin.RUN=gin/runs/ablatoin.gin'], 'ablation.gin'),
    (
      ["--gin.AXES={'objective': ['mlm', 'meap'], 'x': {'y': {'mlm': 'BATCH_SIZE = 8', 'meap': 'BATCH_SIZE = 16'}}}"],
      'differ in more than their objective: BATCH_SIZE is 16 and 8',
    ),
    (['--accelerator=v5e:4x4'], '--accelerator is not for --engine=local'),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(flags, sign, tmp_path, capfd):
  assert _sweep(tmp_path / 'runs', *flags) == 2
  said = [line for line in capfd.readouterr().err.split('\n') if line.startswith('unmask: ')]
  assert len(said) == 1
  assert sign in said[0]
  assert not (tmp_path / 'runs').exists()


def test_a_dry_run_shows_cells_and_what_they_take(tmp_path, capfd):
  """Without a finished cell by the peak and an assumed share of it; with one, by its rate."""
  assert _sweep(tmp_path, '--dry_run') == 0
  said = capfd.readouterr().out
  assert said.count('│ to run') == 5
  assert f'{2 * 8 * 64:,}' in said  # tokens of a cell
  assert 'by FLOPs at 40% of the peak of' in said
  assert 'One seed only' in said
  assert not list(tmp_path.iterdir())
  done = tmp_path / 'meap-ratio0.00-seed0'
  (done / 'checkpoints' / '2').mkdir(parents=True)
  (done / 'done.json').write_text(json.dumps({'tokens_per_second': 2 * 8 * 64 / 60}))
  begun = tmp_path / 'meap-ratio0.05-seed0'
  (begun / 'checkpoints' / '1').mkdir(parents=True)
  assert _sweep(tmp_path, '--dry_run') == 0
  said = capfd.readouterr().out
  assert (said.count('│ to run'), said.count('│ begun, at update 1'), said.count('│ done')) == (3, 1, 1)
  assert 'Updates still to run take 3 min 30 s, by the rates of finished cells' in said
  assert _sweep(tmp_path, '--dry_run', '--gin.SEEDS=[0,1]') == 0
  assert 'One seed only' not in capfd.readouterr().out


def test_a_finished_cell_without_checkpoints_is_named_and_not_judged(tmp_path, capfd):
  for ratio in ('0.00', '0.05', '0.10', '0.15', '0.20'):
    (tmp_path / f'meap-ratio{ratio}-seed0').mkdir()
    (tmp_path / f'meap-ratio{ratio}-seed0' / 'done.json').write_text('{}')
  assert _sweep(tmp_path) == 1
  said = capfd.readouterr()
  assert said.err.count('its checkpoints are gone: it is not judged') == 5
  assert 'judging' not in said.out


def test_a_run_that_no_sweep_began_is_left_alone(tmp_path, capfd):
  (tmp_path / 'meap-ratio0.10-seed0').mkdir()
  (tmp_path / 'meap-ratio0.10-seed0' / 'config.gin').write_text('')
  assert _sweep(tmp_path) == 2
  assert 'holds a run that no sweep began' in capfd.readouterr().err
