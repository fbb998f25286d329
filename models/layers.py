"""Norm, rotary positions, attention block and gated MLP. Parameters carry logical axis names."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from . import attention, logical_axes, splash
from .config import DecoderConfig

Rotary = tuple[jax.Array, jax.Array]


def param(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int, dtype) -> jax.Array:
  """A matrix drawn from a truncated normal with variance 1 / fan_in, with logical axis names."""
  init = nn.initializers.truncated_normal(stddev=fan_in**-0.5)
  return module.param(name, nn.with_logical_partitioning(init, axes), shape, dtype)


def lookup(table_VxD: jax.Array, tokens_BxL: jax.Array) -> jax.Array:
  """Rows of the embedding table, [B, L, D].

  Where the vocabulary is split over tensor, by hand: the table is gathered over fsdp like any weight, each part finds
  its own ids, and the parts are added up. Left to itself the partitioner gathers the vocabulary, even over data.
  """
  mesh = logical_axes.mesh()
  if mesh.empty or mesh.shape['tensor'] == 1 or tokens_BxL.shape[0] % logical_axes.batch_ways(mesh.shape):
    return table_VxD[tokens_BxL]

  def of_part(table: jax.Array, tokens: jax.Array) -> jax.Array:
    table = jax.lax.all_gather(table, 'fsdp', axis=1, tiled=True)
    index, mine = own_ids(tokens, table.shape[0], 'tensor')
    return jax.lax.psum(jnp.where(mine[..., None], table[index], 0), 'tensor')

  rows = PartitionSpec(logical_axes.BATCH, 'sequence')
  split = jax.shard_map(of_part, in_specs=(PartitionSpec('tensor', 'fsdp'), rows), out_specs=rows, check_vma=False)
  return split(table_VxD, tokens_BxL)


def own_ids(ids: jax.Array, part: int, axis: str) -> tuple[jax.Array, jax.Array]:
  """Of a vocabulary split over a mesh axis: where ids stand in this device's `part` of it, and whether they do.

  The place of one that does not is any.
  """
  index = ids - jax.lax.axis_index(axis) * part
  return jnp.clip(index, 0, part - 1), (index >= 0) & (index < part)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scaled(x_BxLxD: jax.Array, scale_D: jax.Array, dtype: str) -> jax.Array:
  """x * scale in float32, given in `dtype`; the scale's gradient is summed in `dtype`, with the other parameters'."""
  return (x_BxLxD * scale_D.astype(jnp.float32)[None, None]).astype(dtype)


def _scaled_backward(dtype: str, kept: tuple[jax.Array, jax.Array], g_BxLxD: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, scale = kept
  times = lambda scale: x.astype(dtype) * scale.astype(dtype)[None, None]
  return g_BxLxD.astype(jnp.float32) * scale.astype(jnp.float32)[None, None], jax.vjp(times, scale)[1](g_BxLxD)[0]


_scaled.defvjp(lambda x, scale, dtype: (_scaled(x, scale, dtype), (x, scale)), _scaled_backward)


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
    return _scaled(x, scale, self.config.dtype)


def rotary_tables(positions_BxL: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
  """Sine and cosine of every position's angles (arXiv 2104.09864), float32 [B, L, head_dim / 2]."""
  half = head_dim // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions_BxL[:, :, None].astype(jnp.float32) * frequency[None, None]
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BxLxHxE: jax.Array, sin_BxLxe: jax.Array, cos_BxLxe: jax.Array) -> jax.Array:
  """Rotary positions, halves convention as in Llama's released weights on Hugging Face; float32 inside.

  On TPU the halves change places by a product with a signed permutation, which is exact and which the matrix unit does
  in passing: slices of half a register's lanes cost several times more there.
  """
  sin, cos = sin_BxLxe[:, :, None], cos_BxLxe[:, :, None]
  if attention.platform() == 'tpu':
    half = x_BxLxHxE.shape[-1] // 2
    turn = jnp.kron(jnp.array([[0, 1], [-1, 0]]), jnp.eye(half)).astype(x_BxLxHxE.dtype)
    turned = jnp.einsum('blhe,ef->blhf', x_BxLxHxE, turn).astype(jnp.float32)
    sin, cos = jnp.concatenate([sin, sin], axis=-1), jnp.concatenate([cos, cos], axis=-1)
    return (x_BxLxHxE.astype(jnp.float32) * cos + turned * sin).astype(x_BxLxHxE.dtype)
  first, second = jnp.split(x_BxLxHxE.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x_BxLxHxE.dtype)


@jax.custom_vjp
def materialised_gradient(x: Any) -> Any:
  """`x`; its gradient is computed once and kept, not again inside every product that reads it."""
  return x


materialised_gradient.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.optimization_barrier(g),))


class Attention(nn.Module):
  """Attention with rotary positions and grouped-query heads: to itself, or to a memory of as many positions.

  Attributes:
    kernel: the implementation, from `attention.kernel`; 'xla' and 'cudnn' take a mask, the others none.
    causal: whether all layers are ordered.
  """

  config: DecoderConfig
  kernel: str = 'xla'
  causal: bool = True

  @nn.compact
  def __call__(
    self,
    x_BxLxD: jax.Array,
    rotary: Rotary,
    segment_ids_BxL: jax.Array,
    visible_BxLxL: jax.Array | None,
    memory_BxLxD: jax.Array | None = None,
  ) -> jax.Array:
    c = self.config
    x = x_BxLxD.astype(c.dtype)
    memory = x if memory_BxLxD is None else memory_BxLxD.astype(c.dtype)

    def project(name: str, x: jax.Array, heads: int, axis: str) -> jax.Array:
      kernel = param(
        self, name, (c.embed_dim, heads, c.head_dim), ('embed', axis, 'head_dim'), c.embed_dim, c.param_dtype
      )
      return jnp.einsum('bld,dhe->blhe', x, kernel.astype(c.dtype))

    q = checkpoint_name(rotate(project('query', x, c.num_heads, 'heads'), *rotary), 'query')
    k = checkpoint_name(rotate(project('key', memory, c.num_kv_heads, 'kv_heads'), *rotary), 'key')
    v = checkpoint_name(project('value', memory, c.num_kv_heads, 'kv_heads'), 'value')
    if visible_BxLxL is not None:
      implementation = 'cudnn' if self.kernel == 'cudnn' else 'xla'
      mixed = attention.attend(q, k, v, visible_BxLxL, causal=self.causal, implementation=implementation)
      mixed = checkpoint_name(mixed, 'context')
    else:
      interpret = self.kernel == 'splash_interpret'
      mixed = splash.attend(q, k, v, segment_ids_BxL, causal=self.causal, interpret=interpret)
    width = c.num_heads * c.head_dim
    out = param(
      self, 'out', (c.num_heads, c.head_dim, c.embed_dim), ('heads', 'head_dim', 'embed'), width, c.param_dtype
    )
    return checkpoint_name(jnp.einsum('blhe,hed->bld', mixed, out.astype(c.dtype)), 'attention_out')


class GatedMLP(nn.Module):
  """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    c = self.config
    gate_up = param(self, 'gate_up', (c.embed_dim, 2, c.mlp_dim), ('embed', 'gate', 'mlp'), c.embed_dim, c.param_dtype)
    down = param(self, 'down', (c.mlp_dim, c.embed_dim), ('mlp', 'embed'), c.mlp_dim, c.param_dtype)
    x, kernels = x_BxLxD.astype(c.dtype), gate_up.astype(c.dtype)
    if attention.platform() == 'tpu':
      # Two products: the second ends in silu(gate) * up, which else the next one would compute for each of its tiles.
      gate, up = (jnp.einsum('bld,df->blf', x, kernels[:, i]) for i in (0, 1))
    else:
      both = jnp.einsum('bld,dgf->blgf', x, kernels)
      gate, up = both[:, :, 0], both[:, :, 1]
    gate, up = materialised_gradient((checkpoint_name(gate, 'gate_up'), checkpoint_name(up, 'gate_up')))
    return jnp.einsum('blf,fd->bld', nn.silu(gate) * up, down.astype(c.dtype))


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
    rotary: Rotary,
    segment_ids_BxL: jax.Array,
    masks_BxLxL: tuple[jax.Array, ...],
  ) -> tuple[jax.Array, None]:
    axes = ('batch', 'length', 'activation_embed')
    mask = None
    if masks_BxLxL:
      mask = masks_BxLxL[0] if len(masks_BxLxL) == 1 else jnp.where(ordered, *masks_BxLxL)
    x = nn.with_logical_constraint(x_BxLxD, axes)
    x = x + Attention(self.config, self.kernel, self.causal, name='attention')(
      RMSNorm(self.config, name='attention_norm')(x), rotary, segment_ids_BxL, mask
    )
    x = x + GatedMLP(self.config, name='mlp')(RMSNorm(self.config, name='mlp_norm')(x))
    return nn.with_logical_constraint(x, axes), None
