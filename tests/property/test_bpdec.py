"""BPDec: what the extra layers see, what the head reads, and that nothing of it is left where there are none."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_table import corrupt, documents, make_rows
from unmask import UserError
from unmask.launch import networks, state, step, t5x_model
from unmask.launch.program import update_flops
from unmask.models import attention
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import CAUSAL, AttentionSpec, BPDec, MaskedLM, Mixture, NextToken
from unmask.objectives.bpdec import GRADUAL
from unmask.objectives.networks import ExtraLayers

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=16
)
DECODER = Decoder(CONFIG)


def _params(objective) -> dict:
  made = jax.jit(lambda key: state.unboxed(state.init_params(DECODER, key, networks.beside(objective, CONFIG))))
  return made(jax.random.key(0))


def _batch(objective, rows: dict) -> dict:
  count = jnp.asarray((rows['segment_ids'] > 0).sum(axis=1))
  return {name: jnp.asarray(value) for name, value in corrupt(objective, rows).items()} | {'text_tokens': count}


@pytest.fixture(scope='module')
def rows():
  return make_rows(np.random.default_rng(0), 8, 64)


def _gradients(objective, rows):
  """Gradient and sums of an objective's loss."""
  scoring = step.Scoring(objective, objective.max_supervised(64), 1e-4)
  gradients = jax.jit(lambda params, batch: step.gradients(DECODER, scoring, params, batch, 1))
  return gradients(_params(objective), _batch(objective, rows))


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('settings', [{'layers': 0}, {'extra_prob': 0.0}], ids=str)
def test_without_extra_layers_it_is_masked_language_modelling(settings, shifted, rows):
  """No layers, or layers that the head never reads: the same batches, the same loss and gradient to the bit."""
  plain, objective = MaskedLM(shifted=shifted), BPDec(shifted=shifted, **settings)
  grads, sums = _gradients(objective, rows)
  want, expected = _gradients(plain, rows)
  jax.tree.map(np.testing.assert_array_equal, expected, sums)
  jax.tree.map(np.testing.assert_array_equal, want, {name: grads[name] for name in want})
  assert set(grads) - set(want) == set(objective.beside)
  assert all((np.asarray(leaf) == 0).all() for name in objective.beside for leaf in jax.tree.leaves(grads[name]))
  a, b = corrupt(plain, rows), corrupt(objective, rows)
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])


def test_positions_are_drawn_as_often_as_was_set():
  """What is opened late of what is chosen, where the head reads the extra layers: by position, of each other alone."""
  objective = BPDec(rate=0.4, early_share=0.3, extra_prob=0.7)
  features = corrupt(objective, {k: np.repeat(v, 6000, axis=0) for k, v in documents(1, 20).items()})
  chosen, late, extra = features['corrupted'] > 0, features['decoder_opened'] == 2, features['decoder_extra'] > 0
  assert not features['decoder_opened'][~chosen].any()
  assert set(np.unique(features['decoder_opened'][chosen])) == {1, 2}
  for place in range(1, 19):
    mine = chosen[:, place]
    assert late[mine, place].mean() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / mine.sum()))
    assert extra[:, place].mean() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 6000))
  for one, other in ((late[chosen], extra[chosen]), (extra[:, 4], extra[:, 5]), (chosen[:, 3], extra[:, 3])):
    assert scipy.stats.chi2_contingency(scipy.stats.contingency.crosstab(one, other).count).pvalue > 1e-3


@pytest.mark.parametrize('causal', [False, True])
def test_the_gradual_table_is_a_plain_loop_s(causal, rows):
  """In the first layer late ones are seen by themselves alone; in the next, whoever the rule lets see them."""
  objective = BPDec(rate=0.4, attention=CAUSAL if causal else AttentionSpec(ordered=False))
  batch = corrupt(objective, rows)
  tables = objective.beside['extra_layers'].tables
  assert tables == (GRADUAL, None)
  segments, opened = batch['decoder_segment_ids'], batch['decoder_opened']
  for table in tables:
    groups = None if table is None else opened
    seen = np.asarray(attention.visible(jnp.asarray(segments), causal, None, groups, table))
    expected = np.zeros_like(seen)
    for b, i, j in np.ndindex(8, 64, 64):
      same = segments[b, i] == segments[b, j] > 0
      hidden = table is not None and opened[b, j] == 2
      expected[b, i, j] = same and (i == j or (not hidden and (not causal or j <= i)))
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize('layers', [1, 2])
def test_what_is_opened_late_does_not_pass_the_first_layer(layers, rows):
  """The states of late positions move others' output iff there is a second layer, through which they do."""
  objective = BPDec(rate=0.4, layers=layers)
  params, batch = _params(objective), _batch(objective, rows)
  nets = networks.Bound(DECODER, objective, params)
  hidden = jax.random.normal(jax.random.key(1), (8, 64, 32))
  behind = jax.jit(lambda hidden: nets.behind('extra_layers', hidden, batch['decoder_opened'], batch))
  before = np.asarray(behind(hidden))
  segments, opened = np.asarray(batch['decoder_segment_ids']), np.asarray(batch['decoder_opened'])
  for group in (1, 2):
    mine = opened == group
    after = np.asarray(behind(jnp.where(mine[..., None], hidden + 1, hidden)))
    moved = (after != before).any(axis=-1)
    there = np.stack([np.isin(segments[b], segments[b][mine[b]]) for b in range(8)]) & (segments > 0)
    assert moved[mine].all()
    others = ~mine & (segments > 0)
    np.testing.assert_array_equal(moved[others], there[others] & (layers > 1 or group == 1))


def test_extra_layers_are_causal_where_the_decoder_is(rows):
  objective = BPDec(attention=CAUSAL)
  batch = _batch(objective, rows)
  nets = networks.Bound(DECODER, objective, _params(objective))
  hidden = jax.random.normal(jax.random.key(1), (8, 64, 32))
  behind = jax.jit(lambda hidden: nets.behind('extra_layers', hidden, batch['decoder_opened'], batch))
  moved = np.asarray(behind(hidden) != behind(hidden.at[:, 30].add(1))).any(axis=-1) & (rows['segment_ids'] > 0)
  assert not moved[:, :30].any()
  assert moved[:, 31:].any()


def test_the_head_reads_one_or_the_other(rows):
  objective = BPDec(rate=0.4)
  params, batch = _params(objective), _batch(objective, rows)
  nets = networks.Bound(DECODER, objective, params)
  hidden = jax.random.normal(jax.random.key(1), (8, 64, 32))
  read, behind = jax.jit(
    lambda hidden: (
      objective.to_head(nets, hidden, batch),
      nets.behind('extra_layers', hidden, batch['decoder_opened'], batch),
    )
  )(hidden)
  extra = np.asarray(batch['decoder_extra']) > 0
  assert 0.3 < extra[np.asarray(batch['decoder_segment_ids']) > 0].mean() < 0.7
  np.testing.assert_array_equal(np.asarray(read)[~extra], np.asarray(hidden)[~extra])
  np.testing.assert_array_equal(np.asarray(read)[extra], np.asarray(behind)[extra])


def test_gradients_reach_all_layers_and_scores_need_the_decoder_alone(rows):
  objective = BPDec()
  grads, _ = _gradients(objective, rows)
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
  params, batch = _params(objective), _batch(objective, rows)
  scoring = step.Scoring(objective, objective.max_supervised(64))
  alone = {name: params[name] for name in params if name not in objective.beside}
  found, _, weights, _ = step.scores(DECODER, scoring, alone, batch)
  plain = step.Scoring(MaskedLM(), objective.max_supervised(64))
  want = step.loss_sums(DECODER, plain, alone, batch)['cross_entropy']
  assert float((found.cross_entropy * weights).sum()) == pytest.approx(float(want[0]), rel=1e-6)
  mixed = step.loss_sums(DECODER, scoring, params, batch)['cross_entropy']
  assert float(mixed[0]) != pytest.approx(float(want[0]), rel=1e-3)


def test_flops_are_those_of_more_layers():
  """As many as a decoder so much deeper has: both read all positions, and the head is one."""
  for objective, plain in ((BPDec(layers=3), MaskedLM()), (BPDec(attention=CAUSAL), MaskedLM(attention=CAUSAL))):
    deeper = dataclasses.replace(CONFIG, num_layers=2 + objective.layers)
    assert update_flops(CONFIG, objective, 64, 4) == update_flops(deeper, plain, 64, 4)


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: BPDec(layers=-1), r'BPDec\.layers is -1'),
    (lambda: BPDec(layers=1.5), r'BPDec\.layers is 1\.5'),
    (lambda: BPDec(early_share=1.5), r'BPDec\.early_share is 1\.5'),
    (lambda: BPDec(extra_prob=-0.5), r'BPDec\.extra_prob is -0\.5'),
    (lambda: BPDec(layers=0, extra_prob=0.2), 'only `layers` above 0 reads it'),
    (lambda: BPDec(attention=AttentionSpec(ordered=(True, False))), 'one rule for every layer'),
    (lambda: BPDec(attention=AttentionSpec(ordered=True, block=4)), 'one rule for every layer'),
    (lambda: ExtraLayers(tables=()), 'tables is empty'),
    (lambda: Mixture(parts={'a': BPDec(), 'b': NextToken()}), 'train it by itself'),
    (lambda: t5x_model.Model(CONFIG, BPDec(), None, None), r'networks beside the decoder \(extra_layers\)'),
  ],
)
def test_what_cannot_be_is_named(make, sign):
  BPDec(early_share=1.0, unit='word')
  with pytest.raises(UserError, match=sign):
    make()
