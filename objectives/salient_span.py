"""Salient-span masking: predict names and dates (REALM, arXiv 2002.08909 section 3.4; language/realm/featurization.py).

One span is chosen uniformly among the salient spans of each passage; all its tokens become [MASK] (no 80/10/10) and
only they are scored. A passage is one segment of a row. Spans cut by a row's edge are no spans, spans of more than 10
tokens are left alone (REALM's launcher), and rows without a span are dropped. The retriever is not part of this
objective.
"""

import dataclasses
from typing import ClassVar, Literal

import tensorflow as tf

from .. import UserError
from . import base, features, masked_lm, units


@dataclasses.dataclass(frozen=True, kw_only=True)
class SalientSpan(masked_lm.MaskedLM):
  """Masked language modelling over salient spans.

  Attributes:
    form: 'one' masks one span a passage, as REALM; 'budget' fills the share `rate` of the row's tokens with whole spans
      in random order, as far as the row has spans: another objective, and named so in gin.
    max_span_tokens: longer spans are never chosen; 10 in REALM's launcher.
  """

  unit: Literal['token', 'word', 'collocation', 'salient'] = 'salient'
  draw: Literal['token', 'unit'] = 'unit'
  mask_prob: float = 1.0
  random_prob: float = 0.0
  form: Literal['one', 'budget'] = 'one'
  max_span_tokens: int = 10

  home: ClassVar[str] = 'salient'

  def __post_init__(self):
    super().__post_init__()
    if self.form not in ('one', 'budget'):
      raise UserError(f"SalientSpan.form is {self.form!r}; choose 'one' or 'budget'.")
    if self.unit != 'salient':
      raise UserError(f"SalientSpan.unit is {self.unit!r}; it masks 'salient' spans, MaskedLM other units.")
    if self.form == 'one' and (self.rate != masked_lm.MaskedLM.rate or self.selection != 'exact'):
      raise UserError(
        "SalientSpan with form='one' masks one span a passage: rate and selection belong to form='budget'."
      )

  def unit_starts(self, rows, seeds, special):
    return whole_spans(rows, self.candidates(rows, special), self.max_span_tokens)

  def select(self, rows, seeds, starts):
    if self.form == 'budget':
      return super().select(rows, seeds, starts)
    chosen = units.one_unit_per_segment(seeds, 0, starts, rows['segment_ids'])
    # A row of many tiny passages may choose more than the head computes: then its last passages keep their spans.
    spent = tf.cumsum(tf.cast(chosen, tf.int32), axis=1)
    at_end = features.reduce_by(tf.math.unsorted_segment_max, spent, rows['segment_ids'])
    at_end = tf.gather(at_end, rows['segment_ids'], batch_dims=1)
    return chosen & (at_end <= self.max_supervised(starts.shape[1]))

  def check(self, text_length):
    super().check(text_length)
    if text_length < self.max_span_tokens + 2:
      raise UserError(
        f"TASK_FEATURE_LENGTHS['targets'] is {text_length}; SalientSpan with max_span_tokens={self.max_span_tokens} "
        f'needs at least {self.max_span_tokens + 2}.'
      )

  def keep(self, rows, special):
    return tf.reduce_any(self.unit_starts(rows, None, special) >= 0, axis=1)  # spans are no matter of chance

  def max_supervised(self, text_length):
    if self.form == 'budget':
      return super().max_supervised(text_length)
    return min(text_length, max(text_length // 4, self.max_span_tokens))

  def configured(self):
    return super().configured() if self.form == 'budget' else {'masked': 1.0}


def whole_spans(rows: base.Features, candidates: tf.Tensor, max_span_tokens: int) -> tf.Tensor:
  """Where the salient span of each token begins, -1 outside of spans and in those that are too long.

  Args:
    rows: with 'salient_ids' and 'segment_ids', int32 [batch, length].
    candidates: bool [batch, length], tokens that may be masked.
    max_span_tokens: longer spans are none.

  Returns:
    int32 [batch, length].
  """
  starts = units.unit_starts(rows['salient_ids'], rows['segment_ids'], candidates)
  index = tf.range(tf.shape(starts)[1])[tf.newaxis]
  # Longest reach of each span, scattered to its start.
  too_long = tf.cast((starts >= 0) & (index - starts >= max_span_tokens), tf.int32)
  place = tf.maximum(starts, 0)
  long = features.reduce_by(tf.math.unsorted_segment_max, too_long, place)
  return tf.where(tf.gather(long, place, batch_dims=1) > 0, -1, starts)
