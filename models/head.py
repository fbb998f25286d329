"""The output head: cross-entropy in chunks, only where it is wanted.

No [batch, length, vocabulary] float32 array is ever alive: positions are scored `loss_chunk` at a time and each
chunk's logits are recomputed in the backward pass.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from . import layers, logical_axes
from .config import DecoderConfig

T = TypeVar('T')


class Scores(NamedTuple):
  """Per position, float32 [B, N]: -log p(target) and log of the partition function, in nats; int32 [B, N]: the best
  id.
  """

  cross_entropy: jax.Array
  log_partition: jax.Array
  best: jax.Array


def output_kernel(params: dict, config: DecoderConfig) -> jax.Array:
  """The [V, D] matrix of the head, from a decoder's unboxed parameters."""
  return params['embedding' if config.tied_embeddings else 'output']


def logits(hidden: jax.Array, params: dict, config: DecoderConfig) -> jax.Array:
  """Float32 logits [..., V] of hidden states [..., D]."""
  return _logits(hidden, output_kernel(params, config).astype(config.dtype))


def pick(hidden_BxLxD: jax.Array, index_BxN: jax.Array) -> jax.Array:
  """Hidden states at the given positions, [B, N, D]."""
  return jnp.take_along_axis(hidden_BxLxD, index_BxN[:, :, None], axis=1)


def scored_positions(weights_BxL: jax.Array, bound: int) -> jax.Array:
  """Indices of each row's positions with weight, in order, filled up with unweighted ones; int32 [B, min(L, bound)]."""
  length = weights_BxL.shape[1]
  if bound >= length:
    return jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), weights_BxL.shape)
  rank = jnp.where(weights_BxL != 0, 0, length) + jnp.arange(length)[None]
  return jnp.argsort(rank, axis=1)[:, :bound].astype(jnp.int32)


def score(hidden_BxNxD: jax.Array, targets_BxN: jax.Array, params: dict, config: DecoderConfig) -> Scores:
  """Scores of the targets, `config.loss_chunk` positions of each row at a time."""
  return score_by(hidden_BxNxD, targets_BxN, output_kernel(params, config), config)


def score_by(hidden_BxNxD: jax.Array, targets_BxN: jax.Array, kernel_VxD: jax.Array, config: DecoderConfig) -> Scores:
  """`score` by any matrix of rows for classes, placed as the output head's."""
  kernel = kernel_VxD.astype(config.dtype)
  # The kernel's gradient is summed before the blocks' backward passes begin: its float32 sum would outlive them.
  hidden, kernel = layers.materialised_gradient((hidden_BxNxD, kernel))
  return by_shard(functools.partial(_score_rows, chunk=config.loss_chunk), (hidden, targets_BxN), kernel)


def by_shard(of_rows: Callable[..., T], rows: tuple[jax.Array, ...], kernel_VxD: jax.Array, split: bool = True) -> T:
  """What `of_rows(rows, kernel, vocab_axis)` gives, [B, N, ...] or a tree of such, on whatever mesh there is.

  Each device goes through its own rows (and its part of their positions, where the sequence axis divides them) with its
  part of the vocabulary. So the kernel is gathered over fsdp once and its gradient is summed once, not with every
  chunk, and no device holds logits of the whole vocabulary.

  Args:
    of_rows: is given None for `vocab_axis` where the kernel is whole.
    rows: [B, N, ...] each.
    kernel_VxD: placed as the output head's.
    split: whether positions may be divided; not where one depends on others of its row.
  """
  mesh, (batch, count) = logical_axes.mesh(), rows[0].shape[:2]
  if mesh.empty or mesh.size == 1 or batch % logical_axes.batch_ways(mesh.shape):
    return of_rows(rows, kernel_VxD, None)

  def of_shard(rows: tuple[jax.Array, ...], kernel: jax.Array) -> T:
    # The gradient of what is gathered is a reduce-scatter.
    return of_rows(rows, jax.lax.all_gather(kernel, 'fsdp', axis=1, tiled=True), 'tensor')

  place = PartitionSpec(logical_axes.BATCH, 'sequence' if split and count % mesh.shape['sequence'] == 0 else None)
  return jax.shard_map(of_shard, in_specs=(place, PartitionSpec('tensor', 'fsdp')), out_specs=place, check_vma=False)(
    rows, kernel_VxD
  )


def _score_rows(rows: tuple[jax.Array, ...], kernel_VxD: jax.Array, vocab_axis: str | None, *, chunk: int) -> Scores:
  """Scores, `chunk` positions at a time, where V is this device's part of the vocabulary along `vocab_axis`."""
  hidden_BxNxD, targets_BxN = rows
  batch, count, width = hidden_BxNxD.shape
  chunks = max(1, -(-count // chunk))
  size = -(-count // chunks)
  padding = chunks * size - count
  hidden = jnp.pad(hidden_BxNxD, ((0, 0), (0, padding), (0, 0)))
  targets = jnp.pad(targets_BxN, ((0, 0), (0, padding)))
  dtype, kernel = kernel_VxD.dtype, kernel_VxD.astype(jnp.float32)  # so that chunks' gradients add up in float32

  def one(chunk: tuple[jax.Array, jax.Array]) -> Scores:
    hidden_BxCxD, targets_BxC = chunk
    return _scores_of(_logits(hidden_BxCxD, kernel.astype(dtype)), targets_BxC, vocab_axis)

  if chunks == 1:
    return Scores(*(x[:, :count] for x in one((hidden, targets))))
  split = jax.lax.map(
    jax.checkpoint(one),
    (hidden.reshape(batch, chunks, size, width).swapaxes(0, 1), targets.reshape(batch, chunks, size).swapaxes(0, 1)),
  )
  return Scores(*(x.swapaxes(0, 1).reshape(batch, chunks * size)[:, :count] for x in split))


def _scores_of(logits_BxCxV: jax.Array, targets_BxC: jax.Array, vocab_axis: str | None) -> Scores:
  """Scores by logits, whose vocabulary is split over `vocab_axis` unless that is None."""
  part = logits_BxCxV.shape[-1]
  highest, best = (reduce(logits_BxCxV, axis=-1) for reduce in (jnp.max, jnp.argmax))
  if vocab_axis is None:
    partition = jax.nn.logsumexp(logits_BxCxV, axis=-1)
    hit = jnp.take_along_axis(logits_BxCxV, targets_BxC[..., None], axis=-1)[..., 0]
    return Scores(partition - hit, partition, best.astype(jnp.int32))
  top = jax.lax.pmax(jax.lax.stop_gradient(highest), vocab_axis)
  partition = top + jnp.log(jax.lax.psum(jnp.exp(logits_BxCxV - top[..., None]).sum(axis=-1), vocab_axis))
  index, mine = layers.own_ids(targets_BxC, part, vocab_axis)
  hit = jnp.take_along_axis(logits_BxCxV, index[..., None], axis=-1)[..., 0]
  hit = jax.lax.psum(jnp.where(mine, hit, 0.0), vocab_axis)
  best += jax.lax.axis_index(vocab_axis) * part
  best = jax.lax.pmin(jnp.where(highest == top, best, jnp.iinfo(jnp.int32).max), vocab_axis)
  return Scores(partition - hit, partition, best.astype(jnp.int32))


def _logits(hidden: jax.Array, kernel_VxD: jax.Array) -> jax.Array:
  return jnp.einsum('...d,vd->...v', hidden, kernel_VxD, preferred_element_type=jnp.float32)
