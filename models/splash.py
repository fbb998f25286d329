"""Causal and bidirectional attention inside segments by Pallas's splash kernel, for TPU.

No L x L array exists: blocks of the mask that hold nothing are not computed, segments are compared block by block. The
batch is split over the mesh's data and fsdp axes, heads over tensor, queries over sequence; keys and values of a
sequence shard are gathered.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel_lib
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as mask_lib
from jax.sharding import NamedSharding, PartitionSpec

from . import logical_axes

LANES = 128  # of a TPU register: the kernel's blocks are multiples of it
_LARGEST_BLOCK = 512


def attend(
  q_BxLxHxE: jax.Array,
  k_BxLxKxE: jax.Array,
  v_BxLxKxE: jax.Array,
  segment_ids_BxL: jax.Array,
  *,
  causal: bool,
  interpret: bool = False,
) -> jax.Array:
  """Scaled dot-product attention with grouped queries; softmax in float32. Returns [B, L, H, E] in q's dtype.

  Args:
    q_BxLxHxE, k_BxLxKxE, v_BxLxKxE: K divides H.
    segment_ids_BxL: int32; a token sees its own segment alone. What padding (0) sees means nothing.
    causal: whether a token sees only itself and tokens before it.
    interpret: run the kernel in plain JAX, on any device.
  """
  length, heads, width = q_BxLxHxE.shape[1:]
  mesh = logical_axes.mesh()
  shards = 1 if mesh.empty else mesh.shape['sequence']
  unit = LANES * shards
  padding = -length % unit
  pad = lambda x: jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
  q, k, v = (pad(x).swapaxes(1, 2) for x in (q_BxLxHxE * width**-0.5, k_BxLxKxE, v_BxLxKxE))
  segments = pad(segment_ids_BxL)
  head_shards = 1 if mesh.empty else mesh.shape['tensor']
  # Without an order all queries see alike: each shard of them takes the same kernel, made for its own number.
  size, kernel_shards = (length + padding, shards) if causal else ((length + padding) // shards, 1)
  kernel = _kernel(heads, size, length + padding, causal, head_shards, kernel_shards, interpret)
  attend_shard = lambda kernel, *arrays: jax.vmap(_one_row, in_axes=(None, 0, 0, 0, 0, 0))(kernel, *arrays)
  if not mesh.empty:
    rows, keys = PartitionSpec(logical_axes.BATCH, 'tensor', 'sequence'), PartitionSpec(logical_axes.BATCH, 'tensor')
    over_queries = 'sequence' if causal else None
    parts = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec('tensor', over_queries)))
    attend_shard = jax.shard_map(
      attend_shard,
      in_specs=(
        parts,
        rows,
        keys,
        keys,
        PartitionSpec(logical_axes.BATCH, 'sequence'),
        PartitionSpec(logical_axes.BATCH),
      ),
      out_specs=rows,
      check_vma=False,
    )
  return attend_shard(kernel, q, k, v, segments, segments).swapaxes(1, 2)[:, :length]


def _one_row(kernel, q_HxLxE, k_KxLxE, v_KxLxE, q_segments_L, kv_segments_L) -> jax.Array:
  return kernel(q_HxLxE, k_KxLxE, v_KxLxE, kernel_lib.SegmentIds(q_segments_L, kv_segments_L))


@functools.lru_cache(maxsize=16)
def _mask(heads: int, queries: int, keys: int, causal: bool) -> mask_lib.MultiHeadMask:
  make = mask_lib.CausalMask if causal else mask_lib.FullMask
  return mask_lib.MultiHeadMask([make((queries, keys)) for _ in range(heads)])


def _kernel(heads: int, queries: int, keys: int, causal: bool, head_shards: int, query_shards: int, interpret: bool):
  """The kernel for one device mesh; its blocks are the largest multiple of 128 up to 512 that divides a shard."""
  largest = lambda length: max(size for size in range(LANES, _LARGEST_BLOCK + 1, LANES) if length % size == 0)
  block, key_block = largest(queries // query_shards), largest(keys)
  blocks = kernel_lib.BlockSizes(
    block_q=block,
    block_kv=key_block,
    block_q_dkv=block,
    block_kv_dkv=key_block,
    block_q_dq=block,
    block_kv_dq=key_block,
  )
  return kernel_lib.make_splash_mha(
    _mask(heads, queries, keys, causal),
    block_sizes=blocks,
    head_shards=head_shards,
    q_seq_shards=query_shards,
    interpret=interpret,
    residual_checkpoint_name='context',
  )
