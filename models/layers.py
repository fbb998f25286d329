"""Norm, rotary positions, attention block and gated MLP. Parameters carry logical axis names."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import attention, splash
from .config import DecoderConfig


def param(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int, dtype) -> jax.Array:
  """A matrix drawn from a truncated normal with variance 1 / fan_in, with logical axis names."""
  init = nn.initializers.truncated_normal(stddev=fan_in**-0.5)
  return module.param(name, nn.with_logical_partitioning(init, axes), shape, dtype)


class RMSNorm(nn.Module):
  """x / rms(x) * scale, in float32 (arXiv 1910.07467)."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    scale = self.param(
      'scale',
      nn.with_logical_partitioning(nn.initializers.ones, ('activation_embed',)),
      (self.config.embed_dim,),
      self.config.param_dtype,
    )
    x = x_BxLxD.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.config.norm_epsilon)
    return (x * scale.astype(jnp.float32)[None, None]).astype(self.config.dtype)


def rotate(x_BxLxHxE: jax.Array, positions_BxL: jax.Array, theta: float) -> jax.Array:
  """Rotary positions (arXiv 2104.09864), halves convention as in Llama's released weights on Hugging Face."""
  half = x_BxLxHxE.shape[-1] // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions_BxL[:, :, None, None].astype(jnp.float32) * frequency[None, None, None]
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  first, second = jnp.split(x_BxLxHxE.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x_BxLxHxE.dtype)


class Attention(nn.Module):
  """Self-attention with rotary positions and grouped-query heads.

  Attributes:
    kernel: the implementation, from `attention.kernel`; 'xla' takes a mask, the others none.
    causal: the order of all layers, for a kernel that takes no mask.
  """

  config: DecoderConfig
  kernel: str = 'xla'
  causal: bool = True

  @nn.compact
  def __call__(
    self, x_BxLxD: jax.Array, positions_BxL: jax.Array, segment_ids_BxL: jax.Array, visible_BxLxL: jax.Array | None
  ) -> jax.Array:
    c = self.config
    x = x_BxLxD.astype(c.dtype)

    def project(name: str, heads: int, axis: str) -> jax.Array:
      kernel = param(
        self, name, (c.embed_dim, heads, c.head_dim), ('embed', axis, 'head_dim'), c.embed_dim, c.param_dtype
      )
      return jnp.einsum('bld,dhe->blhe', x, kernel.astype(c.dtype))

    q = rotate(project('query', c.num_heads, 'heads'), positions_BxL, c.rope_theta)
    k = rotate(project('key', c.num_kv_heads, 'kv_heads'), positions_BxL, c.rope_theta)
    v = project('value', c.num_kv_heads, 'kv_heads')
    if visible_BxLxL is not None:
      mixed = attention.attend(q, k, v, visible_BxLxL)
    else:
      interpret = self.kernel == 'splash_interpret'
      mixed = splash.attend(q, k, v, segment_ids_BxL, causal=self.causal, interpret=interpret)
    width = c.num_heads * c.head_dim
    out = param(
      self, 'out', (c.num_heads, c.head_dim, c.embed_dim), ('heads', 'head_dim', 'embed'), width, c.param_dtype
    )
    return jnp.einsum('blhe,hed->bld', mixed, out.astype(c.dtype))


class GatedMLP(nn.Module):
  """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    c = self.config
    gate_up = param(self, 'gate_up', (c.embed_dim, 2, c.mlp_dim), ('embed', 'gate', 'mlp'), c.embed_dim, c.param_dtype)
    down = param(self, 'down', (c.mlp_dim, c.embed_dim), ('mlp', 'embed'), c.mlp_dim, c.param_dtype)
    both = jnp.einsum('bld,dgf->blgf', x_BxLxD.astype(c.dtype), gate_up.astype(c.dtype))
    return jnp.einsum('blf,fd->bld', nn.silu(both[:, :, 0]) * both[:, :, 1], down.astype(c.dtype))


class Block(nn.Module):
  """Pre-norm residual block: attention, then MLP. Written for `nn.scan`: carries x, returns no output.

  `masks` holds one mask for every layer, or two, of which `ordered` chooses the first, or none for a kernel that makes
  its own.
  """

  config: DecoderConfig
  kernel: str = 'xla'
  causal: bool = True

  @nn.compact
  def __call__(
    self,
    x_BxLxD: jax.Array,
    ordered: jax.Array,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    masks_BxLxL: tuple[jax.Array, ...],
  ) -> tuple[jax.Array, None]:
    axes = ('batch', 'length', 'activation_embed')
    mask = None
    if masks_BxLxL:
      mask = masks_BxLxL[0] if len(masks_BxLxL) == 1 else jnp.where(ordered, *masks_BxLxL)
    x = nn.with_logical_constraint(x_BxLxD, axes)
    x = x + Attention(self.config, self.kernel, self.causal, name='attention')(
      RMSNorm(self.config, name='attention_norm')(x), positions_BxL, segment_ids_BxL, mask
    )
    x = x + GatedMLP(self.config, name='mlp')(RMSNorm(self.config, name='mlp_norm')(x))
    return nn.with_logical_constraint(x, axes), None
