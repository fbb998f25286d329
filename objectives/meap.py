"""MEAP: next-token prediction with masked inputs (arXiv 2502.07490; scitix/MEAP).

Section 3: a fraction of the INPUT tokens is replaced by [MASK]; attention stays causal; the targets are the clean
next tokens at every position, all with weight 1. So a masked token is still predicted from its left, and its
successor must be predicted without seeing it. At inference nothing is masked.
"""

import dataclasses

import tensorflow as tf

from . import base, features, scoring, units


@dataclasses.dataclass(frozen=True, kw_only=True)
class MEAP(base.Objective):
  """Mask-enhanced autoregressive prediction.

  Attributes:
    rate: share of the row's input positions that are masked; 0.15 in the paper (section 3, tables 9 and 14). The
      count is exact, max(1, int(positions * rate)), drawn anew for every row; the row's last input is never masked
      (as in the code), and neither are special tokens.
  """

  rate: float = 0.15

  def __post_init__(self):
    super().__post_init__()
    base.require_prob('MEAP.rate', self.rate)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    real = tf.cast(segments > 0, tf.int32)
    length = tf.reduce_sum(real, axis=1)
    # float64, so that the count is Python's int(length * rate) to the last bit.
    count = tf.maximum(tf.cast(tf.cast(length, tf.float64) * self.rate, tf.int32), 1 if self.rate > 0 else 0)
    not_last = tf.range(tf.shape(tokens)[1])[tf.newaxis] < length[:, tf.newaxis] - 1
    masked = units.select_positions(seeds, 0, special.is_text(tokens) & (segments > 0) & not_last, count)
    return features.assemble(
      inputs=tf.where(masked, special.mask, tokens),
      targets=features.shift_left(tokens, segments),
      weights=features.same_as_next(segments),
      segment_ids=segments,
      corrupted=masked,
      bidirectional=False,
    )

  def configured(self):
    return {'corrupted': self.rate, 'masked': 1.0}

  def scorer(self, special):
    del special
    return scoring.LeftToRight()
