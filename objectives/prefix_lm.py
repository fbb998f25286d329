"""Prefix language modelling: a prefix is seen from both sides, what follows it is predicted from left to right.

T5 (arXiv 1910.10683, section 3.3.1) cuts a text in two at a random place; in one stack, the prefix is where attention
is bidirectional (its section 3.2.1 and figure 4; a "non-causal decoder" in Wang et al., arXiv 2204.05832, section 2.1).
"""

import dataclasses

import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, scorers
from .attention import PREFIX, AttentionSpec

_CUT = 0  # random stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM(base.Objective):
  """Predict each segment's tokens behind a prefix of it; weight 1 on each of them, 0 on the prefix.

  Attributes:
    attention: PREFIX, or CAUSAL for a decoder whose prefix is causal too (Wang et al.'s causal decoder).
    suffix_share: None draws the length of the prefix of n tokens from 1..n - 1 with equal chances, as T5 does; a number
      gives this share of every segment, rounded, to what is predicted (UL2's S-denoiser: 0.25, arXiv 2205.05131, table
      1).
    mode: which of the vocabulary's spare ids a segment begins with in place of `bos`; None leaves `bos`.
  """

  attention: AttentionSpec = PREFIX
  suffix_share: float | None = None
  mode: int | None = None

  def __post_init__(self):
    super().__post_init__()
    checks.require_mark('PrefixLM.mode', self.mode)
    if self.suffix_share is not None and not 0 < self.suffix_share < 1:
      raise UserError(f'PrefixLM.suffix_share is {self.suffix_share}; it lies between 0 and 1.')

  @property
  def needs(self):
    return needs.of_mark('PrefixLM.mode', self.mode)

  @property
  def more_features(self):
    return ('decoder_levels',) if self.attention.levels else ()

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    length = features.reduce_by(tf.math.unsorted_segment_sum, tf.ones_like(segments), segments)
    prefix = tf.gather(self._prefix(length, seeds), segments, batch_dims=1)
    seen = (features.positions(segments) < prefix) & (segments > 0)
    later = features.shift_left(tf.cast(~seen, tf.int32), segments) > 0
    made = features.assemble(
      inputs=features.begin(tokens, segments, special.mark(self.mode)),
      targets=features.shift_left(tokens, segments),
      weights=later,
      segment_ids=segments,
      corrupted=tf.zeros_like(tokens),
      bidirectional=seen if self.attention.levels else False,
    )
    return made | ({'decoder_levels': features.levels(seen)} if self.attention.levels else {})

  def _prefix(self, length: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Of segments of so many tokens, int32 [batch, segments]: how many are the prefix, at least one."""
    if self.suffix_share is not None:
      cut = tf.cast(tf.round((1 - self.suffix_share) * tf.cast(length, tf.float64)), tf.int32)
    else:
      cut = 1 + tf.cast(
        random.uniform(seeds, _CUT, tf.shape(length)[1]) * tf.cast(tf.maximum(length - 1, 0), tf.float32), tf.int32
      )
    return tf.clip_by_value(cut, 1, tf.maximum(length - 1, 1))

  def configured(self):
    return {'corrupted': 0.0}

  def scorer(self, special):
    return scorers.PrefixLeftToRight(begin=special.mark(self.mode))

  def embedding(self, special):
    return dataclasses.replace(super().embedding(special), begin=special.mark(self.mode))
