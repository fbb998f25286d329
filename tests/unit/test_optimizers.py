"""Schedules and optimizers at known points."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unmask import UserError
from unmask.launch import state
from unmask.launch.optimizers import Optimizer, Schedule
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder


@pytest.mark.parametrize('decay', ['cosine', 'linear', 'constant', 'rsqrt', 'wsd'])
def test_warmup_reaches_the_peak_and_wastes_no_update(decay):
  schedule = Schedule(peak=1.0, warmup_steps=10, decay=decay).build(100)
  rates = [float(schedule(step)) for step in range(100)]
  np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10, rtol=1e-5)
  assert rates[10] == pytest.approx(1.0, rel=0.01)
  assert max(rates) <= 1.0 + 1e-6
  assert (np.diff(rates[10:]) <= 1e-7).all()


def test_decays_end_where_they_should():
  at = lambda decay, step: float(Schedule(peak=1.0, warmup_steps=20, decay=decay, final_frac=0.1).build(100)(step))
  assert at('cosine', 100) == pytest.approx(0.1)
  assert at('cosine', 60) == pytest.approx(0.55)
  assert at('linear', 60) == pytest.approx(0.55)
  assert at('constant', 99) == 1.0
  assert at('rsqrt', 80) == pytest.approx(0.5, rel=0.01)
  assert at('wsd', 79) == 1.0
  assert at('wsd', 90) == pytest.approx(0.55)
  assert at('wsd', 100) == pytest.approx(0.1)


def test_short_runs_and_no_warmup():
  assert float(Schedule(peak=2.0, warmup_steps=0).build(5)(0)) == pytest.approx(2.0)
  assert np.isfinite([float(Schedule(warmup_steps=50).build(2)(step)) for step in range(3)]).all()


def test_clipping_and_decay_leave_norms_alone():
  params = {'mlp': {'down': jnp.ones((2, 2))}, 'norm': {'scale': jnp.ones(2)}}
  zeros = {'mlp': {'down': jnp.zeros((2, 2))}, 'norm': {'scale': jnp.zeros(2)}}
  transform = Optimizer(schedule=Schedule(peak=0.5, warmup_steps=0, decay='constant'), weight_decay=0.2).build(10)
  updates, _ = transform.update(zeros, transform.init(params), params)
  np.testing.assert_allclose(updates['mlp']['down'], -0.1, rtol=1e-5)
  np.testing.assert_allclose(updates['norm']['scale'], 0.0)
  clipped = optax.clip_by_global_norm(1.0).update({'x': jnp.full(4, 10.0)}, optax.EmptyState())[0]
  assert float(optax.tree.norm(clipped)) == pytest.approx(1.0)


def test_unknown_names_are_named():
  with pytest.raises(UserError, match='sgdw'):
    Optimizer(name='sgdw').build(10)
  with pytest.raises(UserError, match='float8'):
    Optimizer(moment_dtype='float8').build(10)
  with pytest.raises(UserError, match='step'):
    Schedule(decay='step').build(10)


def _params():
  decoder = Decoder(DecoderConfig(vocab_size=64, embed_dim=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8))
  return jax.tree.map(
    lambda x: x.value, state.init_params(decoder, jax.random.key(0)), is_leaf=lambda x: hasattr(x, 'names')
  )


def _gradients(params, seed: int):
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return tree.unflatten([jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)])


def test_lion_is_the_sign_of_interpolated_momentum():
  """Algorithm 2 of arXiv 2302.06675, by hand."""
  rate, b1, b2, decay = 0.01, 0.9, 0.99, 0.3
  schedule = Schedule(peak=rate, warmup_steps=0, decay='constant')
  transform = Optimizer(name='lion', schedule=schedule, b1=b1, b2=b2, weight_decay=decay, clip_norm=0).build(5)
  params = {'down': jnp.array([[0.5, -2.0]])}
  current, momentum = transform.init(params), np.zeros((1, 2))
  for gradient in ([[0.1, 0.2]], [[-0.3, 0.01]]):
    updates, current = transform.update({'down': jnp.array(gradient)}, current, params)
    want = -rate * (np.sign(b1 * momentum + (1 - b1) * np.array(gradient)) + decay * np.asarray(params['down']))
    np.testing.assert_allclose(updates['down'], want, rtol=1e-5)
    momentum = b2 * momentum + (1 - b2) * np.array(gradient)


def test_muon_makes_each_matrix_of_a_block_orthogonal_and_leaves_the_rest_to_adam():
  params = _params()
  schedule = Schedule(peak=1.0, warmup_steps=0, decay='constant')
  transform = Optimizer(name='muon', schedule=schedule, weight_decay=0.0, clip_norm=0).build(5)
  gradients = _gradients(params, 1)
  updates, _ = transform.update(gradients, transform.init(params), params)
  views = {
    'gate_up': lambda block: [block['mlp']['gate_up'][layer, :, gate] for layer in range(2) for gate in range(2)],
    'query': lambda block: [block['attention']['query'][layer].reshape(16, -1) for layer in range(2)],
    'out': lambda block: [block['attention']['out'][layer].reshape(-1, 16) for layer in range(2)],
    'down': lambda block: [block['mlp']['down'][layer] for layer in range(2)],
  }
  for view in views.values():
    for gradient, update in zip(view(gradients['blocks']), view(updates['blocks']), strict=True):
      left, _, right = np.linalg.svd(gradient, full_matrices=False)
      nearest = -left @ right  # the orthogonal factor, which Newton and Schulz's five steps approach
      cosine = (nearest * update).sum() / np.linalg.norm(nearest) / np.linalg.norm(update)
      assert cosine > 0.96
      assert np.sqrt((np.asarray(update) ** 2).mean()) == pytest.approx(0.2, rel=0.3)  # AdamW's size
  # Adam's first update is the sign of the gradient; Nesterov's look-ahead makes it 0.9 / (1 - 0.81) + 1 times as long.
  for leaf in ('embedding', 'final_norm'):
    gradient, update = (jax.tree.leaves(tree[leaf])[0] for tree in (gradients, updates))
    np.testing.assert_allclose(update, -(0.9 * 0.1 / 0.19 + 1.0) * np.sign(gradient), rtol=1e-3)


@pytest.mark.parametrize('name', ['adamw', 'adafactor', 'lion', 'muon'])
def test_moments_in_bfloat16_stay_close_to_float32(name):
  params = _params()
  schedule = Schedule(peak=0.01, warmup_steps=0, decay='constant')
  found = {}
  for dtype in ('float32', 'bfloat16'):
    transform = Optimizer(name=name, schedule=schedule, moment_dtype=dtype).build(9)
    current, now = transform.init(params), params
    for seed in range(3):
      updates, current = transform.update(_gradients(params, seed), current, now)
      assert {x.dtype for x in jax.tree.leaves(updates)} == {np.dtype('float32')}
      now = optax.apply_updates(now, updates)
    kept = {str(x.dtype) for x in jax.tree.leaves(current) if x.ndim and x.dtype != np.int32}
    assert kept == {dtype}
    found[dtype] = now
  moved = jax.tree.leaves(
    jax.tree.map(lambda a, b, start: jnp.abs(a - b).mean() / jnp.abs(b - start).mean(), *found.values(), params)
  )
  assert 0 < max(moved) < 0.05
