"""CM3's causal masking: rotate a few spans to the end and predict everything left to right (arXiv 2201.07520, section
2).

A document `A B C D E` with spans B and D becomes

    A <mask:0> C <mask:1> E <mask:0> B <eoss> <mask:1> D <eoss>

and is trained as a causal language model with weight 0 where the target is a <mask:k> (its place is random), weight 1
elsewhere, the end tokens included. Spans: n = clamp(Poisson(1), 1, 16) a document; each span's ends are two uniform
draws, sorted. As in the released code (metaseq's cm3_dataset.py) n > 1 draws n * n candidate pairs and keeps those that
do not intersect the ones kept before (touching is allowed) until n are placed, so fewer may be placed. Unlike there a
span is never empty: an empty draw is passed over, and drawn again while the document has no span yet.

A document here is a segment of a row; its `bos` and `eos` stay where they are. A segment grows by 3 tokens a span, so
the model reads `text_length + 3 * spans_per_row` positions and no supervised token is cut. Spans beyond `spans_per_row`
are not placed (last segments first); with the default of 16 that needs more than 16 spans in one row.
"""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from .. import UserError
from . import base, features, random, scoring

_UNTOUCHED, _COUNT, _ENDS = 0, 1, 2  # random streams
_MAX_TRIES = 16 * 16  # n * n candidate pairs for the largest n
_REDRAWS = 64  # tries for the first non-empty span; a document of s tokens draws an empty one with probability ~1/s


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalMasked(base.Objective):
  """Causal-masked language modelling.

  Attributes:
    mean_spans: mean of the Poisson; 1 in the paper.
    min_spans: lower clamp; 1 in the paper, 0 in metaseq, where a document is then left untouched with probability
      0.368.
    max_spans: upper clamp, at most the number of sentinels in the vocabulary; 16 in the paper.
    p_untouched: probability that a document is left as it is; 0 in the paper, 0.368 reproduces metaseq's lower clamp
      of 0.
    spans_per_row: room for this many spans in a row.
  """

  mean_spans: float = 1.0
  min_spans: int = 1
  max_spans: int = 16
  p_untouched: float = 0.0
  spans_per_row: int = 16

  home: ClassVar[str] = 'infill'

  def __post_init__(self):
    super().__post_init__()
    base.require_prob('CausalMasked.p_untouched', self.p_untouched)
    if self.mean_spans <= 0 or not 0 <= self.min_spans <= self.max_spans <= 16 or self.spans_per_row < 1:
      raise UserError('CausalMasked needs mean_spans > 0, 0 <= min_spans <= max_spans <= 16, spans_per_row >= 1.')

  def model_length(self, text_length):
    return text_length + 3 * self.spans_per_row

  def configured(self):
    return {'untouched': self.p_untouched} if self.min_spans else {}

  def scorer(self, special):
    return scoring.Infill(sentinel=special.sentinels[0], end_of_span=special.end_of_span)

  def corrupt(self, rows, seeds, special):
    if self.max_spans > len(special.sentinels):
      raise UserError(
        f'CausalMasked.max_spans is {self.max_spans}; the vocabulary has {len(special.sentinels)} sentinels.'
      )
    tokens, segments = rows['targets'], rows['segment_ids']
    body_start, body_length = _bodies(special.is_text(tokens) & (segments > 0), segments)
    count = self._draw_counts(seeds, body_length)
    start, end = _draw_spans(seeds, count, body_length)
    start, end = self._fit(start, end)
    offset = body_start[..., tf.newaxis]
    placed = end > start
    return self._rotate(rows, special, tf.where(placed, start + offset, 0), tf.where(placed, end + offset, 0))

  def _draw_counts(self, seeds: tf.Tensor, body_length: tf.Tensor) -> tf.Tensor:
    """Spans wanted in each segment, int32 [batch, segments]: the clamped Poisson, or 0 if untouched or empty."""
    segments = tf.shape(body_length)[1]
    chance = random.uniform(seeds, _COUNT, segments)  # inverts the distribution function
    below = tf.constant(_poisson_cdf(self.mean_spans, self.max_spans), tf.float32)
    drawn = tf.reduce_sum(tf.cast(chance[..., tf.newaxis] >= below, tf.int32), axis=-1)
    drawn = tf.clip_by_value(drawn, self.min_spans, self.max_spans)
    touched = random.uniform(seeds, _UNTOUCHED, segments) >= self.p_untouched
    return tf.where(touched & (body_length > 0), drawn, 0)

  def _fit(self, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops spans beyond `spans_per_row`, in row order."""
    placed = tf.cast(end > start, tf.int32)
    shape = tf.shape(placed)
    rank = tf.reshape(tf.cumsum(tf.reshape(placed, [shape[0], -1]), axis=1), shape)
    keep = (placed > 0) & (rank <= self.spans_per_row)
    return tf.where(keep, start, 0), tf.where(keep, end, 0)

  def _rotate(self, rows, special, start, end):
    """Features from sorted spans [start, end) in row positions, int32 [batch, segments, spans]; empty ones are none."""
    tokens, segments = rows['targets'], rows['segment_ids']
    batch, length = tf.unstack(tf.shape(tokens))
    out_length = self.model_length(tokens.shape[1])
    placed = end > start
    number = tf.cast(placed, tf.int32)
    per_segment = tf.reduce_sum(number, axis=-1)
    shift = 3 * tf.cumsum(per_segment, axis=1, exclusive=True)  # growth of the segments before
    segment_end = _segment_ends(segments, tf.shape(start)[1])
    # Where each span's tail begins: after the kept text of its segment, behind the tails of earlier spans.
    moved = tf.where(placed, end - start, 0)
    tail = (segment_end + shift - tf.reduce_sum(moved, -1) + per_segment)[..., tf.newaxis]
    tail += tf.cumsum(tf.where(placed, moved + 2, 0), axis=-1, exclusive=True)
    removed = tf.cumsum(tf.where(placed, moved - 1, 0), axis=-1)
    # Text tokens. Per token: the spans of its own segment, [batch, length, spans].
    own = tf.maximum(segments - 1, 0)
    span_start, span_end, span_tail, span_removed, is_placed = (
      tf.gather(x, own, batch_dims=1) for x in (start, end, tail, removed, placed)
    )
    index = tf.range(length)[tf.newaxis, :, tf.newaxis]
    inside = is_placed & (index >= span_start) & (index < span_end)
    before = is_placed & (span_end <= index)
    stay = index[..., 0] + tf.gather(shift, own, batch_dims=1) - tf.reduce_max(tf.where(before, span_removed, 0), -1)
    # span_removed can fall (a span of one token removes 0), never below 0, and grows along the spans: the maximum is
    # the last.
    go = tf.reduce_max(tf.where(inside, span_tail + 1 + index - span_start, 0), axis=-1)
    in_span = tf.reduce_any(inside, axis=-1)
    text_at = tf.where(segments > 0, tf.where(in_span, go, stay), out_length)
    # Sentinels in place, sentinels before each tail, and end tokens.
    sentinel = tf.gather(tf.constant(special.sentinels, tf.int32), tf.cumsum(number, axis=-1, exclusive=True))
    gap_at = start + shift[..., tf.newaxis] - tf.cumsum(tf.where(placed, moved - 1, 0), axis=-1, exclusive=True)
    owner = tf.range(1, tf.shape(start)[1] + 1)[tf.newaxis, :, tf.newaxis] + tf.zeros_like(start)
    extras = [(gap_at, sentinel), (tail, sentinel), (tail + 1 + moved, tf.fill(tf.shape(tail), special.end_of_span))]
    where = [text_at] + [tf.reshape(tf.where(placed, at, out_length), [batch, -1]) for at, _ in extras]
    values = [tokens] + [tf.reshape(value, [batch, -1]) for _, value in extras]
    owners = [segments] + [tf.reshape(owner, [batch, -1])] * 3
    corrupted = [tf.cast(in_span, tf.int32)] + [tf.ones_like(x) for x in where[1:]]
    scatter = _scatter_rows(tf.concat(where, 1), batch, out_length)
    inputs, new_segments, changed = (scatter(tf.concat(x, 1)) for x in (values, owners, corrupted))
    targets = features.shift_left(inputs, new_segments)
    low, high = min(special.sentinels), max(special.sentinels)
    weights = features.same_as_next(new_segments) & ~((targets >= low) & (targets <= high))
    return features.assemble(
      inputs=inputs, targets=targets, weights=weights, segment_ids=new_segments, corrupted=changed, bidirectional=False
    )


def _poisson_cdf(mean: float, last: int) -> list[float]:
  """P(n <= k) for k = 0..last - 1 of a Poisson distribution."""
  total, result = 0.0, []
  for k in range(last):
    total += math.exp(-mean) * mean**k / math.factorial(k)
    result.append(total)
  return result


def _bodies(body: tf.Tensor, segments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """First position and length of each segment's text (without bos and eos): int32 [batch, segments]."""
  count = tf.reduce_max(segments)
  member = (segments[:, tf.newaxis] == tf.range(1, count + 1)[tf.newaxis, :, tf.newaxis]) & body[:, tf.newaxis]
  index = tf.range(tf.shape(segments)[1])[tf.newaxis, tf.newaxis]
  first = tf.argmax(member, axis=-1, output_type=tf.int32)
  last = tf.reduce_max(tf.where(member, index, -1), axis=-1)
  return first, tf.where(last >= 0, last - first + 1, 0)


def _segment_ends(segments: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """One past the last position of each segment, int32 [batch, count]; 0 for segments a row does not have."""
  member = segments[:, tf.newaxis] == tf.range(1, count + 1)[tf.newaxis, :, tf.newaxis]
  index = tf.range(1, tf.shape(segments)[1] + 1)[tf.newaxis, tf.newaxis]
  return tf.reduce_max(tf.where(member, index, 0), axis=-1)


def _draw_spans(seeds: tf.Tensor, count: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Walks through candidate pairs and keeps those that do not intersect earlier ones.

  Args:
    count: int32 [batch, segments], spans wanted; `length`: tokens to draw from.

  Returns:
    (start, end), int32 [batch, segments, spans], sorted by start, spans [start, end); unused slots come last, 0 and 0.
  """
  segments = tf.shape(count)[1]
  slots = tf.maximum(tf.reduce_max(count), 1)  # an axis of no slots has no maximum
  tries = tf.where(count > 0, tf.maximum(count * count, 1), 0)
  empty = tf.zeros([tf.shape(count)[0], segments, slots], tf.int32)

  def unfinished(step, placed):
    wanted = (placed < count) & (step < tries)
    return wanted | ((placed == 0) & (count > 0) & (step < _REDRAWS))

  def body(step, start, end, placed):
    # A counter for each (segment, try, end): a row's draws must not depend on how many segments its neighbours have.
    counters = tf.range(segments)[:, tf.newaxis] * (2 * _MAX_TRIES) + 2 * step + tf.range(2)
    ends = tf.reshape(random.uniform(seeds, _ENDS, tf.reshape(counters, [-1])), [-1, segments, 2])
    scale = tf.cast(length, tf.float32)
    low = tf.cast(tf.floor(tf.reduce_min(ends, -1) * scale), tf.int32)
    high = tf.minimum(tf.cast(tf.floor(tf.reduce_max(ends, -1) * scale + 0.5), tf.int32), length)
    clash = tf.reduce_any((low[..., tf.newaxis] < end) & (start < high[..., tf.newaxis]), axis=-1)
    accept = unfinished(step, placed) & (high > low) & ~clash
    slot = (tf.range(slots) == placed[..., tf.newaxis]) & accept[..., tf.newaxis]
    start = tf.where(slot, low[..., tf.newaxis], start)
    end = tf.where(slot, high[..., tf.newaxis], end)
    return step + 1, start, end, placed + tf.cast(accept, tf.int32)

  _, start, end, _ = tf.while_loop(
    lambda step, start, end, placed: tf.reduce_any(unfinished(step, placed)),
    body,
    (tf.constant(0), empty, empty, tf.zeros_like(count)),
  )
  order = tf.argsort(tf.where(end > start, start, tf.int32.max), axis=-1)
  return tf.gather(start, order, batch_dims=2), tf.gather(end, order, batch_dims=2)


def _scatter_rows(where: tf.Tensor, batch: tf.Tensor, length: int):
  """A function that writes [batch, n] values to positions `where` of zeroed [batch, length] rows; position `length`
  is dropped.
  """
  flat = tf.reshape(where + (length + 1) * tf.range(batch)[:, tf.newaxis], [-1, 1])

  def scatter(values: tf.Tensor) -> tf.Tensor:
    out = tf.scatter_nd(flat, tf.reshape(values, [-1]), [batch * (length + 1)])
    out = tf.reshape(out, [batch, length + 1])[:, :length]
    return tf.ensure_shape(out, [None, length])

  return scatter
