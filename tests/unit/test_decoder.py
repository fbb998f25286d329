"""The decoder: who sees whom, positions, heads, chunks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from unmask import UserError
from unmask.models import attention, head, layers
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder

CONFIG = DecoderConfig(vocab_size=64, embed_dim=32, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48)


def _setup(config=CONFIG, batch=3, length=20, seed=0):
  rng = np.random.default_rng(seed)
  tokens = jnp.asarray(rng.integers(0, 64, (batch, length)), jnp.int32)
  segments = jnp.asarray(np.sort(rng.integers(1, 4, (batch, length)), axis=1), jnp.int32).at[:, -3:].set(0)
  positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
  decoder = Decoder(config)
  params = nn.unbox(decoder.init(jax.random.key(seed), tokens, positions, segments))['params']
  apply = jax.jit(
    lambda tokens, **kw: decoder.apply({'params': params}, tokens, positions, segments, **kw),
    static_argnames=('ordered', 'table'),
  )
  return decoder, params, tokens, segments, apply


@pytest.mark.parametrize('ordered', [True, False, (True, False, True), (True, True, False)])
def test_outputs_depend_on_exactly_what_may_be_seen(ordered):
  _, _, tokens, segments, apply = _setup()
  out = apply(tokens, ordered=ordered)
  layers_ordered = (ordered,) * 3 if isinstance(ordered, bool) else ordered
  # Reach: what a position's output may depend on through all layers.
  segments_np = np.asarray(segments)
  for b in range(3):
    same = (segments_np[b][:, None] == segments_np[b][None]) & (segments_np[b] > 0)[:, None] | np.eye(20, dtype=bool)
    reach = np.eye(20, dtype=bool)
    for layer in layers_ordered:
      see = same & (np.tri(20, dtype=bool) if layer else True) | np.eye(20, dtype=bool)
      reach = see @ reach
    for changed in (0, 7, 13):
      other = apply(tokens.at[b, changed].set((tokens[b, changed] + 1) % 64), ordered=ordered)
      moved = np.abs(np.asarray(other - out))[b].max(axis=-1) > 0
      real = segments_np[b] > 0
      np.testing.assert_array_equal(moved[real], reach[:, changed][real])
      assert (other[np.arange(3) != b] == out[np.arange(3) != b]).all()


def test_visible_is_the_rule():
  rng = np.random.default_rng(0)
  segments, levels, groups = rng.integers(0, 3, (2, 9)), rng.integers(0, 4, (2, 9)), rng.integers(0, 3, (2, 9))
  table = ((True, False, True), (False, True, False), (True, True, False))
  for ordered in (True, False):
    seen = attention.visible(*map(jnp.asarray, (segments,)), ordered, jnp.asarray(levels), jnp.asarray(groups), table)
    for b in range(2):
      for i in range(9):
        for j in range(9):
          shared = segments[b, i] == segments[b, j] != 0
          rule = i == j or (table[groups[b, i]][groups[b, j]] and (not ordered or levels[b, j] <= levels[b, i]))
          assert bool(seen[b, i, j]) == (shared and rule)


def test_attention_matches_a_plain_one():
  rng = np.random.default_rng(1)
  q, k, v = (rng.normal(size=(2, 7, h, 8)).astype(np.float32) for h in (4, 2, 2))
  mask = rng.random((2, 7, 7)) < 0.6
  mask |= np.eye(7, dtype=bool)
  got = attention.attend(*map(jnp.asarray, (q, k, v)), jnp.asarray(mask))
  for h in range(4):
    scores = np.einsum('ble,bme->blm', q[:, :, h], k[:, :, h // 2]) / 8**0.5
    weights = np.exp(np.where(mask, scores, -np.inf))
    plain = np.einsum('blm,bme->ble', weights / weights.sum(-1, keepdims=True), v[:, :, h // 2])
    np.testing.assert_allclose(got[:, :, h], plain, atol=1e-5)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_rotary_products_depend_on_distance_only(platform, monkeypatch):
  monkeypatch.setattr(attention, 'platform', lambda: platform)
  rng = np.random.default_rng(2)
  q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 16)), jnp.float32) for _ in range(2))
  at = lambda x, position: layers.rotate(x, *layers.rotary_tables(jnp.array([[position]]), 16, 10_000.0))
  for distance in (0, 3, 11):
    products = [float((at(q, start + distance) * at(k, start)).sum()) for start in (0, 5, 90)]
    np.testing.assert_allclose(products, products[0], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(at(q, 0), q, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_both_ways_to_swap_halves_give_the_same_bits(dtype, monkeypatch):
  rng = np.random.default_rng(4)
  x = jnp.asarray(rng.normal(size=(2, 9, 3, 16)), dtype)
  tables = layers.rotary_tables(jnp.asarray(rng.integers(0, 5000, (2, 9))), 16, 10_000.0)
  found = {}
  for platform in ('cpu', 'tpu'):
    monkeypatch.setattr(attention, 'platform', lambda platform=platform: platform)
    found[platform] = layers.rotate(x, *tables)
  np.testing.assert_array_equal(found['cpu'], found['tpu'])


def test_padding_and_neighbouring_segments_leave_no_trace():
  decoder, params, tokens, _, _ = _setup()
  alone = decoder.apply(
    {'params': params}, tokens[:1, :8], jnp.arange(8)[None], jnp.ones((1, 8), jnp.int32), ordered=False
  )
  segments = jnp.array([[1] * 8 + [2] * 9 + [0] * 3])
  positions = jnp.concatenate([jnp.arange(8), jnp.arange(9), jnp.zeros(3, jnp.int32)])[None]
  packed = decoder.apply({'params': params}, tokens[:1], positions, segments, ordered=False)
  np.testing.assert_allclose(packed[:, :8], alone, atol=1e-5)


POLICIES = ('minimal_with_context', 'minimal', 'save_qkv_proj', 'save_context', 'full')


@pytest.mark.parametrize('change', [{'scan_unroll': 3}, *({'remat': policy} for policy in POLICIES)], ids=str)
def test_memory_settings_do_not_change_values_or_gradients(change):
  _, params, tokens, segments, _ = _setup()
  positions = jnp.broadcast_to(jnp.arange(20), tokens.shape)

  def loss(params, config):
    return (Decoder(config).apply({'params': params}, tokens, positions, segments) ** 2).mean()

  want = jax.value_and_grad(loss)(params, CONFIG)
  got = jax.value_and_grad(loss)(params, dataclasses.replace(CONFIG, **change))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), want, got)


@pytest.mark.parametrize('tied', [True, False])
def test_scores_in_chunks_equal_scores_from_all_logits(tied):
  config = dataclasses.replace(CONFIG, tied_embeddings=tied)
  _, params, tokens, _, _ = _setup(config)
  hidden = jax.random.normal(jax.random.key(5), (3, 20, 32))
  whole = jax.nn.log_softmax(head.logits(hidden, params, config))
  want = -jnp.take_along_axis(whole, tokens[..., None], axis=-1)[..., 0]
  for chunk in (1, 6, 7, 20, 64):
    scores = head.score(hidden, tokens, params, dataclasses.replace(config, loss_chunk=chunk))
    np.testing.assert_allclose(scores.cross_entropy, want, atol=1e-5)
    np.testing.assert_array_equal(scores.best, whole.argmax(-1))
  gradient = lambda chunk: jax.grad(
    lambda p: head.score(hidden, tokens, p, dataclasses.replace(config, loss_chunk=chunk)).cross_entropy.sum()
  )(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), gradient(6), gradient(64))


def test_scored_positions_are_found_in_order():
  weights = jnp.array([[0, 1, 0, 0.5, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]])
  index = head.scored_positions(weights, 3)
  assert index[0].tolist() == [1, 3, 5]
  assert index[1, 0] == 5
  picked = jnp.take_along_axis(weights, index, axis=1)
  np.testing.assert_allclose(picked.sum(1), weights.sum(1))
  assert head.scored_positions(weights, 9).shape == (3, 6)


def test_configuration_names_its_mistakes():
  with pytest.raises(UserError, match='num_kv_heads=3 does not divide num_heads=4'):
    DecoderConfig(num_heads=4, num_kv_heads=3)
  with pytest.raises(UserError, match='head_dim=7'):
    DecoderConfig(head_dim=7)
  with pytest.raises(UserError, match='remat'):
    DecoderConfig(remat='some')
  with pytest.raises(UserError, match='vocab_size=64 is below the vocabulary of 100'):
    CONFIG.with_vocabulary(100)
  assert DecoderConfig().with_vocabulary(8193).vocab_size == 8320


def test_parameter_count_is_the_documented_one():
  params = _setup()[1]
  blocks = sum(x.size for path, x in jax.tree_util.tree_leaves_with_path(params['blocks']) if path[-1].key != 'scale')
  assert blocks == CONFIG.block_params
