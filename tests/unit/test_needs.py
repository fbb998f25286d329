"""What objectives need of a vocabulary: enough of it is enough, less is refused by name and before a row is read."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from objective_table import SPECIAL, TABLE, make_rows
from unmask import UserError
from unmask.objectives import preprocessor
from unmask.objectives.bottleneck import Bottleneck
from unmask.objectives.fill_in_the_middle import FillInTheMiddle
from unmask.objectives.mixture import Mixture
from unmask.objectives.prefix_lm import PrefixLM
from unmask.objectives.span_corruption import SpanCorruption
from unmask.objectives.stages import Stages

POOREST = dataclasses.replace(SPECIAL, sentinels=(), spare=(), fragments=None)


def _least(needs):
  """The poorest vocabulary that has all of it."""
  most = {of: max([need.count for need in needs if need.of == of], default=0) for of in ('sentinels', 'spare')}
  has = {of: getattr(SPECIAL, of)[:count] for of, count in most.items()}
  return dataclasses.replace(POOREST, **has, fragments=SPECIAL.fragments if _of(needs, 'fragments') else None)


def _of(needs, of):
  return [need for need in needs if need.of == of]


def _corrupt(objective, special):
  rows = make_rows(np.random.default_rng(0), 4, 48, segments=2)
  known = {'example_id': np.arange(4), 'epoch': np.zeros(4, np.int64), 'step': np.zeros(4, np.int64)}
  block = preprocessor.corrupt_block(objective, special, 0)
  return block({name: tf.constant(value) for name, value in (rows | known).items()})


@pytest.mark.parametrize('name', TABLE)
def test_what_an_objective_needs_is_all_that_it_needs(name):
  objective = TABLE[name].make()
  least = _least(objective.needs)
  objective.scorer(least)
  made = _corrupt(objective, least)
  assert (made['decoder_segment_ids'].numpy() > 0).any()
  for need in objective.needs:
    has = getattr(least, need.of)
    poorer = dataclasses.replace(least, **{need.of: has[:-1] if isinstance(has, tuple) else None})
    with pytest.raises(UserError, match=f'^{type(objective).__name__} needs'):
      preprocessor.corrupt_block(objective, poorer, 0)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (Bottleneck, 'Bottleneck needs 7 spare ids, and this vocabulary has none: take one that has them, as those'),
    (
      lambda: PrefixLM(mode=1),
      'PrefixLM needs 2 spare ids, .*with extra_ids=29; or bind PrefixLM.mode to a lower number.$',
    ),
    (
      lambda: FillInTheMiddle(split='token'),
      'FillInTheMiddle needs 6 spare ids',
    ),
    (
      lambda: Mixture(parts={'plain': PrefixLM(), 'moved': SpanCorruption()}),
      'Mixture.parts: moved: SpanCorruption needs 1 sentinel,',
    ),
    (
      lambda: Stages(
        parts={'plain': PrefixLM(), 'middle': FillInTheMiddle()}, order=[('plain', 1), ('middle', 1)], steps=4
      ),
      'Stages.parts: middle: FillInTheMiddle needs 6 spare ids',
    ),
  ],
)
def test_it_is_said_who_needs_what(make, said):
  with pytest.raises(UserError, match=said):
    preprocessor.corrupt_block(make(), POOREST, 0)


def test_a_vocabulary_whose_tokens_cannot_be_cut():
  whole = dataclasses.replace(SPECIAL, fragments=None)
  with pytest.raises(UserError, match=r"vocabulary has none.* bind FillInTheMiddle\.split to 'token'"):
    FillInTheMiddle().check_vocabulary(whole)
  FillInTheMiddle(split='token').check_vocabulary(whole)


@pytest.mark.parametrize('make', [PrefixLM, SpanCorruption])
@pytest.mark.parametrize('mode', [-1, True, 1.5])
def test_a_mode_is_the_number_of_an_id(make, mode):
  with pytest.raises(UserError, match=rf'{make.__name__}\.mode is {mode}'):
    make(mode=mode)
