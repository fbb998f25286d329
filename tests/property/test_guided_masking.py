"""Masks that a scorer chooses: which, how many, what they weigh; and a scorer that stays as it is."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from objective_table import SPECIAL, TABLE, corrupt, make_rows
from unmask import UserError
from unmask.launch import frozen, networks, optimizers, program, state, step, t5x_model
from unmask.launch import mesh as mesh_lib
from unmask.models import head, sampling
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import (
  BIDIRECTIONAL,
  CAUSAL,
  Frozen,
  GuidedMasking,
  MaskedLM,
  Mixture,
  NextToken,
  scorers,
  scoring,
)

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=16
)
SHAPE = {
  'vocab_size': 640,
  'embed_dim': 16,
  'num_layers': 1,
  'num_heads': 2,
  'num_kv_heads': 1,
  'head_dim': 8,
  'mlp_dim': 24,
  'tied_embeddings': False,
}
SCORER = Frozen(checkpoint='a run', shape=tuple(SHAPE.items()))
DECODER = Decoder(CONFIG)
SOFT = 0.5  # the scorer is random: its confidences differ little, so the draws here are sharper


def guided(**settings) -> GuidedMasking:
  return GuidedMasking(guide=SCORER, **settings)


def _scoring(objective) -> step.Scoring:
  return step.Scoring(objective, objective.max_supervised(64))


def scorer_params(scale: float = 5.0) -> dict:
  """A scorer of its own shape whose logits are spread."""
  made = state.unboxed(state.init_params(Decoder(networks_of(guided()).config), jax.random.key(7)))
  return made | {'output': scale * made['output']}


def networks_of(objective):
  return dict(networks.beside(objective, CONFIG))['guide']


@pytest.fixture(scope='module')
def params() -> dict:
  made = jax.jit(lambda key: state.unboxed(state.init_params(DECODER, key, networks.beside(guided(), CONFIG))))
  return made(jax.random.key(0)) | {'guide': scorer_params()}


def _batch(objective, seed: int = 0, count: int = 32, segments: int = 3, full: bool = False) -> dict:
  rows = make_rows(np.random.default_rng(seed), count, 64, segments, full)
  return {name: jnp.asarray(value) for name, value in corrupt(objective, rows, seed).items()}


@functools.cache
def _stage(objective):
  return jax.jit(lambda params, batch: step.staged(DECODER, _scoring(objective), params, batch))


def _staged(objective, params, batch) -> dict:
  made = _stage(objective)(params, batch)
  return {name: np.asarray(value) for name, value in made.items()}


def _confidence(params, batch) -> np.ndarray:
  """p(token | left in its segment) by hand: one prefix at a time, each in a row of its own."""
  config, own = networks_of(guided()).config, params['guide']
  tokens, segments = (np.asarray(batch[f'decoder_{name}']) for name in ('target_tokens', 'segment_ids'))
  found = np.zeros(tokens.shape)
  run = jax.jit(lambda x, at, real: head.logits(Decoder(config).apply({'params': own}, x, at, real), own, config))
  for row in range(len(tokens)):
    for number in range(1, segments[row].max() + 1):
      place = np.flatnonzero(segments[row] == number)
      prefixes = np.zeros((64, 64), np.int32)
      for i in range(1, len(place)):
        prefixes[i, :i] = tokens[row, place[:i]]
      at = np.broadcast_to(np.arange(64, dtype=np.int32), prefixes.shape)
      logits = np.asarray(run(prefixes, at, (at < np.arange(64)[:, None]).astype(np.int32)), np.float64)
      for i in range(1, len(place)):
        values = logits[i, i - 1]
        found[row, place[i]] = np.exp(values[tokens[row, place[i]]] - np.logaddexp.reduce(values))
  return found


@pytest.mark.parametrize('masks', ['confident', 'unsure'])
def test_equal_confidence_leaves_the_masks_of_mlm(masks, params):
  """To the bit, replacements too: so they are as flat over positions as the table's tests find MLM's."""
  zero = params | {'guide': jax.tree.map(jnp.zeros_like, params['guide'])}
  objective = guided(masks=masks)
  batch, plain = (_batch(each, count=32) for each in (objective, MaskedLM()))
  made = _staged(objective, zero, batch)
  for name in ('decoder_input_tokens', 'decoder_target_tokens', 'decoder_loss_weights'):
    np.testing.assert_array_equal(made[name], plain[name], err_msg=name)
  chosen = made['decoder_loss_weights'] > 0
  np.testing.assert_allclose(made['confidence'].sum(axis=1), chosen.sum(axis=1) / 640, rtol=1e-5)


def test_a_growing_temperature_becomes_mlms_draw(params):
  batch = _batch(guided())
  wanted = np.asarray(batch['decoder_loss_weights'])
  same = [
    (_staged(guided(temperature=t), params, batch)['decoder_loss_weights'] == wanted).mean() for t in (0.2, 4.0, 1e6)
  ]
  assert same[0] < same[1] < same[2] == 1


@pytest.mark.parametrize('masks', ['confident', 'unsure'])
def test_masks_are_where_the_scorer_says_and_as_many_as_mlms(masks, params):
  objective = guided(masks=masks, temperature=SOFT)
  batch = _batch(objective, count=32)
  made = _staged(objective, params, batch)
  chosen, able = made['decoder_loss_weights'] > 0, np.asarray(batch['decoder_replacements']) > 0
  text = SPECIAL.is_text(np.asarray(batch['decoder_target_tokens']))
  np.testing.assert_array_equal(able, text & (made['decoder_segment_ids'] > 0))
  assert not (chosen & ~able).any()
  real = (made['decoder_segment_ids'] > 0).sum(axis=1)
  wanted = np.minimum(np.maximum(1, np.round(0.15 * real)), able.sum(axis=1))
  np.testing.assert_array_equal(chosen.sum(axis=1), wanted)
  confidence = made['text_confidence']
  log_p = np.log(np.where(able, confidence, 1.0))
  differences = [log_p[b][chosen[b]].mean() - log_p[b][able[b]].mean() for b in range(32) if able[b].sum() > 8]
  sign = 1 if masks == 'confident' else -1
  assert scipy.stats.ttest_1samp(differences, 0, alternative='greater' if sign > 0 else 'less').pvalue < 1e-6
  assert sign * (made['confidence'].sum() / chosen.sum() - confidence.sum() / able.sum()) > 0
  read = np.where(chosen, batch['decoder_replacements'], batch['decoder_target_tokens'])
  np.testing.assert_array_equal(made['decoder_input_tokens'], read)
  masked = (made['decoder_input_tokens'] == SPECIAL.mask)[chosen].mean()
  assert masked == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / chosen.sum()))
  again = _staged(objective, params, _batch(objective, seed=0, count=32))
  np.testing.assert_array_equal(again['decoder_input_tokens'], made['decoder_input_tokens'])


def test_masks_vary_by_epoch(params):
  rows = make_rows(np.random.default_rng(0), 32, 64, segments=1, full=True)
  epochs = [
    _staged(guided(), params, {k: jnp.asarray(v) for k, v in corrupt(guided(), rows, epoch=e).items()}) for e in (0, 1)
  ]
  one, other = (made['decoder_loss_weights'] for made in epochs)
  assert (one != other).any(axis=1).all()
  np.testing.assert_array_equal(epochs[0]['text_confidence'], epochs[1]['text_confidence'])


def test_confidence_is_the_chance_by_what_stands_left_alone(params):
  """Of each prefix by itself; so neither later tokens, nor another passage, nor the token's own place can tell it."""
  batch = _batch(guided(), count=3, segments=2)
  made = _staged(guided(), params, batch)
  able = np.asarray(batch['decoder_replacements']) > 0
  np.testing.assert_allclose(
    made['text_confidence'], np.where(able, _confidence(params, batch), 0), rtol=2e-4, atol=1e-9
  )
  assert np.ptp(np.log(made['text_confidence'][able])) > 2


def test_positions_are_drawn_one_after_another_by_weight():
  """Two of four: the first with a chance as its weight, the second with one as its weight among the others."""
  count, weights = 60_000, np.array([0.1, 0.4, 0.2, 0.3])
  noise = np.random.default_rng(3).integers(-(2**31), 2**31, (count, 6)).astype(np.int32)
  logs = np.log(np.concatenate([weights, [5.0, 5.0]]), dtype=np.float32)
  able = jnp.asarray(np.arange(6) < 4)
  draw = lambda many: np.asarray(
    sampling.without_replacement(
      jnp.broadcast_to(logs, noise.shape), noise, jnp.broadcast_to(able, noise.shape), jnp.full(count, many)
    )
  )
  one, two = draw(1), draw(2)
  assert (one.sum(axis=1) == 1).all()
  assert (two.sum(axis=1) == 2).all()
  assert (two >= one).all()
  assert not two[:, 4:].any()
  assert (draw(9).sum(axis=1) == 4).all()
  assert not draw(0).any()
  assert scipy.stats.chisquare(one[:, :4].sum(axis=0), weights * count).pvalue > 1e-3
  pairs = [(i, j) for i in range(4) for j in range(i)]
  chance = [weights[i] * weights[j] * (1 / (1 - weights[i]) + 1 / (1 - weights[j])) for i, j in pairs]
  seen = [(two[:, i] & two[:, j]).sum() for i, j in pairs]
  assert scipy.stats.chisquare(seen, np.array(chance) * count).pvalue > 1e-3


@pytest.mark.parametrize('weighting', ['passage', 'relative', 'none'])
def test_passages_weigh_what_is_documented(weighting, params):
  objective = guided(weighting=weighting)
  batch = _batch(objective, count=32)
  made = _staged(objective, params, batch)
  chosen, able, segments = (
    made['decoder_loss_weights'] > 0,
    np.asarray(batch['decoder_replacements']) > 0,
    made['decoder_segment_ids'],
  )
  expected, several = np.zeros(made['passage_weight'].shape), 0
  for row in range(32):
    mean = {
      s: made['text_confidence'][row][able[row] & (segments[row] == s)].mean() for s in set(segments[row][able[row]])
    }
    values = np.array([mean[s] for s in segments[row][chosen[row]]])
    several += len(set(values)) > 1
    values = {'passage': values, 'relative': values / values.mean(), 'none': np.ones_like(values)}[weighting]
    expected[row, : len(values)] = values
  assert several > 5
  np.testing.assert_allclose(made['passage_weight'], expected, rtol=1e-5, atol=1e-9)
  if weighting != 'passage':
    np.testing.assert_allclose(made['passage_weight'].sum(axis=1), chosen.sum(axis=1), rtol=1e-5)
  sums = jax.jit(lambda params, batch: step.loss_sums(DECODER, _scoring(objective), params, batch))(params, batch)
  scores, _, weights, _ = step.scores(
    DECODER, _scoring(objective), params, {k: jnp.asarray(v) for k, v in made.items()}
  )
  losses = np.asarray(scores.cross_entropy * weights)
  means = {name: (float(top), float(bottom)) for name, (top, bottom) in sums.items()}
  assert means['guided'] == pytest.approx(((losses * expected).sum(), chosen.sum()), rel=1e-5)
  assert means['cross_entropy'] == pytest.approx((losses.sum(), chosen.sum()), rel=1e-5)
  assert means['passage_weight'] == pytest.approx((expected.sum(), chosen.sum()), rel=1e-5)
  assert means['text_confidence'] == pytest.approx((made['text_confidence'].sum(), able.sum()), rel=1e-5)
  known = step.denominators_of(_scoring(objective), batch)
  assert {name: float(value) for name, value in known.items()} == {name: bottom for name, (_, bottom) in means.items()}
  trained = {name for name, share in step.coefficients(_scoring(objective), batch).items() if share}
  assert trained == {'guided'}


@pytest.mark.parametrize('name', ['adamw', 'muon'])  # all decay what they are given; this one's chain has two parts
def test_a_frozen_network_stays_as_it_is(name, params):
  """Not a bit of it changes, whatever decays; no optimizer keeps anything for it, and no norm counts it."""
  transform = optimizers.Optimizer(name=name, schedule=optimizers.Schedule(peak=1e-2, warmup_steps=1)).build(10)
  program_ = _program(optimizer=transform)
  with program_.context():
    shapes = program_.state_shapes()
    current = state.of_params(params, DECODER, transform, program_.mesh, program_.beside)
    before = jax.tree.map(np.array, current.params)
    update = jax.jit(step.make_train_step(DECODER, program_.scoring, transform))
    batch = _batch(guided(), count=8) | {'text_tokens': jnp.full(8, 64)}
    grads, _ = step.gradients(DECODER, program_.scoring, params, batch, 1)
    for number in range(3):
      current, metrics = update(current, batch, True)
      if not number:
        assert float(metrics['grad_norm']) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)
  assert 'guide' not in grads
  assert set(grads) == set(params) - {'guide'}
  for made in (current, shapes):
    kept = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(made.opt_state)]
    assert any('embedding' in path for path in kept)
    assert not any('guide' in path for path in kept)
  assert jax.tree.structure(current) == jax.tree.structure(shapes)
  jax.tree.map(np.testing.assert_array_equal, before['guide'], current.params['guide'])
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()),
    networks.trained(program_.beside, before),
    networks.trained(program_.beside, current.params),
  )
  assert all(jax.tree.leaves(moved))


def test_flops_have_the_scorers_forward_pass():
  """2 a parameter and position, its head on every one; causal attention by half."""
  length, matrices = 64, 16 * 8 * (2 * 2 + 2 * 1) + 3 * 16 * 24
  scorer = 2 * (matrices + 16 * 640) * length + 4 * 2 * 8 * length * length / 2
  plain = program.update_flops(CONFIG, MaskedLM(), length, 3)
  assert program.update_flops(CONFIG, guided(), length, 3) == pytest.approx(plain + 3 * scorer, rel=1e-9)


def test_who_can_be_a_scorer():
  """By what they are asked: models that predict a token in place would see it, those that give none cannot be asked."""
  able = {
    name for name in TABLE if scoring.left_to_right(TABLE[name].make().scorer(SPECIAL), TABLE[name].make().attention)
  }
  assert {'next_token', 'meap', 'causal_masked', 'forgetful_causal', 'fill_in_the_middle', 'mntp'} <= able
  never = {
    'mlm',
    'pmi_masking',
    'electra',
    'masked_diffusion',
    'span_corruption',
    'prefix_lm',
    'prefix_lm_mode',
    'guided_masking',
  }
  assert not able & never
  assert not scoring.left_to_right(scorers.LeftToRight(), BIDIRECTIONAL)
  assert scoring.left_to_right(scorers.LeftToRight(attention=CAUSAL), BIDIRECTIONAL)


def _program(**changed) -> program.Program:
  settings = {
    'objective': guided(),
    'optimizer': optax.sgd(0.1),
    'mesh': mesh_lib.MeshConfig().build(jax.devices()[:1]),
  }
  return program.Program(model=CONFIG, text_length=64, batch_size=8, **(settings | changed))


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: guided(shifted=True), 'shifted=True: a scorer chooses single tokens'),
    (lambda: guided(unit='word'), "unit='word'"),
    (lambda: guided(selection='bernoulli'), "selection='bernoulli'"),
    (lambda: guided(masks='hard'), "masks is 'hard'"),
    (lambda: guided(weighting='utterance'), "weighting is 'utterance'"),
    (lambda: guided(temperature=0.0), r'temperature is 0\.0'),
    (lambda: guided(temperature=math.nan), 'temperature is nan'),
    (lambda: guided(draw='unit'), 'draw'),
    (lambda: GuidedMasking(guide='runs/x'), "guide is 'runs/x'"),
    (lambda: Mixture(parts={'a': guided(), 'b': NextToken()}), 'train it by itself'),
    (lambda: t5x_model.Model(CONFIG, guided(), None, None), r'networks beside the decoder \(guide\)'),
    (lambda: frozen.settled(GuidedMasking()), r'GuidedMasking\.guide has no checkpoint: bind Frozen\.checkpoint'),
    (lambda: frozen.settled(GuidedMasking(guide=Frozen(checkpoint='no/where'))), "checkpoint='no/where' is no run"),
    (
      lambda: _program(mesh=mesh_lib.MeshConfig(data=4, tensor=2).build(jax.devices())).check(),
      'guide: num_kv_heads=1 does not divide over tensor=2',
    ),
  ],
)
def test_what_cannot_be_is_named(make, sign):
  _program().check()
  with pytest.raises(UserError, match=sign):
    make()


def test_settings_are_the_scorers_own_or_the_runs():
  outer = dataclasses.replace(CONFIG, dtype='bfloat16', scan_unroll=2, loss_chunk=5)
  config = dict(networks.beside(guided(), outer))['guide'].config
  assert {name: getattr(config, name) for name in SHAPE} == SHAPE
  assert (config.dtype, config.scan_unroll, config.loss_chunk, config.remat) == ('bfloat16', 1, 5, 'none')
