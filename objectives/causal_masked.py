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
are not placed, those of a random document first; with the default of 16 that needs more than 16 spans in one row.
"""

import dataclasses
import itertools
import math
from typing import ClassVar, Literal

import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, rotation, scorers

_UNTOUCHED, _COUNT, _ENDS, _ROOM = 0, 1, 2, 3  # random streams
_MAX_TRIES = 16 * 16  # n * n candidate pairs for the largest n
_REDRAWS = 64  # tries for the first non-empty span; a document of s tokens draws an empty one with probability ~1/s


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalMasked(base.Objective):
  """Causal-masked language modelling.

  Attributes:
    mean_spans: mean of the Poisson; 1 in the paper.
    min_spans, max_spans: bounds of n; 1 and 16 in the paper. The upper one is at most the number of sentinels in the
      vocabulary. metaseq's lower bound is 0: a document is then left untouched with probability 0.368.
    bounds: 'clamp' moves n to the nearer bound (the paper: n = 1 with probability 0.736); 'truncate' draws n anew until
      it lies inside (InCoder, arXiv 2204.05999 section 2: 0.582).
    p_untouched: probability that a document is left as it is; 0 in the paper.
    end_token: 'span' closes every moved span with <eoss> (the released code and InCoder; else only the last span's
      length could be predicted); 'document' closes only the last one (the wording of the paper).
    sentinel_weight: loss weight where the target is a sentinel; 0 in the paper, 1 in metaseq.
    spans_per_row: room for this many spans in a row.
  """

  mean_spans: float = 1.0
  min_spans: int = 1
  max_spans: int = 16
  bounds: Literal['clamp', 'truncate'] = 'clamp'
  p_untouched: float = 0.0
  end_token: Literal['span', 'document'] = 'span'
  sentinel_weight: float = 0.0
  spans_per_row: int = 16

  home: ClassVar[str] = 'infill'

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('CausalMasked.p_untouched', self.p_untouched)
    if not 0 < self.mean_spans <= 100 or not 0 <= self.min_spans <= self.max_spans <= 16 or self.spans_per_row < 1:
      raise UserError(
        'CausalMasked needs 0 < mean_spans <= 100, 0 <= min_spans <= max_spans <= 16, spans_per_row >= 1.'
      )
    checks.require_prob('CausalMasked.sentinel_weight', self.sentinel_weight)
    checks.require_choice('CausalMasked.bounds', self.bounds, ('clamp', 'truncate'))
    checks.require_choice('CausalMasked.end_token', self.end_token, ('span', 'document'))

  @property
  def needs(self):
    return (needs.Need('sentinels', max(1, self.max_spans), 'bind CausalMasked.max_spans to fewer'),)

  def model_length(self, text_length):
    return text_length + 3 * self.spans_per_row

  def configured(self):
    return {'untouched': self.p_untouched} if self.min_spans else {}

  def scorer(self, special):
    return scorers.Infill(sentinel=special.sentinels[0], end_of_span=special.end_of_span)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    first, past = rotation.segment_edges(special.is_text(tokens) & (segments > 0), segments)
    start, end = self._fit(seeds, *_draw_spans(seeds, self._draw_counts(seeds, past - first), past - first))
    offset = first[..., tf.newaxis]
    rotated = rotation.rotate(
      rows,
      special,
      start + offset,
      end + offset,
      self.model_length(tokens.shape[1]),
      end_each_span=self.end_token == 'span',
    )
    targets = features.shift_left(rotated.tokens, rotated.segment_ids)
    low, high = min(special.sentinels), max(special.sentinels)
    weights = tf.cast(features.same_as_next(rotated.segment_ids), tf.float32)
    return features.assemble(
      inputs=rotated.tokens,
      targets=targets,
      weights=tf.where((targets >= low) & (targets <= high), self.sentinel_weight * weights, weights),
      segment_ids=rotated.segment_ids,
      corrupted=rotated.moved,
      bidirectional=False,
    )

  def _draw_counts(self, seeds: tf.Tensor, body_length: tf.Tensor) -> tf.Tensor:
    """Spans wanted in each segment, int32 [batch, segments]: the clamped Poisson, or 0 if untouched or empty."""
    segments = tf.shape(body_length)[1]
    chance = random.uniform(seeds, _COUNT, segments)  # inverts the distribution function
    below = tf.constant(self._count_cdf(), tf.float32)
    drawn = self.min_spans + tf.reduce_sum(tf.cast(chance[..., tf.newaxis] >= below, tf.int32), axis=-1)
    touched = random.uniform(seeds, _UNTOUCHED, segments) >= self.p_untouched
    return tf.where(touched & (body_length > 0), drawn, 0)

  def _count_cdf(self) -> list[float]:
    """P(n <= k) for k = min_spans..max_spans - 1."""
    mass = [math.exp(-self.mean_spans) * self.mean_spans**k / math.factorial(k) for k in range(self.max_spans + 1)]
    inside = mass[self.min_spans :]
    if self.bounds == 'truncate':
      inside = [p / sum(inside) for p in inside]
    else:
      inside[0] += sum(mass[: self.min_spans])
    return list(itertools.accumulate(inside))[:-1]

  def _fit(self, seeds: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops spans beyond `spans_per_row`: documents have their turns in a random order, so that no place loses more."""
    placed = tf.reduce_sum(tf.cast(end > start, tf.int32), axis=-1)
    turns = tf.argsort(random.bits(seeds, _ROOM, tf.shape(placed)[1]), axis=1)
    in_turn = tf.gather(placed, turns, batch_dims=1)
    room = tf.clip_by_value(self.spans_per_row - tf.cumsum(in_turn, axis=1, exclusive=True), 0, in_turn)
    room = tf.gather(room, tf.argsort(turns, axis=1), batch_dims=1)
    keep = tf.range(tf.shape(start)[2]) < room[..., tf.newaxis]
    return tf.where(keep, start, 0), tf.where(keep, end, 0)


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
    # A batch of one row, known as such, would leave the loop as one of any number.
    shape_invariants=tuple(tf.TensorShape([None] * rank) for rank in (0, 3, 3, 2)),
  )
  order = tf.argsort(tf.where(end > start, start, tf.int32.max), axis=-1)
  return tf.gather(start, order, batch_dims=2), tf.gather(end, order, batch_dims=2)
