"""Drawn on the device: tokens by the output head's probabilities, and positions by weight.

A token is the best of the logits, each with Gumbel noise added. The noise of a token is a hash of 32 random bits that
its position comes with and of its id, so what is drawn does not depend on how rows, positions or the vocabulary are
split over devices. As in `head`, no [batch, length, vocabulary] array is ever alive, and each device goes through its
own rows with its part of the vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from . import head
from .config import DecoderConfig

_GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: spreads consecutive ids apart before mixing


def draw(
  hidden_BxNxD: jax.Array,
  noise_BxN: jax.Array,
  lowest_BxN: jax.Array,
  highest_BxN: jax.Array,
  params: dict,
  config: DecoderConfig,
) -> jax.Array:
  """A token for each position, int32 [B, N], from softmax of its logits over a range of ids; not differentiated.

  Args:
    hidden_BxNxD: hidden states that the output head reads.
    noise_BxN: int32, random bits.
    lowest_BxN, highest_BxN: int32, the half-open range of ids; of an empty one any id comes.
    params, config: of the decoder, unboxed.
  """
  kernel = jax.lax.stop_gradient(head.output_kernel(params, config)).astype(config.dtype)
  rows = jax.lax.stop_gradient(hidden_BxNxD), noise_BxN, lowest_BxN, highest_BxN
  return head.by_shard(functools.partial(_draw_rows, chunk=config.loss_chunk), rows, kernel)


def _draw_rows(rows: tuple[jax.Array, ...], kernel_VxD: jax.Array, vocab_axis: str | None, *, chunk: int) -> jax.Array:
  """Draws for some rows, `chunk` positions at a time, where V is this device's part of the vocabulary."""
  count = rows[0].shape[1]
  chunks = max(1, -(-count // chunk))
  size = -(-count // chunks)
  padded = [jnp.pad(x, ((0, 0), (0, chunks * size - count)) + ((0, 0),) * (x.ndim - 2)) for x in rows]
  split = tuple(x.reshape(x.shape[0], chunks, size, *x.shape[2:]).swapaxes(0, 1) for x in padded)
  drawn = jax.lax.map(lambda chunk: _best(chunk, kernel_VxD, vocab_axis), split)
  return drawn.swapaxes(0, 1).reshape(rows[0].shape[0], chunks * size)[:, :count]


def _best(rows: tuple[jax.Array, ...], kernel_VxD: jax.Array, vocab_axis: str | None) -> jax.Array:
  hidden_BxCxD, noise_BxC, lowest_BxC, highest_BxC = rows
  part = kernel_VxD.shape[0]
  ids = jnp.arange(part, dtype=jnp.int32)
  if vocab_axis is not None:
    ids += jax.lax.axis_index(vocab_axis) * part
  logits = jnp.einsum('...d,vd->...v', hidden_BxCxD, kernel_VxD, preferred_element_type=jnp.float32)
  able = (ids[None, None] >= lowest_BxC[..., None]) & (ids[None, None] < highest_BxC[..., None])
  noisy = jnp.where(able, logits + gumbel(noise_BxC, ids), -jnp.inf)
  best = ids[noisy.argmax(axis=-1)]
  if vocab_axis is None:
    return best
  mine = noisy.max(axis=-1)
  top = jax.lax.pmax(mine, vocab_axis)
  return jax.lax.pmin(jnp.where(mine == top, best, jnp.iinfo(jnp.int32).max), vocab_axis)


def without_replacement(
  weights_BxL: jax.Array, noise_BxL: jax.Array, able_BxL: jax.Array, count_B: jax.Array
) -> jax.Array:
  """Positions drawn one after another by weight, bool [B, L], `count_B` of each row or all that are able.

  Those with the smallest E / weight, each E exponential: of racing exponentials the next to arrive is any of the others
  with a chance as its weight, so this is the order of weighted draws. Equal weights leave the order of the random bits.

  Args:
    weights_BxL: float32, logarithms.
    noise_BxL: int32, random bits.
    able_BxL: bool.
    count_B: int32.
  """
  keys = jnp.log(-jnp.log1p(-_between(noise_BxL.astype(jnp.uint32)))) - jax.lax.stop_gradient(weights_BxL)
  order = jnp.argsort(jnp.where(able_BxL, keys, jnp.inf), axis=1)  # stable: of equal keys the left one comes first
  rank = jnp.argsort(order, axis=1)
  return able_BxL & (rank < count_B[:, None])


def gumbel(noise_BxN: jax.Array, ids_V: jax.Array) -> jax.Array:
  """Gumbel noise of each id at each position, float32 [B, N, V]: a function of the position's bits and the id."""
  return -jnp.log(-jnp.log(uniform(noise_BxN, ids_V[None])))


def uniform(noise_BxN: jax.Array, ids_BxV: jax.Array) -> jax.Array:
  """Of each position and each id, float32 [B, N, V] between 0 and 1, neither of which comes: as for `gumbel`.

  Args:
    noise_BxN: int32, random bits.
    ids_BxV: int32, those of a row, or with B = 1 those of every row.
  """
  bits = noise_BxN.astype(jnp.uint32)[..., None]
  counter = (ids_BxV.astype(jnp.uint32) * jnp.uint32(_GOLDEN) + jnp.uint32(1))[:, None]
  mixed = _mix(_mix(bits ^ counter) + bits * jnp.uint32(_GOLDEN))
  return _between(mixed)


def _between(bits: jax.Array) -> jax.Array:
  """Float32 between 0 and 1, neither of which comes, of uint32: the middles of 2**23 equal parts."""
  return (bits >> 9).astype(jnp.float32) * 2.0**-23 + 2.0**-24


def _mix(x: jax.Array) -> jax.Array:
  """A bijection of uint32 with good avalanche, as in `objectives.random`."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)
