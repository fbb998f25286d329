"""Graph functions that every objective uses to turn rows into decoder features. TensorFlow."""

from collections.abc import Callable

import tensorflow as tf


def same_as_next(segment_ids: tf.Tensor) -> tf.Tensor:
  """Bool [batch, length]: the next position exists and lies in the same, real segment."""
  following = tf.pad(segment_ids[:, 1:], [[0, 0], [0, 1]])
  return (segment_ids == following) & (segment_ids > 0)


def shift_left(values: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
  """Each position's next value inside its segment, 0 at the segment's end; same shape and dtype as `values`."""
  following = tf.pad(values[:, 1:], [[0, 0], [0, 1]])
  return tf.where(same_as_next(segment_ids), following, tf.zeros_like(values))


def starts(ids: tf.Tensor) -> tf.Tensor:
  """Bool [batch, length]: where a run of equal ids begins."""
  return tf.pad(ids[:, 1:] != ids[:, :-1], [[0, 0], [1, 0]], constant_values=True)


def reduce_by(reduce: Callable[..., tf.Tensor], values: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
  """The values of each row that have one id, reduced: [batch, 1 + the highest id of all rows], dtype of `values`.

  Args:
    reduce: one of tf.math.unsorted_segment_sum, _min, _max; what it gives for an id that a row has not, stands there.
    values: [batch, length].
    ids: int32 [batch, length], 0 or more; segment ids, or places in the row.
  """
  batch = tf.shape(ids)[0]
  count = tf.maximum(tf.reduce_max(ids), 0) + 1  # a batch of no rows has no maximum
  flat = tf.reshape(ids + count * tf.range(batch)[:, tf.newaxis], [-1])
  return tf.reshape(reduce(tf.reshape(values, [-1]), flat, batch * count), [batch, count])


def run_starts(ids: tf.Tensor) -> tf.Tensor:
  """For each position, the position at which its run of equal ids begins; int32 [batch, length]."""
  index = tf.range(tf.shape(ids)[1])[tf.newaxis]
  return cumulative_max(tf.where(starts(ids), index, tf.zeros_like(index)))


def cumulative_max(values: tf.Tensor) -> tf.Tensor:
  """Running maximum along axis 1 of a non-negative int32 [batch, length], by doubling (no scan)."""
  length = tf.shape(values)[1]

  def double(step, current):
    moved = tf.pad(current[:, : length - step], [[0, 0], [step, 0]])
    return step * 2, tf.maximum(current, moved)

  return tf.while_loop(
    lambda step, _: step < length,
    double,
    (tf.constant(1), values),
    shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
  )[1]


def positions(segment_ids: tf.Tensor) -> tf.Tensor:
  """Position inside the segment, from 0; 0 on padding. int32 [batch, length]."""
  index = tf.range(tf.shape(segment_ids)[1])[tf.newaxis]
  return tf.where(segment_ids > 0, index - run_starts(segment_ids), 0)


def levels(seen: tf.Tensor) -> tf.Tensor:
  """Levels of attention with prefixes: 0 where `seen`, bool [batch, length], else 1 + the place in the row."""
  return tf.where(seen, 0, 1 + tf.range(tf.shape(seen)[1])[tf.newaxis])


def begin(tokens: tf.Tensor, segment_ids: tf.Tensor, token: int | None) -> tf.Tensor:
  """The tokens, each segment's first one replaced by `token`; None replaces none. int32 [batch, length]."""
  return tokens if token is None else tf.where(starts(segment_ids) & (segment_ids > 0), token, tokens)


def assemble(
  inputs: tf.Tensor,
  targets: tf.Tensor,
  weights: tf.Tensor,
  segment_ids: tf.Tensor,
  corrupted: tf.Tensor,
  *,
  bidirectional: bool | tf.Tensor,
) -> dict[str, tf.Tensor]:
  """The feature dictionary of `base` from [batch, model_length] tensors; `weights` and `corrupted` may be bool."""
  real = segment_ids > 0
  return {
    'decoder_input_tokens': inputs,
    'decoder_target_tokens': tf.where(real, targets, 0),
    'decoder_loss_weights': tf.cast(weights, tf.float32),
    'decoder_segment_ids': segment_ids,
    'decoder_positions': positions(segment_ids),
    'decoder_causal_attention': tf.cast(real & bidirectional, tf.int32),
    'corrupted': tf.cast(corrupted, tf.int32),
  }
