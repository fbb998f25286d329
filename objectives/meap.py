"""MEAP: next-token prediction with masked inputs (arXiv 2502.07490; scitix/MEAP).

Section 3: a fraction of the INPUT tokens is replaced by [MASK]; attention stays causal; the targets are the clean
next tokens at every position, all with weight 1. So a masked token is still predicted from its left, and its
successor must be predicted without seeing it. At inference nothing is masked.
"""

import dataclasses

import tensorflow as tf

from . import base, features, random, schedules, scorers, units

_SELECT, _PATTERN = 0, 1  # random streams


@dataclasses.dataclass(frozen=True, kw_only=True)
class MEAP(base.Objective):
  """Mask-enhanced autoregressive prediction.

  Attributes:
    rate: share of the row's input positions that are masked; 0.15 in the paper (section 3, tables 9 and 14). The
      count is exact, max(1, int(positions * rate)); the row's last input is never masked (as in the code), and neither
      are special tokens. A schedule (`schedules.LinearRate`) may stand in its place.
    patterns: 0 draws the positions anew for every row. n > 0 draws them from n patterns that all rows share: the
      released code has 51, one a step, the same for every row and device of it.
  """

  rate: schedules.Rate = 0.15
  patterns: int = 0

  def __post_init__(self):
    super().__post_init__()
    schedules.require('MEAP.rate', self.rate)
    if self.patterns < 0:
      raise base.UserError(f'MEAP.patterns is {self.patterns}; give 0 for fresh positions in every row, or 51.')

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    real = tf.cast(segments > 0, tf.int32)
    length = tf.reduce_sum(real, axis=1)
    # float64, so that the count is Python's int(length * rate) to the last bit.
    rate = schedules.of_rows(self.rate, rows)
    count = tf.cast(tf.cast(length, tf.float64) * rate, tf.int32)
    count = tf.where(rate > 0, tf.maximum(count, 1), count)
    if self.patterns:
      number = random.integers(seeds, _PATTERN, 1, 0, self.patterns)[:, 0]
      seeds = random.row_seeds(0, tf.zeros_like(number), tf.cast(number, tf.int64))
    not_last = tf.range(tf.shape(tokens)[1])[tf.newaxis] < length[:, tf.newaxis] - 1
    masked = units.select_positions(seeds, _SELECT, special.is_text(tokens) & (segments > 0) & not_last, count)
    return features.assemble(
      inputs=tf.where(masked, special.mask, tokens),
      targets=features.shift_left(tokens, segments),
      weights=features.same_as_next(segments),
      segment_ids=segments,
      corrupted=masked,
      bidirectional=False,
    )

  def configured(self):
    return {'corrupted': schedules.first(self.rate), 'masked': 1.0}

  def scorer(self, special):
    del special
    return scorers.LeftToRight()
