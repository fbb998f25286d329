"""Which tokens a passage holds, by its largest logits: DupMAE's bag of words (arXiv 2211.08769, 2305.02564).

Each id's logits are pooled over a passage's positions by their maximum; the softmax of what comes out is compared with
the passage's tokens. No [batch, length, vocabulary] array is ever alive: the vocabulary is gone through in parts, each
computed again in the backward pass, and each device of a mesh has its own rows and its own share of the vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from . import head, layers
from .config import DecoderConfig

_LOWEST = -1e30  # the logit of what is not pooled: finite, so that a passage without any has finite numbers
_ALIVE = 5  # arrays of a part's size that its backward pass holds: parts are as much smaller than the head's chunks


def cross_entropy(
  hidden_BxLxD: jax.Array,
  pooled_BxL: jax.Array,
  segment_ids_BxL: jax.Array,
  targets_BxL: jax.Array,
  params: dict,
  config: DecoderConfig,
) -> jax.Array:
  """-log softmax(largest logits of a position's segment)[its target], float32 [B, L], nats.

  Args:
    hidden_BxLxD: what the output head reads.
    pooled_BxL: bool, positions whose logits count; of a segment without any the result means nothing.
    segment_ids_BxL: int32; the positions of a segment stand side by side.
    targets_BxL: int32.
    params, config: of the decoder, unboxed.
  """
  kernel = head.output_kernel(params, config).astype(config.dtype)
  hidden, kernel = layers.materialised_gradient((hidden_BxLxD, kernel))
  rows = hidden, pooled_BxL, segment_ids_BxL, targets_BxL
  parts = max(1, -(-_ALIVE * hidden.shape[1] // config.loss_chunk))
  # Whole rows: a segment's maximum is over all of its positions.
  return head.by_shard(functools.partial(_of_rows, parts=parts), rows, kernel, split=False)


def _of_rows(rows: tuple[jax.Array, ...], kernel_VxD: jax.Array, vocab_axis: str | None, *, parts: int) -> jax.Array:
  """Of some rows, where V is this device's part of the vocabulary along `vocab_axis`."""
  hidden_BxLxD, pooled, segments, targets = rows
  vocabulary, width = kernel_VxD.shape
  size = -(-vocabulary // parts)
  parts = -(-vocabulary // size)
  own, mine = (targets, None) if vocab_axis is None else layers.own_ids(targets, vocabulary, vocab_axis)
  dtype = kernel_VxD.dtype
  kernel = jnp.pad(kernel_VxD.astype(jnp.float32), ((0, parts * size - vocabulary), (0, 0)))
  whole = hidden_BxLxD.astype(jnp.float32)  # so that its gradient adds up over the parts in float32

  def one(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    first, kernel_CxD = part
    hidden_NxD, kernel_CxD = whole.astype(dtype).reshape(-1, width), kernel_CxD.astype(dtype)
    # Products of matrices: of [B, L, C] gradients a CPU would have the steps before them in the products' own layout.
    logits = jnp.einsum('nd,vd->nv', hidden_NxD, kernel_CxD, preferred_element_type=jnp.float32)
    logits = logits.reshape(*targets.shape, size)
    real = (first + jnp.arange(size) < vocabulary)[None, None]
    logits = jnp.where(pooled[..., None] & real, logits, _LOWEST)
    index = own - first
    here = (index >= 0) & (index < size)
    partition, hit = _largest(logits, segments, jnp.clip(index, 0, size - 1))
    return partition, jnp.where(here, hit, 0.0)

  firsts = jnp.arange(parts, dtype=jnp.int32) * size
  partitions, hits = jax.lax.map(jax.checkpoint(one), (firsts, kernel.reshape(parts, size, width)))
  partition, hit = jax.nn.logsumexp(partitions, axis=0), hits.sum(axis=0)
  if vocab_axis is not None and mine is not None:
    top = jax.lax.pmax(jax.lax.stop_gradient(partition), vocab_axis)
    partition = top + jnp.log(jax.lax.psum(jnp.exp(partition - top), vocab_axis))
    hit = jax.lax.psum(jnp.where(mine, hit, 0.0), vocab_axis)
  return partition - hit


@jax.custom_vjp
def _largest(logits_BxLxC: jax.Array, segments_BxL: jax.Array, targets_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Of the largest logits of each position's segment: their logsumexp, and that of the target; float32 [B, L] each.

  The gradient goes to the first of the positions that have the largest. It is written out, since differentiation would
  keep what the maximum goes through on its way, a dozen arrays of the logits' size.
  """
  return _forward(logits_BxLxC, segments_BxL, targets_BxL)[0]


def _forward(logits: jax.Array, segments: jax.Array, targets: jax.Array) -> tuple:
  so_far, ends, rows = _so_far(logits, segments), _ends(segments), _rows(segments)
  partition = jnp.take_along_axis(jax.nn.logsumexp(so_far, axis=-1), ends, axis=1)
  return (partition, so_far[rows, ends, targets]), (logits, so_far, segments, targets, partition)


def _backward(kept: tuple, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None, None]:
  logits, so_far, segments, targets, partition = kept
  of_partition, of_hit = gradients
  ends = _ends(segments)
  at_ends = lambda values: jnp.take_along_axis(values, ends[..., None], axis=1)
  largest = at_ends(so_far)
  same = segments[:, :, None] == segments[:, None, :]
  whole = jnp.einsum('blm,bm->bl', same.astype(jnp.float32), of_partition)  # a segment's positions share its largest
  at_targets = jnp.zeros_like(logits).at[_rows(segments), ends, targets].add(of_hit)
  gradient = whole[..., None] * jnp.exp(largest - partition[..., None]) + at_ends(at_targets)
  reached = jnp.pad(so_far[:, :-1], ((0, 0), (1, 0), (0, 0))) == largest  # by a position before
  first = (logits == largest) & ~(reached & _same_as(segments, 1)[..., None])
  return jnp.where(first, gradient, 0.0), None, None


_largest.defvjp(_forward, _backward)


def _so_far(values_BxLxC: jax.Array, segments_BxL: jax.Array) -> jax.Array:
  """The maximum over each position and those before it in its segment, by doubling."""
  length = segments_BxL.shape[1]
  steps = [1 << k for k in range((length - 1).bit_length())]

  def double(values: jax.Array, step: int) -> jax.Array:
    first, later, same = values[:, :step], values[:, step:], _same_as(segments_BxL, step)[:, step:, None]
    grown = jnp.concatenate([first, jnp.where(same, jnp.maximum(later, values[:, :-step]), later)], axis=1)
    # Fused with the next one, each number would be found from 2, 4, 8, ... others: 4 times as long on a CPU.
    return jax.lax.optimization_barrier(grown)

  return functools.reduce(double, steps, values_BxLxC)


def _same_as(segments_BxL: jax.Array, step: int) -> jax.Array:
  """Whether the position `step` before is there, and in the same segment; bool [B, L]."""
  return segments_BxL == jnp.pad(segments_BxL[:, :-step], ((0, 0), (step, 0)), constant_values=-1)


def _ends(segments_BxL: jax.Array) -> jax.Array:
  """Where each position's segment ends; int32 [B, L]."""
  length = segments_BxL.shape[1]
  last = segments_BxL != jnp.pad(segments_BxL[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
  return jax.lax.cummin(jnp.where(last, jnp.arange(length, dtype=jnp.int32)[None], length), axis=1, reverse=True)


def _rows(segments_BxL: jax.Array) -> jax.Array:
  """Each row's number; int32 [B, 1]."""
  return jnp.arange(segments_BxL.shape[0])[:, None]
