"""Tuning a decoder with a new head on a probe: all weights, one compiled update for every learning rate and seed.

Heads, both a linear map of the hidden states of the last layer, in float32:
  classification  of their mean over the row's tokens. One rule for bidirectional and causal attention: the first token,
                  which BERT takes (arXiv 1810.04805, section 4.1), sees nothing of the text under causal attention
  span            to two logits a position, for the answer's first and last token (1810.04805, section 4.2)

The loss is cross-entropy in nats; where an answer is right at several places, of the probability of all of them
(arXiv 1710.10723, section 3.2). There is no dropout: the decoder has none.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ...models.decoder import Decoder
from ...objectives.attention import AttentionSpec
from ...tasks.probes.rows import Rows
from .. import mesh as mesh_lib
from .. import state as state_lib
from ..judging.runner import one_segment
from ..optimizers import Optimizer
from ..step import Batch, hidden_states

_HEAD_STD = 0.02  # BERT's (arXiv 1810.04805; its code's initializer_range)
_LOWEST = -1e9  # a logit of what cannot be


@dataclasses.dataclass(frozen=True)
class Shape:
  """What a probe asks of a head.

  Attributes:
    is_span: whether it marks a span; else it classifies.
    classes: how many there are.
    longest_answer: tokens of an answer, at most (30 in BERT's run_squad.py).
  """

  is_span: bool
  classes: int = 0
  longest_answer: int = 30

  @property
  def outputs(self) -> int:
    """Numbers a head gives."""
    return 2 if self.is_span else self.classes


def init_head(key: jax.Array, dim: int, shape: Shape) -> dict[str, jax.Array]:
  """Fresh weights of a head: 'kernel', float32 [dim, outputs], and of a classification 'bias', float32 [outputs].

  A span's logits need none: what is added to all positions changes no probability, and Adam would blow up its rounding.
  """
  kernel = _HEAD_STD * jax.random.normal(key, (dim, shape.outputs), jnp.float32)
  return {'kernel': kernel} if shape.is_span else {'kernel': kernel, 'bias': jnp.zeros(shape.outputs, jnp.float32)}


def logits(decoder: Decoder, attention: AttentionSpec, shape: Shape, params: dict, batch: Batch) -> jax.Array:
  """Float32 [batch, classes], or [batch, length, 2] with `_LOWEST` where no answer can be.

  Args:
    decoder, attention, shape: static.
    params: {'decoder', 'head'}.
    batch: features of `Rows`.
  """
  features = one_segment(batch['tokens'], batch['lengths'], batch['lengths'])
  real = features['decoder_segment_ids'] > 0
  hidden = hidden_states(decoder, params['decoder'], features, attention).astype(jnp.float32)
  head = params['head']
  if shape.is_span:
    scores = jnp.einsum('bld,do->blo', hidden, head['kernel'])
    return jnp.where(batch['passage'][..., None], scores, _LOWEST)
  pooled = jnp.where(real[..., None], hidden, 0.0).sum(1) / batch['lengths'][:, None]
  return pooled @ head['kernel'] + head['bias'][None]


def loss(shape: Shape, scores: jax.Array, batch: Batch) -> jax.Array:
  """Mean cross-entropy of a batch in nats, float32; rows whose answer was cut off do not count."""
  if not shape.is_span:
    return optax.softmax_cross_entropy_with_integer_labels(scores, batch['labels']).mean()
  right = jnp.stack([batch['starts'], batch['ends']], -1)
  found = jax.nn.logsumexp(jnp.where(right, scores, _LOWEST), axis=1)
  nll = (jax.nn.logsumexp(scores, axis=1) - found).mean(-1)
  counts = right.any((1, 2))
  return jnp.where(counts, nll, 0.0).sum() / jnp.maximum(counts.sum(), 1)


def best(shape: Shape, scores: jax.Array) -> jax.Array:
  """Int32: the best class [batch], or the best span's first and last position [batch, 2].

  The best span maximises the sum of its two logits; it has `longest_answer` tokens at most.
  """
  if not shape.is_span:
    return scores.argmax(-1).astype(jnp.int32)
  length = scores.shape[1]
  start, end = jnp.arange(length)[:, None], jnp.arange(length)[None]
  fits = (start <= end) & (end < start + shape.longest_answer)
  pairs = jnp.where(fits[None], scores[:, :, None, 0] + scores[:, None, :, 1], 2 * _LOWEST)
  flat = pairs.reshape(len(pairs), -1).argmax(-1)
  return jnp.stack([flat // length, flat % length], -1).astype(jnp.int32)


class Tuner:
  """Tunes from any parameters, at any learning rate: an update and a prediction, each compiled once."""

  def __init__(
    self,
    decoder: Decoder,
    mesh: Mesh,
    attention: AttentionSpec,
    shape: Shape,
    optimizer: Optimizer,
    updates: int,
    batch_size: int,
  ):
    """
    Args:
      decoder: with its vocabulary.
      mesh: where it lies; `mesh_lib.context` of it must be entered by the caller.
      attention: who sees whom while tuning and after it.
      shape: of the head.
      optimizer: its schedule's peak is not used.
      updates: of one run.
      batch_size: rows of an update, and of a prediction.
    """
    self._mesh, self._updates, self._batch_size, self._shape = mesh, updates, batch_size, shape
    schedule = dataclasses.replace(optimizer.schedule, peak=1.0)
    chain = dataclasses.replace(optimizer, schedule=schedule).build(updates)
    scores = functools.partial(logits, decoder, attention, shape)
    shapes, where = state_lib.params_and_shardings(decoder, mesh)
    head = jax.eval_shape(lambda: init_head(jax.random.key(0), decoder.config.embed_dim, shape))
    shapes = {'decoder': shapes, 'head': head}
    where = {'decoder': where, 'head': jax.tree.map(lambda _: mesh_lib.replicated(mesh), head)}
    where = where, state_lib.optimizer_shardings(chain, shapes, where, mesh)

    def begin(params: dict, seed: jax.Array) -> tuple:
      head = init_head(jax.random.key(seed), decoder.config.embed_dim, shape)
      # Copies, since an update takes its memory from the state before and the same parameters begin many runs.
      state = {'decoder': jax.tree.map(jnp.copy, params), 'head': head}
      return state, chain.init(state)

    def update(state: tuple, batch: Batch, rate: jax.Array) -> tuple[tuple, jax.Array]:
      params, memory = state
      value, grads = jax.value_and_grad(lambda params: loss(shape, scores(params, batch), batch))(params)
      updates, memory = chain.update(grads, memory, params)
      # Every optimizer's update is its schedule's rate times something else, so the peak may come from outside.
      updates = jax.tree.map(lambda x: x * rate, updates)
      return (optax.apply_updates(params, updates), memory), value

    self._begin = jax.jit(begin, out_shardings=where)
    self._update = jax.jit(update, donate_argnums=0, out_shardings=(where, mesh_lib.replicated(mesh)))
    self._best = jax.jit(lambda params, batch: best(shape, scores(params, batch)))

  def tune(
    self, params: dict, rows: Rows, rate: float, seed: int, tick: Callable[[], Any] = lambda: None
  ) -> tuple[dict, list[float]]:
    """Tuned parameters with their head, and the loss of each update.

    Args:
      params: of the decoder; they stay as they are.
      rows: training examples.
      rate: the peak of the learning rate.
      seed: of the head and of the order of examples.
      tick: called after each update.
    """
    state, losses = self._begin(params, seed), []
    for index in orders(len(rows), self._batch_size, self._updates, seed):
      batch = mesh_lib.put_batch(self._mesh, rows.take(index))
      state, value = self._update(state, batch, jnp.float32(rate))
      if losses:
        losses[-1] = float(losses[-1])  # one update late: the next one is under way
      losses.append(value)
      tick()
    return state[0], [float(value) for value in losses]

  def predict(self, params: dict, rows: Rows) -> np.ndarray:
    """`best` of every row: int32 [rows] or [rows, 2]."""
    found = []
    for start in range(0, len(rows), self._batch_size):
      index = np.arange(start, start + self._batch_size)
      batch = mesh_lib.put_batch(self._mesh, rows.take(np.minimum(index, len(rows) - 1)))
      found.append(np.asarray(self._best(params, batch))[: len(rows) - start])
    return np.concatenate(found)


def orders(count: int, batch_size: int, updates: int, seed: int) -> Iterator[np.ndarray]:
  """Which examples each update reads: all of them in a random order, then all in another one, and so on."""
  random = np.random.default_rng([seed, count])
  left = np.zeros(0, np.int64)
  for _ in range(updates):
    while len(left) < batch_size:
      left = np.concatenate([left, random.permutation(count)])
    yield left[:batch_size]
    left = left[batch_size:]
