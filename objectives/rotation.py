"""Cutting spans out of documents and appending them behind sentinels, as CM3 does. TensorFlow graph functions.

A segment `A B C D E` with spans B and D becomes

    A <mask:0> C <mask:1> E <mask:0> B <eoss> <mask:1> D <eoss>

The result is a sequence of pieces: kept text, sentinels, moved text, end tokens. A cumulative sum of their lengths says
where each begins; what differs from piece to piece is scattered there as a difference and summed up along the row.
"""

from typing import NamedTuple

import tensorflow as tf

from . import base, features, random


class Rotated(NamedTuple):
  """Rows after the rotation, int32 [batch, out_length] each.

  Attributes:
    tokens, segment_ids: 0 on padding.
    moved: 1 on sentinels, moved text and end tokens.
    in_tail: 1 on moved text and end tokens alone.
    behind: 1 on all that stands behind a segment's kept text.
  """

  tokens: tf.Tensor
  segment_ids: tf.Tensor
  moved: tf.Tensor
  in_tail: tf.Tensor
  behind: tf.Tensor


def segment_edges(member: tf.Tensor, segment_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """First position of `member` in each segment and one past the last: int32 [batch, segments], both 0 where none is.

  Args:
    member: bool [batch, length].
    segment_ids: int32 [batch, length], 0 = padding.
  """
  length = tf.shape(segment_ids)[1]
  index = tf.range(length)[tf.newaxis]
  past = features.reduce_by(tf.math.unsorted_segment_max, tf.where(member, index + 1, 0), segment_ids)[:, 1:]
  first = features.reduce_by(tf.math.unsorted_segment_min, tf.where(member, index, length), segment_ids)[:, 1:]
  past = tf.maximum(past, 0)  # a segment that a row has not
  return tf.where(past > 0, first, 0), past


def rotate(
  rows: base.Features,
  special: base.SpecialTokens,
  start: tf.Tensor,
  end: tf.Tensor,
  out_length: int,
  *,
  end_each_span: bool = True,
  close_text: bool = False,
) -> Rotated:
  """Moves the spans to the end of their segments.

  Args:
    rows: 'targets' and 'segment_ids', int32 [batch, length]; segments follow each other without gaps.
    special: sentinels, which come round again where a segment has more spans, and the end-of-span token.
    start, end: int32 [batch, segments, spans], half-open ranges of row positions, disjoint and sorted inside a segment;
      empty ones are no spans and come last.
    out_length: positions of the result; what does not fit is lost.
    end_each_span: whether every moved span is closed by an end token, or only the last of a segment.
    close_text: whether the kept text of a segment with spans is closed by an end token too.
  """
  tokens, segments = rows['targets'], rows['segment_ids']
  batch, spans = tf.shape(tokens)[0], tf.shape(start)[2]
  placed = end > start
  one = tf.cast(placed, tf.int32)
  begin, past = segment_edges(segments > 0, segments)
  start, end = (tf.where(placed, x, past[..., tf.newaxis]) for x in (start, end))
  kept_from = tf.concat([begin[..., tf.newaxis], end], axis=-1)
  kept = tf.concat([start, past[..., tf.newaxis]], axis=-1) - kept_from
  last = one - tf.pad(one[..., 1:], [[0, 0], [0, 0], [0, 1]])  # a segment's last span
  ends = one if end_each_span else last
  closing = one[..., :1] if close_text else tf.zeros_like(one[..., :1])
  sentinel = tf.gather(tf.constant(special.sentinels, tf.int32), tf.range(spans) % len(special.sentinels))[
    tf.newaxis, tf.newaxis
  ]

  def lay(kept_value, gap_value, close_value, sentinel_value, span_value, end_value) -> tf.Tensor:
    """Values of all pieces in the order of the result, [batch, segments * pieces]."""
    like = (kept, start, closing, start, start, start)
    parts = (kept_value, gap_value, close_value, sentinel_value, span_value, end_value)
    parts = [tf.broadcast_to(x, tf.shape(y)) for x, y in zip(parts, like, strict=True)]
    head = tf.stack([parts[0][..., :-1], parts[1]], axis=-1)
    tail = tf.stack(parts[3:], axis=-1)
    flat = [tf.reshape(x, [batch, tf.shape(start)[1], -1]) for x in (head, parts[0][..., -1:], parts[2], tail)]
    return tf.reshape(tf.concat(flat, axis=-1), [batch, -1])

  owner = tf.range(1, tf.shape(start)[1] + 1)[tf.newaxis, :, tf.newaxis]
  laid = lay_out(
    tokens,
    sizes=lay(kept, one, closing, one, end - start, ends),
    source=lay(kept_from, 0, 0, 0, start, 0),
    inserted=lay(0, sentinel, special.end_of_span, sentinel, 0, special.end_of_span),
    owner=lay(*[owner] * 6),
    kind=lay(0, 1, 0, 5, 7, 7),
    out_length=out_length,
  )
  bit = lambda number: tf.bitwise.bitwise_and(tf.bitwise.right_shift(laid.kind, number), 1)
  return Rotated(laid.tokens, laid.segment_ids, moved=bit(0), in_tail=bit(1), behind=bit(2))


def with_room(seeds: tf.Tensor, stream: int, wanted: tf.Tensor, needed: tf.Tensor, room: int) -> tf.Tensor:
  """Which of the wanted segments of a row have room: they have their turns in a random order. Bool [batch, segments].

  Args:
    seeds, stream: of the random order.
    wanted: bool [batch, segments].
    needed: int32 [batch, segments], positions that each of them takes.
    room: positions of a row.
  """
  turns = tf.argsort(random.bits(seeds, stream, tf.shape(needed)[1]), axis=1)
  used = tf.cumsum(tf.gather(tf.where(wanted, needed, 0), turns, batch_dims=1), axis=1)
  return wanted & (tf.gather(used, tf.argsort(turns, axis=1), batch_dims=1) <= room)


class Laid(NamedTuple):
  """Pieces one after the other, int32 [batch, out_length] each; 0 behind the last."""

  tokens: tf.Tensor
  segment_ids: tf.Tensor
  kind: tf.Tensor


def lay_out(
  tokens: tf.Tensor,
  sizes: tf.Tensor,
  source: tf.Tensor,
  inserted: tf.Tensor,
  owner: tf.Tensor,
  kind: tf.Tensor,
  out_length: int,
) -> Laid:
  """Rows put together of pieces: runs of a row's tokens, and single tokens that it does not have.

  Args:
    tokens: int32 [batch, length], the rows.
    sizes: int32 [batch, pieces], 0 or more; 1 where a token is inserted.
    source: int32 [batch, pieces], where a run begins.
    inserted: int32 [batch, pieces], the token, 0 where the piece is a run.
    owner: int32 [batch, pieces], the number of the segment.
    kind: int32 [batch, pieces] below 8, what the caller wants to know of the piece's tokens.
    out_length: positions of the result; what does not fit is lost.
  """
  batch = tf.shape(tokens)[0]
  at = tf.cumsum(sizes, axis=1, exclusive=True)
  source = tf.where(inserted > 0, at, source)
  # Where the token comes from (as a distance), with its kind in the three lowest bits.
  packed, segment = _spread(at, [(source - at) * 8 + kind, owner], out_length)
  index = tf.range(out_length)[tf.newaxis]
  real = index < tf.reduce_sum(sizes, axis=1, keepdims=True)
  origin = tf.clip_by_value(index + tf.bitwise.right_shift(packed, 3), 0, tf.shape(tokens)[1] - 1)
  flat_at = tf.where((inserted > 0) & (sizes > 0), tf.minimum(at, out_length), out_length)
  flat_at = tf.reshape(flat_at + (out_length + 1) * tf.range(batch)[:, tf.newaxis], [-1, 1])
  placed = tf.zeros([batch * (out_length + 1)], tf.int32)
  placed = tf.tensor_scatter_nd_max(placed, flat_at, tf.reshape(inserted, [-1]))
  placed = tf.reshape(placed, [batch, out_length + 1])[:, :out_length]
  values = tf.where(placed > 0, placed, tf.gather(tokens, origin, batch_dims=1))
  zero = lambda x: tf.ensure_shape(tf.where(real, x, 0), [None, out_length])
  return Laid(zero(values), zero(segment), zero(tf.bitwise.bitwise_and(packed, 7)))


def _spread(at: tf.Tensor, values: list[tf.Tensor], length: int) -> list[tf.Tensor]:
  """Each piece's value at all positions from its own beginning to the next one's: int32 [batch, length] a value.

  Args:
    at: int32 [batch, pieces], ascending; a piece of no length begins where the next one does.
    values: int32 [batch, pieces] each.
  """
  batch = tf.shape(at)[0]
  flat = tf.reshape(tf.minimum(at, length) + (length + 1) * tf.range(batch)[:, tf.newaxis], [-1, 1])

  def one(value: tf.Tensor) -> tf.Tensor:
    steps = value - tf.pad(value[:, :-1], [[0, 0], [1, 0]])
    steps = tf.scatter_nd(flat, tf.reshape(steps, [-1]), [batch * (length + 1)])
    return tf.cumsum(tf.reshape(steps, [batch, length + 1]), axis=1)[:, :length]

  return [one(value) for value in values]
