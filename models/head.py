"""The output head: cross-entropy in chunks, only where it is wanted.

No [batch, length, vocabulary] float32 array is ever alive: positions are scored `loss_chunk` at a time and each
chunk's logits are recomputed in the backward pass.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .config import DecoderConfig


class Scores(NamedTuple):
  """Per position, float32 [B, N]: -log p(target) and log of the partition function, in nats; int32 [B, N]: the best
  id.
  """

  cross_entropy: jax.Array
  log_partition: jax.Array
  best: jax.Array


def output_kernel(params: dict, config: DecoderConfig) -> jax.Array:
  """The [D, V] matrix of the head, from a decoder's unboxed parameters."""
  return params['embedding'].T if config.tied_embeddings else params['output']


def logits(hidden: jax.Array, params: dict, config: DecoderConfig) -> jax.Array:
  """Float32 logits [..., V] of hidden states [..., D]."""
  kernel = output_kernel(params, config).astype(config.dtype)
  return jnp.einsum('...d,dv->...v', hidden, kernel, preferred_element_type=jnp.float32)


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
  batch, count, width = hidden_BxNxD.shape
  chunks = max(1, -(-count // config.loss_chunk))
  size = -(-count // chunks)
  padding = chunks * size - count
  hidden = jnp.pad(hidden_BxNxD, ((0, 0), (0, padding), (0, 0)))
  targets = jnp.pad(targets_BxN, ((0, 0), (0, padding)))

  def one(chunk: tuple[jax.Array, jax.Array]) -> Scores:
    hidden_BxCxD, targets_BxC = chunk
    logits_BxCxV = logits(hidden_BxCxD, params, config)
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
