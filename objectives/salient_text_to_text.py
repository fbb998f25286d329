"""Salient-span masking as text to text: one example per span (T5 + SSM, arXiv 2002.08910).

Source: google-research/t5_closed_book_qa, t5_cbqa/preprocessors.py: each salient span of a text makes one example,
`nem: {before}_X_{after}` with the span as the target; texts without a span make none. In one decoder the span is CM3's
only span (`rotation`): `before <mask:0> after <mask:0> span <eoss>`, causal, and only the span and its end are scored.
The span of an epoch is the next one in turn, so that a passage with n spans gives each of them once in n epochs.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from .. import UserError
from . import base, features, needs, random, rotation, scorers
from .salient_span import whole_spans


@dataclasses.dataclass(frozen=True, kw_only=True)
class SalientTextToText(base.Objective):
  """Predict one salient span of each passage from its text, left to right.

  Attributes:
    max_span_tokens: longer spans make no example; 10 in REALM's launcher.
    spans_per_row: room for this many passages with a span in a row; later ones are left whole and are not scored.
  """

  max_span_tokens: int = 10
  spans_per_row: int = 16

  home: ClassVar[str] = 'salient'

  def __post_init__(self):
    super().__post_init__()
    if self.max_span_tokens < 1 or self.spans_per_row < 1:
      raise UserError('SalientTextToText needs max_span_tokens and spans_per_row of 1 or more.')

  @property
  def units(self):
    return ('salient_ids',)

  @property
  def needs(self):
    return (needs.Need('sentinels'),)

  def unit_starts(self, rows, seeds, special):
    del seeds
    return whole_spans(rows, special.is_text(rows['targets']) & (rows['segment_ids'] > 0), self.max_span_tokens)

  def keep(self, rows, special):
    return tf.reduce_any(self.unit_starts(rows, None, special) >= 0, axis=1)

  def model_length(self, text_length):
    return text_length + 3 * self.spans_per_row

  def max_supervised(self, text_length):
    return min(self.model_length(text_length), self.spans_per_row * (self.max_span_tokens + 1))

  def configured(self):
    return {}

  def scorer(self, special):
    return scorers.Infill(sentinel=special.sentinels[0], end_of_span=special.end_of_span)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    chosen = self._spans_in_turn(rows, self.unit_starts(rows, seeds, special))
    start, end = rotation.segment_edges(chosen, segments)
    room = tf.cumsum(tf.cast(end > start, tf.int32), axis=1) <= self.spans_per_row
    start, end = (tf.where(room, x, 0)[..., tf.newaxis] for x in (start, end))
    rotated = rotation.rotate(rows, special, start, end, self.model_length(tokens.shape[1]))
    targets = features.shift_left(rotated.tokens, rotated.segment_ids)
    return features.assemble(
      inputs=rotated.tokens,
      targets=targets,
      weights=features.shift_left(rotated.in_tail, rotated.segment_ids) > 0,
      segment_ids=rotated.segment_ids,
      corrupted=rotated.moved,
      bidirectional=False,
    )

  def _spans_in_turn(self, rows: base.Features, starts: tf.Tensor) -> tf.Tensor:
    """The span of each segment whose turn it is in this epoch, bool [batch, length]."""
    segments = rows['segment_ids']
    begins = tf.cast(starts == tf.range(tf.shape(segments)[1])[tf.newaxis], tf.int32)
    spans = features.reduce_by(tf.math.unsorted_segment_sum, begins, segments)
    number = tf.cumsum(begins, axis=1) - 1 - tf.gather(tf.cumsum(spans, axis=1, exclusive=True), segments, batch_dims=1)
    # The first turn differs from segment to segment, and is the same in every epoch.
    epoch = tf.cast(rows['epoch'], tf.int64)
    seeds = random.row_seeds(0, rows['seed'], rows['example_id'])  # not of the epoch
    first = tf.cast(random.bits(seeds, 0, tf.shape(spans)[1]), tf.int64)
    turn = tf.cast((first + epoch[:, tf.newaxis]) % tf.cast(tf.maximum(spans, 1), tf.int64), tf.int32)
    return (starts >= 0) & (number == tf.gather(turn, segments, batch_dims=1))
