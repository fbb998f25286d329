"""The output head: cross-entropy in chunks, only where it is wanted.

No [batch, length, vocabulary] float32 array is ever alive: positions are scored `loss_chunk` at a time and each
chunk's logits are recomputed in the backward pass.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from . import layers, logical_axes
from .config import DecoderConfig


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
  """Scores of the targets, `config.loss_chunk` positions of each row at a time.

  Each device of the mesh's data and fsdp axes goes through its own rows with the whole kernel, or its vocabulary's part
  of it: the kernel is gathered once and its gradient summed once, not with every chunk.
  """
  kernel = output_kernel(params, config).astype(config.dtype)
  # The kernel's gradient is summed before the blocks' backward passes begin: its float32 sum would outlive them.
  hidden, kernel = layers.materialised_gradient((hidden_BxNxD, kernel))
  score_rows = functools.partial(_score_rows, chunk=config.loss_chunk)
  mesh = jax.sharding.get_abstract_mesh()
  ways = 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in logical_axes.BATCH)
  if ways > 1 and hidden_BxNxD.shape[0] % ways == 0:
    rows = PartitionSpec(logical_axes.BATCH)
    whole = lambda kernel: jax.lax.all_gather(kernel, 'fsdp', axis=1, tiled=True)  # and its gradient: reduce-scatter
    score_shard = score_rows
    score_rows = jax.shard_map(
      lambda hidden, targets, kernel: score_shard(hidden, targets, whole(kernel)),
      in_specs=(rows, rows, PartitionSpec(None, 'fsdp')),
      out_specs=rows,
      axis_names=set(logical_axes.BATCH),
      check_vma=False,
    )
  return score_rows(hidden, targets_BxN, kernel)


def _score_rows(hidden_BxNxD: jax.Array, targets_BxN: jax.Array, kernel_VxD: jax.Array, chunk: int) -> Scores:
  batch, count, width = hidden_BxNxD.shape
  chunks = max(1, -(-count // chunk))
  size = -(-count // chunks)
  padding = chunks * size - count
  hidden = jnp.pad(hidden_BxNxD, ((0, 0), (0, padding), (0, 0)))
  targets = jnp.pad(targets_BxN, ((0, 0), (0, padding)))
  dtype, kernel = kernel_VxD.dtype, kernel_VxD.astype(jnp.float32)  # so that chunks' gradients add up in float32

  def one(chunk: tuple[jax.Array, jax.Array]) -> Scores:
    hidden_BxCxD, targets_BxC = chunk
    logits_BxCxV = _logits(hidden_BxCxD, kernel.astype(dtype))
    partition = jax.nn.logsumexp(logits_BxCxV, axis=-1)
    hit = jnp.take_along_axis(logits_BxCxV, targets_BxC[..., None], axis=-1)[..., 0]
    return Scores(partition - hit, partition, jnp.argmax(logits_BxCxV, axis=-1).astype(jnp.int32))

  if chunks == 1:
    return Scores(*(x[:, :count] for x in one((hidden, targets))))
  split = jax.lax.map(
    jax.checkpoint(one),
    (hidden.reshape(batch, chunks, size, width).swapaxes(0, 1), targets.reshape(batch, chunks, size).swapaxes(0, 1)),
  )
  return Scores(*(x.swapaxes(0, 1).reshape(batch, chunks * size)[:, :count] for x in split))


def _logits(hidden: jax.Array, kernel_VxD: jax.Array) -> jax.Array:
  return jnp.einsum('...d,vd->...v', hidden, kernel_VxD, preferred_element_type=jnp.float32)
