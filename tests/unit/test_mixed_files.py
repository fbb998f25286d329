"""What the gin files that combine objectives bind: parts, shares, order and rates, as their papers state them."""

import pytest
from unmask.launch import config, loop
from unmask.objectives import base
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.mixture import Mixture
from unmask.objectives.next_token import NextToken
from unmask.objectives.noise_strategies import STRATEGIES, NoiseStrategies
from unmask.objectives.prefix_lm import PrefixLM
from unmask.objectives.schedules import LinearRate
from unmask.objectives.span_corruption import SpanCorruption
from unmask.objectives.stages import Stages
from unmask.objectives.token_replacement import TokenReplacement

STEPS = 480
R, S, X = 0, 1, 2  # UL2's modes


def _spans(rate: float, mean_length: float, mode: int) -> SpanCorruption:
  return SpanCorruption(rate=rate, mean_length=mean_length, mode=mode)


EXPECTED = {
  # arXiv 2205.05131, table 1; S has a fifth of the rows, the others have equal parts of the rest.
  'ul2': Mixture(
    parts={
      'R3': _spans(0.15, 3.0, R),
      'R8': _spans(0.15, 8.0, R),
      'S': PrefixLM(suffix_share=0.25, mode=S),
      'X3': _spans(0.5, 3.0, X),
      'X8': _spans(0.5, 8.0, X),
      'X64': _spans(0.15, 64.0, X),
      'X64_half': _spans(0.5, 64.0, X),
    },
    shares={'S': 1.5} | dict.fromkeys(('R3', 'R8', 'X3', 'X8', 'X64', 'X64_half'), 1),
    answers_as='S',
  ),
  # arXiv 2410.24159: 15 in 16 masked next-token prediction, 30 % to 15 % over the run; 80/10/10.
  'gpt_bert': Mixture(
    parts={
      'masked': MaskedLM(
        shifted=True, rate=LinearRate(start=0.30, end=0.15, steps=STEPS), mask_prob=0.8, random_prob=0.1
      ),
      'causal': NextToken(),
    },
    shares={'masked': 15, 'causal': 1},
  ),
  # arXiv 2412.03275, BabyLlama's: 4 : 16 : 4, BERT's masking.
  'antlm': Stages(
    parts={'causal': NextToken(), 'masked': MaskedLM(rate=0.15, mask_prob=0.8, random_prob=0.1)},
    order=[('causal', 4), ('masked', 16), ('causal', 4)],
    steps=STEPS,
  ),
  # arXiv 2507.00994: a quarter causal, then 40 %, [MASK] alone.
  'biphasic': Stages(
    parts={'causal': NextToken(), 'masked': MaskedLM(rate=0.4, mask_prob=1.0, random_prob=0.0)},
    order=[('causal', 25), ('masked', 75)],
    steps=STEPS,
  ),
  # arXiv 2512.01422: three masked by a strategy, all six alike, to one of random tokens at a drawn rate.
  'noise_mixture': Mixture(
    parts={
      'masked': NoiseStrategies(shares=dict.fromkeys(STRATEGIES, 1.0)),
      'replaced': TokenReplacement(rate=None),
    },
    shares={'masked': 3, 'replaced': 1},
    weights={'masked': 1.0, 'replaced': 1.0},
  ),
}


def _of(name: str) -> base.Objective:
  """What training gets of a shipped file."""
  bindings = ["MODEL_DIR = 'unused'", f'TRAIN_STEPS = {STEPS}']
  config.load(['gin/runs/pretrain.gin', f'gin/objectives/{name}.gin'], bindings)
  objective = config.bound(loop.train)['objective']
  config.load([], [])
  return objective


@pytest.mark.parametrize('name', EXPECTED)
def test_a_file_binds_what_its_paper_states(name):
  assert _of(name) == EXPECTED[name]


def test_shares_and_turns_of_the_files():
  """The same in numbers that a reader knows: shares of rows, and the updates at which stages begin."""
  ul2 = _of('ul2').factors
  assert ul2['S'] == pytest.approx(0.2)
  assert all(share == pytest.approx(0.8 / 6) for name, share in ul2.items() if name != 'S')
  assert _of('gpt_bert').factors == {'causal': 1 / 16, 'masked': 15 / 16}
  assert _of('antlm').starts == (0, 80, 400)
  assert _of('biphasic').starts == (0, 120)
