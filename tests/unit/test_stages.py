"""Objectives one after another: where each begins, what it reads, what is scored, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_table import SPECIAL, TABLE, corrupt, make_rows
from unmask import UserError
from unmask.objectives import preprocessor, schedules
from unmask.objectives.attention import CAUSAL
from unmask.objectives.stages import Stages

NAMES = ('next_token', 'mlm', 'meap')
HELD_OUT = np.iinfo(np.int64).max


def _stages(order, steps, **more):
  return Stages(parts={name: TABLE[name].make() for name, _ in order}, order=order, steps=steps, **more)


def _rows(count, step, length=48):
  rows = make_rows(np.random.default_rng(0), count, length, segments=2)
  return rows | {'step': np.broadcast_to(np.asarray(step, np.int64), [count])}


def _read_by(staged, steps) -> list[str]:
  part = staged.part_of({'step': np.asarray(steps, np.int64)}, None, SPECIAL).numpy()
  return [list(staged.parts)[number] for number in part]


@settings(deadline=None)
@given(
  lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), steps=st.integers(50, 400), seed=st.integers(0, 1000)
)
def test_every_update_is_of_the_stage_that_its_share_says(lengths, steps, seed):
  """Update s, counted from 0, is of the first stage that ends behind s; exact in whole numbers."""
  draw = np.random.default_rng(seed)
  order = [(NAMES[draw.integers(3)], length) for length in lengths]
  asked = np.unique([*draw.integers(0, steps, 20), 0, steps - 1])
  ends = np.cumsum(lengths)
  expected = [order[next(k for k, end in enumerate(ends) if s * ends[-1] < end * steps)][0] for s in asked.tolist()]
  assert _read_by(_stages(order, steps), asked) == expected


def test_by_default_it_is_a_quarter_and_lengths_may_be_updates():
  staged = _stages([('next_token', 25), ('mlm', 75)], 1000)
  assert staged.starts == (0, 250)
  assert _read_by(staged, [0, 249, 250, 999, 1000, HELD_OUT]) == ['next_token'] * 2 + ['mlm'] * 4
  there_and_back = _stages([('next_token', 40), ('mlm', 160), ('next_token', 40)], 240)
  assert there_and_back.starts == (0, 40, 200)
  assert _read_by(there_and_back, [39, 40, 199, 200, HELD_OUT]) == ['next_token', 'mlm', 'mlm'] + ['next_token'] * 2


@pytest.mark.parametrize(('name', 'step'), [('next_token', 3), ('mlm', 4), ('mlm', HELD_OUT)])
def test_a_batch_is_that_of_the_objective_itself(name, step):
  staged, rows = _stages([('next_token', 1), ('mlm', 1)], 8), _rows(9, step)
  expected, given_ = corrupt(TABLE[name].make(), rows, seed=3), corrupt(staged, rows, seed=3)
  for key, value in expected.items():
    np.testing.assert_array_equal(given_[key], value)
  assert (given_['decoder_parts'] == list(staged.parts).index(name)).all()
  levels = given_['decoder_levels']
  np.testing.assert_array_equal(levels, np.broadcast_to(np.arange(48) if name == 'next_token' else 0, levels.shape))


def test_the_loss_is_the_mean_of_the_stage_and_nothing_else():
  staged = _stages([('next_token', 1), ('mlm', 1)], 8)
  assert staged.factors == {'mlm': 1.0, 'next_token': 1.0}
  for step, name, other in ((0, 'next_token', 'mlm'), (7, 'mlm', 'next_token')):
    batch = corrupt(staged, _rows(6, step)) | {'text_tokens': np.full(6, 40)}
    weights = batch['decoder_loss_weights']
    terms = staged.loss(np.full(weights.shape, 2.0), weights, batch)
    assert terms[f'{name}/cross_entropy'][:2] == (2 * weights.sum(), weights.sum())
    assert terms[f'{other}/cross_entropy'][:2] == (0, 0)
    assert staged.counts(batch)[f'{name}/rows'] == 6
    assert staged.counts(batch)[f'{other}/rows'] == 0


def test_rows_are_those_that_every_part_can_use():
  staged, rows = _stages([('next_token', 1), ('salient_span', 1)], 8), _rows(40, 0)
  rows['salient_ids'][::2] = 0
  kept = staged.keep(rows, SPECIAL).numpy()
  assert not kept[::2].any()
  np.testing.assert_array_equal(kept[1::2], TABLE['salient_span'].make().keep(rows, SPECIAL).numpy()[1::2])
  assert kept.any()


def test_held_out_rows_are_read_once_by_each_part_as_its_last_stage_ends():
  there_and_back = _stages([('next_token', 4), ('mlm', 16), ('next_token', 4)], 24)
  assert there_and_back.held_out_steps == (HELD_OUT, 19)
  assert _read_by(there_and_back, there_and_back.held_out_steps) == ['next_token', 'mlm']
  assert _stages([('next_token', 1), ('next_token', 2)], 3).held_out_steps == (HELD_OUT,)
  assert TABLE['mlm'].make().held_out_steps == (HELD_OUT,)


def test_who_answers_and_how_it_sees():
  staged = _stages([('next_token', 1), ('mlm', 1), ('meap', 1)], 9)
  assert (staged.home, type(staged.answering).__name__) == ('left_to_right', 'MEAP')
  asked = _stages([('next_token', 1), ('mlm', 1), ('meap', 1)], 9, answers_as='mlm')
  assert (asked.home, asked.shift) == ('masked', 0)
  assert repr(asked) == repr(staged)
  assert _stages([('next_token', 1), ('meap', 1)], 9).attention == CAUSAL  # the fast kernel


def test_without_a_step_nothing_is_read():
  staged = _stages([('next_token', 1), ('mlm', 1)], 8)
  assert schedules.needs_step(staged)
  rows = {name: value for name, value in _rows(4, 0).items() if name != 'step'} | {'example_id': np.arange(4)}
  import tensorflow as tf

  with pytest.raises(UserError, match='changes with the step of training'):
    preprocessor.corrupt_rows(staged, SPECIAL, 0)(tf.data.Dataset.from_tensor_slices(rows))


@pytest.mark.parametrize(
  ('order', 'steps', 'said'),
  [
    ([('next_token', 1), ('mlm', 1)], 1, "none is left for the stage 'mlm'"),
    ([('next_token', 1), ('mlm', 9999)], 100, None),
    ([('next_token', 9999), ('mlm', 1)], 100, "none is left for the stage 'mlm'"),
    ([('next_token', 0), ('mlm', 1)], 100, 'lengths above 0'),
    ([('next_token', math.inf), ('mlm', 1)], 100, 'lengths above 0'),
    ([('next_token',), ('mlm', 1)], 100, 'lengths above 0'),
    ([], 100, 'lengths above 0'),
    ([('next_token', 1)], 100, 'no stage of Stages.order is of mlm'),
    ([('next_token', 1), ('mlm', 1)], 0, 'Stages.steps is 0'),
  ],
)
def test_senseless_stages(order, steps, said):
  parts = {name: TABLE[name].make() for name in ('next_token', 'mlm')}
  if said is None:
    assert Stages(parts=parts, order=order, steps=steps).starts == (0, 1)
    return
  with pytest.raises(UserError, match=said):
    Stages(parts=parts, order=order, steps=steps)
