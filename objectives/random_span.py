"""Masked language modelling over random spans of words, as SpanBERT draws them.

Source: facebookresearch/SpanBERT, pretraining/fairseq/data/masking.py with the settings of its README. A span's length
in words is geometric, Geo(0.2) on 1..10, renormalised (mean 3.8); it begins at the word of a uniformly drawn token, and
is drawn again if that token is masked already; this goes on until ceil(0.15 * length) tokens are masked, the last span
being cut there. Spans that touch are one, and 80% [MASK] / 10% random / 10% kept is drawn once for it. The loss at span
boundaries is not part of this objective.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import tensorflow as tf

from .. import UserError
from . import base, checks, features, masked_lm, random, schedules

_ANCHOR, _LENGTH = 8, 9  # random streams, beside those of masked_lm
_NEVER = 1 << 20  # the turn of a token that no span covers


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSpan(masked_lm.MaskedLM):
  """`MaskedLM` over spans of random length.

  Attributes:
    geometric_prob: of the lengths' distribution; 0.2 in SpanBERT.
    max_span_words: its upper end; 10 in SpanBERT.
  """

  unit: Literal['token', 'word', 'collocation', 'salient'] = 'word'
  draw: Literal['token', 'unit'] = 'unit'
  geometric_prob: float = 0.2
  max_span_words: int = 10

  home: ClassVar[str] = 'masked'

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('RandomSpan.geometric_prob', self.geometric_prob)
    if (self.unit, self.selection, self.last_unit) != ('word', 'exact', 'skip') or self.max_span_words < 1:
      raise UserError(
        "RandomSpan needs unit='word', selection='exact', last_unit='skip' and max_span_words of 1 or more; its last "
        'span is cut where the count is met.'
      )

  def max_supervised(self, text_length):
    return min(text_length, int(text_length * schedules.largest(self.rate)) + 1)

  def choose(self, rows, seeds, special):
    starts = self.unit_starts(rows, seeds, special)
    able = starts >= 0
    length = tf.reduce_sum(tf.cast(rows['segment_ids'] > 0, tf.float64), axis=1)
    budget = tf.cast(tf.math.ceil(length * schedules.of_rows(self.rate, rows) - 1e-9), tf.int32)
    turn = self._turns(rows, seeds, starts)
    # Tokens in the order in which spans reach them, and inside a span from left to right, as far as the budget goes.
    size = tf.shape(starts)[1]
    keys = tf.cast(turn, tf.int64) * tf.cast(size, tf.int64) + tf.range(tf.cast(size, tf.int64))[tf.newaxis]
    last = tf.gather(tf.sort(keys, axis=-1), tf.clip_by_value(budget - 1, 0, size - 1), batch_dims=1)
    chosen = able & (turn < _NEVER) & (keys <= last[:, tf.newaxis]) & (budget > 0)[:, tf.newaxis]
    return chosen, tf.where(chosen, features.run_starts(tf.cast(chosen, tf.int32)), -1)

  def _turns(self, rows: base.Features, seeds: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """Which draw masks each token, int32 [batch, length]; `_NEVER` where none does."""
    length = tf.shape(starts)[1]
    begins = tf.cast(starts == tf.range(length)[tf.newaxis], tf.int32)
    word = tf.where(starts >= 0, tf.cumsum(begins, axis=1) - 1, -1)  # numbered from 0 in the row
    anchor, words = self._draws(seeds, starts)
    first = tf.gather(word, anchor, batch_dims=1)
    words = tf.minimum(words, tf.gather(_words_left(word, rows['segment_ids']), anchor, batch_dims=1))
    accepted = _accepted(first, words)
    # The earliest accepted draw of each (first word, length), then of each word: a span of n words covers n of them.
    batch = tf.shape(starts)[0]
    limit = min(self.max_span_words, starts.shape[1])
    words = tf.minimum(words, limit)
    flat = (tf.range(batch)[:, tf.newaxis] * length + tf.maximum(first, 0)) * limit + words - 1
    turns = tf.where(accepted, tf.range(tf.shape(anchor)[1])[tf.newaxis], _NEVER)
    table = tf.fill([batch * length * limit], _NEVER)
    table = tf.tensor_scatter_nd_min(table, tf.reshape(flat, [-1, 1]), tf.reshape(turns, [-1]))
    table = tf.reshape(table, [batch, length, limit])
    reach, best = tf.fill([batch, length], _NEVER), tf.fill([batch, length], _NEVER)
    for back in reversed(range(limit)):  # spans that began `back` words before and are long enough
      reach = tf.minimum(reach, table[..., back])
      best = tf.minimum(best, tf.pad(reach[:, : length - back], [[0, 0], [back, 0]], constant_values=_NEVER))
    return tf.where(starts >= 0, tf.gather(best, tf.maximum(word, 0), batch_dims=1), _NEVER)

  def _draws(self, seeds: tf.Tensor, starts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Anchors (places in the row) and lengths in words: int32 [batch, draws].

    As many as cover the rate's share of a row if words have one token and documents do not end spans, with some to
    spare; rows of one-word documents may stay below their count.
    """
    rate = min(schedules.largest(self.rate), 0.99)
    mass = [(1 - self.geometric_prob) ** k for k in range(self.max_span_words)]
    mean = sum((k + 1) * p for k, p in enumerate(mass)) / sum(mass)
    length = starts.shape[1]
    draws = math.ceil(-1.1 * math.log1p(-rate) * length / mean + 6 * math.sqrt(length)) + 32
    able = tf.cast(starts >= 0, tf.int32)
    rank = tf.cumsum(able, axis=1)
    count = tf.reduce_sum(able, axis=1, keepdims=True)
    wanted = tf.cast(random.uniform(seeds, _ANCHOR, draws) * tf.cast(count, tf.float32), tf.int32)
    anchor = tf.searchsorted(rank, tf.minimum(wanted, tf.maximum(count - 1, 0)) + 1)
    below = tf.cumsum(tf.constant([p / sum(mass) for p in mass], tf.float32))[:-1]
    words = 1 + tf.searchsorted(below, tf.reshape(random.uniform(seeds, _LENGTH, draws), [-1]), side='right')
    return tf.minimum(anchor, tf.shape(starts)[1] - 1), tf.reshape(words, tf.shape(anchor))


def _words_left(word: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
  """Words from each token's own to the last of its document, 1 or more; int32 [batch, length]. A span ends there."""
  last = features.reduce_by(tf.math.unsorted_segment_max, word, segment_ids)
  return tf.maximum(tf.gather(last, segment_ids, batch_dims=1) - word + 1, 1)


def _accepted(first: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
  """Draws whose anchor no accepted earlier draw has masked: bool [batch, draws].

  Args:
    first: int32 [batch, draws], the word of the anchor, -1 where it may not be masked.
    words: int32 [batch, draws], the length.
  """
  order = tf.range(tf.shape(first)[1])
  earlier = order[tf.newaxis, :, tf.newaxis] > order[tf.newaxis, tf.newaxis]
  gap = first[:, :, tf.newaxis] - first[:, tf.newaxis]
  covers = earlier & (gap >= 0) & (gap < words[:, tf.newaxis])  # [batch, draw, an earlier draw that covers its anchor]

  def undecided(accepted, open_draws):
    del accepted
    return tf.reduce_any(open_draws)

  def decide(accepted, open_draws):
    refused = tf.reduce_any(covers & accepted[:, tf.newaxis], axis=-1)
    waits = tf.reduce_any(covers & open_draws[:, tf.newaxis], axis=-1)
    return accepted | (open_draws & ~refused & ~waits), open_draws & ~refused & waits

  real = first >= 0
  return tf.while_loop(undecided, decide, (tf.zeros_like(real), real))[0]
