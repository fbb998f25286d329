"""Choosing what to mask: positions or units, exactly to a budget. TensorFlow graph functions.

A unit is a run of tokens that are masked together (a word, a collocation, a salient span); it is known by the
position of its first token in the row. Units are taken in a random order until the budget of tokens is spent.
"""

import tensorflow as tf

from . import features, random

_EMPTY = tf.int64.max


def unit_starts(unit_ids: tf.Tensor, segment_ids: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
  """The position of each token's unit, -1 where the token is no candidate; int32 [batch, length].

  Args:
    unit_ids: int32 [batch, length]; a run of equal ids inside a segment is a unit, 0 is no unit.
    segment_ids: int32 [batch, length].
    candidates: bool [batch, length], tokens that may be masked.
  """
  run = tf.where(candidates, unit_ids, 0)
  begins = features.starts(run) | features.starts(segment_ids)
  index = tf.range(tf.shape(run)[1])[tf.newaxis]
  return tf.where(run > 0, features.cumulative_max(tf.where(begins, index, 0)), -1)


def random_order(seeds: tf.Tensor, stream: int, starts: tf.Tensor) -> tf.Tensor:
  """A sort key a token, equal inside a unit and distinct between units: int64 [batch, length], max where starts < 0."""
  length = tf.shape(starts)[1]
  keys = tf.cast(random.bits(seeds, stream, length), tf.int64)
  keys = tf.gather(keys, tf.maximum(starts, 0), batch_dims=1)
  keys = tf.bitwise.left_shift(keys, tf.constant(24, tf.int64)) + tf.cast(starts, tf.int64)
  return tf.where(starts >= 0, keys, _EMPTY)


def select_positions(seeds: tf.Tensor, stream: int, candidates: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Exactly min(count, candidates) positions a row, uniformly without replacement; bool [batch, length].

  Args:
    candidates: bool [batch, length].
    count: int32 [batch].
  """
  length = tf.shape(candidates)[1]
  index = tf.range(length)[tf.newaxis] + tf.zeros_like(candidates, tf.int32)
  keys = random_order(seeds, stream, tf.where(candidates, index, -1))
  count = tf.minimum(count, tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1))
  ordered = tf.sort(keys, axis=-1)
  last = tf.gather(ordered, tf.maximum(count - 1, 0), batch_dims=1)
  return candidates & (keys <= last[:, tf.newaxis]) & (count > 0)[:, tf.newaxis]


def select_units(seeds: tf.Tensor, stream: int, starts: tf.Tensor, budget: tf.Tensor) -> tf.Tensor:
  """Whole units in random order until `budget` tokens are chosen; a unit that would exceed it is skipped.

  The rule of BERT's whole-word masking (google-research/bert create_pretraining_data.py): after a unit that does not
  fit the next one is tried, so a row never exceeds its budget and ends below it by less than its shortest remaining
  unit. The price is that long units are chosen less often than short ones where the budget is small
  (docs/objectives.md).

  Args:
    starts: int32 [batch, length] from `unit_starts`.
    budget: int32 [batch], tokens.

  Returns:
    Bool [batch, length].
  """
  shape = tf.shape(starts)
  batch, length = shape[0], shape[1]
  keys = random_order(seeds, stream, starts)
  order = tf.argsort(keys, axis=-1)
  sorted_starts = tf.gather(starts, order, batch_dims=1)
  first = features.starts(sorted_starts) & (sorted_starts >= 0)
  index = tf.range(length)[tf.newaxis] + tf.zeros_like(starts)
  # The end of a unit in sorted order: one before the next unit's first token (or before the first non-candidate).
  edges = tf.where(first | (sorted_starts < 0), index, length)
  following = tf.pad(edges[:, 1:], [[0, 0], [0, 1]], constant_values=length)
  next_edge = length - tf.reverse(features.cumulative_max(tf.reverse(length - following, [1])), [1])
  size = next_edge - index
  fits = first & (next_edge <= budget[:, tf.newaxis])  # the random order up to the first unit that does not fit
  spent = tf.reduce_max(tf.where(fits, next_edge, 0), axis=1)

  def more(taken, remaining, after):
    return tf.reduce_any(first & (index >= after[:, tf.newaxis]) & (size <= remaining[:, tf.newaxis]))

  def take(taken, remaining, after):
    able = first & (index >= after[:, tf.newaxis]) & (size <= remaining[:, tf.newaxis])
    chosen = able & (tf.cumsum(tf.cast(able, tf.int32), axis=1) == 1)
    cost = tf.reduce_sum(tf.where(chosen, size, 0), axis=1)
    moved = tf.reduce_max(tf.where(chosen, index + 1, 0), axis=1)
    after = tf.where(tf.reduce_any(chosen, axis=1), moved, length)
    return taken | chosen, remaining - cost, after

  taken, _, _ = tf.while_loop(
    more,
    take,
    (fits, budget - spent, spent),
    shape_invariants=(tf.TensorShape([None, None]), tf.TensorShape([None]), tf.TensorShape([None])),
  )
  rows = tf.repeat(tf.range(batch)[:, tf.newaxis], length, axis=1)
  chosen_starts = tf.boolean_mask(tf.stack([rows, sorted_starts], axis=-1), taken)
  hits = tf.scatter_nd(chosen_starts, tf.ones(tf.shape(chosen_starts)[0], tf.int32), shape)
  return (tf.gather(hits, tf.maximum(starts, 0), batch_dims=1) > 0) & (starts >= 0)


def one_unit_per_segment(seeds: tf.Tensor, stream: int, starts: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
  """One unit of each segment, uniformly among its units; none where a segment has none. Bool [batch, length]."""
  batch, length = tf.unstack(tf.shape(starts))
  keys = random_order(seeds, stream, starts)
  flat = segment_ids + (length + 1) * tf.range(batch)[:, tf.newaxis]
  best = tf.math.unsorted_segment_min(tf.reshape(keys, [-1]), tf.reshape(flat, [-1]), batch * (length + 1))
  return (starts >= 0) & (keys == tf.reshape(tf.gather(best, tf.reshape(flat, [-1])), [batch, length]))
