"""MEAP's fine-tuning: answers, and their masked tokens in a copy (arXiv 2502.07490, section 3.2).

A row holds examples of a question and an answer, one a segment (`answer_ids` is 1 on the answer and its end token). It
is followed by a copy of itself in which 10 % of the answer's tokens are [MASK]. Scored are the answer in the original,
and the masked tokens in the copy, each from the position before it. Answers of `min_answer` tokens or fewer are not
copied: they are trained as usual.
"""

import dataclasses
from typing import Literal

import tensorflow as tf

from . import base, checks, features, scorers, units


@dataclasses.dataclass(frozen=True, kw_only=True)
class MEAPFineTuning(base.Objective):
  """Answer-only loss with a masked copy of every long answer.

  Attributes:
    rate: share of the answer's tokens (its end token aside) that is masked in the copy, max(1, int(rate * tokens)); 0.1
      in the paper (table 9).
    form: 'joined' puts the copy behind the original in one sequence, which it sees (the paper); 'separate' trains it as
      an example of its own (the released code, MEAP-SFT.py).
    min_answer: answers must be longer than this to be copied; 50 tokens in the code.
  """

  rate: float = 0.1
  form: Literal['joined', 'separate'] = 'joined'
  min_answer: int = 50

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('MEAPFineTuning.rate', self.rate)
    checks.require_choice('MEAPFineTuning.form', self.form, ('joined', 'separate'))

  @property
  def units(self):
    return ('answer_ids',)

  def keep(self, rows, special):
    return tf.reduce_any((rows['answer_ids'] > 0) & (rows['segment_ids'] > 0), axis=1)

  def model_length(self, text_length):
    return 2 * text_length

  def max_supervised(self, text_length):
    most = int(self.rate * text_length) + text_length // (self.min_answer + 1)  # at least one in every copy
    return min(2 * text_length, text_length + most)

  def scorer(self, special):
    del special
    return scorers.LeftToRight()

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    answer = (rows['answer_ids'] > 0) & (segments > 0)
    copied, masked = self._masked(seeds, answer & special.is_text(tokens), segments)
    behind = tf.where(copied, segments, 0)
    if self.form == 'separate':
      behind = tf.where(copied, segments + tf.reduce_max(segments, axis=1, keepdims=True), 0)
    join = lambda one, other: tf.ensure_shape(tf.concat([one, other], 1), [None, 2 * tokens.shape[1]])
    before = lambda marked: features.shift_left(tf.cast(marked, tf.int32), segments)
    made = features.assemble(
      inputs=join(tokens, tf.where(copied, tf.where(masked, special.mask, tokens), 0)),
      targets=join(features.shift_left(tokens, segments), features.shift_left(tokens, behind)),
      weights=join(before(answer), before(masked)) > 0,
      segment_ids=join(segments, behind),
      corrupted=join(tf.zeros_like(masked), masked),
      bidirectional=False,
    )
    if self.form == 'joined':  # the copy goes on where its original ended
      place = features.positions(segments)
      size = place + 1 + _following(segments)
      made['decoder_positions'] = join(place, tf.where(copied, place + size, 0))
    return made

  def _masked(self, seeds, able, segments) -> tuple[tf.Tensor, tf.Tensor]:
    """Which tokens are copied, and which of those masked: bool [batch, length] each. `able` is the answers' text."""
    length = tf.shape(segments)[1]
    size = features.reduce_by(tf.math.unsorted_segment_sum, tf.cast(able, tf.int32), segments)
    size = tf.gather(size, segments, batch_dims=1)
    copied = (segments > 0) & (size > self.min_answer)
    # The first `count` of a segment's answer tokens in random order.
    index = tf.range(length)[tf.newaxis] + tf.zeros_like(segments)
    keys = units.random_order(seeds, 0, tf.where(able & copied, index, -1))
    by_segment = tf.cast(segments, tf.int64) * (1 << 40) + keys // (1 << 16)
    place = tf.argsort(tf.argsort(tf.where(keys < tf.int64.max, by_segment, keys), stable=True))
    first = features.reduce_by(tf.math.unsorted_segment_min, tf.where(able & copied, place, length), segments)
    rank = place - tf.gather(first, segments, batch_dims=1)
    count = tf.maximum(tf.cast(tf.cast(size, tf.float64) * self.rate, tf.int32), 1 if self.rate > 0 else 0)
    return copied, able & copied & (rank < count)


def _following(segments: tf.Tensor) -> tf.Tensor:
  """How many positions of the same segment come after each one; int32 [batch, length]."""
  backwards = tf.reverse(segments, [1])
  return tf.reverse(features.positions(backwards), [1])
