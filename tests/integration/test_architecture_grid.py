"""The grid of Wang et al. 2022, cell by cell: what each is trained by and sees, where it starts, what it is asked."""

import pathlib
from collections.abc import Sequence

import pytest
from unmask.launch import config, flags, loop
from unmask.launch.judging import judge
from unmask.launch.sweeping import runner
from unmask.launch.sweeping.plans import Plan
from unmask.objectives.answers_only import AnswersOnly
from unmask.objectives.attention import CAUSAL, PREFIX
from unmask.objectives.next_token import NextToken
from unmask.objectives.prefix_lm import PrefixLM
from unmask.objectives.span_corruption import SpanCorruption
from unmask.tasks.questions import choices, held_out, prompted

SWEEP = 'gin/sweeps/architecture_objective.gin'
UPDATES = {'pretrained': 600, 'adapted': 200, 'tuned': 100}  # the ablation's run, ADAPT, TUNE
# (objective, decoder, adapted): the stage before prompts is trained by, and sees. Full LM is causal alone.
TRUNKS = {
  ('next_token', 'causal', 'no'): (NextToken, CAUSAL),
  ('next_token', 'causal', 'masked'): (SpanCorruption, PREFIX),
  ('prefix_lm', 'causal', 'no'): (PrefixLM, CAUSAL),
  ('prefix_lm', 'non_causal', 'no'): (PrefixLM, PREFIX),
  ('span_corruption', 'causal', 'no'): (SpanCorruption, CAUSAL),
  ('span_corruption', 'causal', 'lm'): (NextToken, CAUSAL),
  ('span_corruption', 'non_causal', 'no'): (SpanCorruption, PREFIX),
  ('span_corruption', 'non_causal', 'lm'): (NextToken, CAUSAL),
}


@pytest.fixture(autouse=True)
def nothing_stays_bound():
  yield
  config.load([], [])


class _Kept:
  """An engine that keeps what it is to write."""

  plans: Sequence[Plan] = ()

  def check(self, sweep_dir: str) -> None:
    """Every place will do."""

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    self.plans = plans


def _stages(folder: pathlib.Path) -> tuple[list[Sequence[Plan]], list[str]]:
  """The cells in the order in which they can be run, as if each had been; and what the judge is told."""
  stages: list[Sequence[Plan]] = []
  while not stages or stages[-1]:
    kept = _Kept()
    config.load([SWEEP], [f'SWEEP_DIR = {str(folder)!r}'])
    lines = config.bound(runner.sweep)['judge_bindings']
    assert config.call(runner.sweep, options=runner.Options(engine=kept)) == 0
    for plan in kept.plans:
      (pathlib.Path(plan.cell.model_dir) / 'done.json').write_text('{}')
    stages.append(kept.plans)
  return stages[:-1], lines


def _name(objective: str, decoder: str, adapted: str, tuned: str) -> str:
  return f'{objective}-decoder{decoder}-adapted{adapted}-tuned{tuned}-seed0'


def test_every_cell_of_the_grid(tmp_path):
  """What its command binds; nothing is trained."""
  stages, lines = _stages(tmp_path)
  assert [len(plans) for plans in stages] == [5, 8, 3]  # from random weights; adapted or tuned; tuned after that
  plans = {plan.cell.name: plan for plans in stages for plan in plans}
  assert set(plans) == {_name(*trunk, tuned) for trunk in TRUNKS for tuned in ('no', 'prompts')}
  for (*pretrained, adapted), (kind, attention) in TRUNKS.items():
    for tuned in ('no', 'prompts'):
      plan = plans[_name(*pretrained, adapted, tuned)]
      bound = _bound(plan)
      before = adapted if tuned == 'prompts' else 'no'
      first = adapted == tuned == 'no'
      start = None if first else str(tmp_path / _name(*pretrained, before, 'no'))
      stage = 'tuned' if tuned == 'prompts' else 'pretrained' if first else 'adapted'
      assert type(bound['objective']) is (AnswersOnly if tuned == 'prompts' else kind), plan.cell.name
      assert bound['objective'].attention == attention, plan.cell.name
      assert bound.get('initial_weights') == start, plan.cell.name
      assert bound['train_steps'] == UPDATES[stage], plan.cell.name
      assert bound['pipeline'].mixture_or_task_name == ('prompted' if tuned == 'prompts' else 'default_text')
      _is_judged(plan, lines, bound['objective'])


def _bound(plan: Plan) -> dict:
  options = flags.parse(flags.parser('train', ''), plan.command)
  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  return config.bound(loop.train)


def _is_judged(plan: Plan, lines: Sequence[str], objective) -> None:
  """Whatever its stage, by the questions of the sweep; all of JUDGE_BINDINGS is of use."""
  files = flags.parse(flags.parser('train', ''), plan.command).gin_file
  saved = pathlib.Path(plan.cell.model_dir) / 'config.gin'
  saved.write_text(''.join(f'include {file!r}\n' for file in files))
  config.load(['gin/runs/evaluate.gin'], [*lines, f'MODEL_DIR = {plan.cell.model_dir!r}'], saved=str(saved))
  bound = config.bound(judge.evaluate)
  config.refuse_unused()
  asked = [held_out.LeftToRight, held_out.Masked, held_out.Infill, choices.EntityCloze, prompted.Prompted]
  assert [type(test) for test in bound['tests']] == asked
  assert type(bound['objective']) is type(objective)
  assert bound['objective'].attention == objective.attention
