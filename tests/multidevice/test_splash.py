"""Splash attention, run step by step on CPU, against plain products: values and gradients, alone and sharded."""

import contextlib
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unmask.launch.mesh import MeshConfig
from unmask.models import attention, logical_axes, splash
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder

MESHES = {
  'alone': None,
  'fsdp x tensor': MeshConfig(data=2, fsdp=2, tensor=2),
  'sequence': MeshConfig(data=1, fsdp=2, sequence=4),
  'all': MeshConfig(data=1, fsdp=2, sequence=2, tensor=2),
}


def _segments(generator, batch: int, length: int) -> np.ndarray:
  """Three segments of random sizes and some padding."""
  segments = np.sort(generator.integers(1, 4, (batch, length)), axis=1).astype(np.int32)
  segments[:, length - 9 :] = 0
  return segments


def _on(mesh_name: str):
  config = MESHES[mesh_name]
  return contextlib.nullcontext() if config is None else jax.set_mesh(config.build())


@pytest.mark.parametrize(
  ('mesh_name', 'length', 'heads', 'kv_heads'), [('alone', 256, 4, 4), *((name, 200, 4, 2) for name in MESHES)]
)
@pytest.mark.parametrize('causal', [True, False])
def test_values_and_gradients(mesh_name, causal, length, heads, kv_heads):
  generator = np.random.default_rng(0)
  q, k, v = (generator.normal(size=(4, length, h, 32)).astype(np.float32) for h in (heads, kv_heads, kv_heads))
  segments = jnp.asarray(_segments(generator, 4, length))
  real = (segments > 0)[:, :, None, None]  # what padding sees means nothing
  seen = attention.visible(segments, causal)
  plain = lambda q, k, v: attention.attend(q, k, v, seen) * real
  fast = lambda q, k, v: splash.attend(q, k, v, segments, causal=causal, interpret=True) * real
  both = lambda f: jax.jit(lambda *x: (f(*x), jax.grad(lambda *x: jnp.square(f(*x)).sum(), argnums=(0, 1, 2))(*x)))
  expected = both(plain)(q, k, v)
  with _on(mesh_name):
    found = both(fast)(q, k, v)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=5e-5), found, expected)


@pytest.mark.parametrize('ordered', [True, False])
def test_a_decoder_takes_either(ordered):
  config = DecoderConfig(
    vocab_size=128, embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48
  )
  generator = np.random.default_rng(1)
  tokens, segments = generator.integers(0, 128, (2, 140)), _segments(generator, 2, 140)
  positions = np.tile(np.arange(140), (2, 1))
  params = Decoder(config).init(jax.random.key(0), tokens, positions, segments)

  def hidden(which: str) -> np.ndarray:
    decoder = Decoder(dataclasses.replace(config, attention=which))
    with nn.logical_axis_rules(logical_axes.RULES):
      return np.where((segments > 0)[..., None], decoder.apply(params, tokens, positions, segments, ordered=ordered), 0)

  np.testing.assert_allclose(hidden('splash_interpret'), hidden('xla'), rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(hidden('auto'), hidden('xla'))  # this is no TPU
