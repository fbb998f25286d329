"""Forgetful causal masking: next-token prediction in which some past tokens cannot be seen (arXiv 2210.13432).

Of each sequence a share of the tokens, uniform between 0 and `max_rate`, is hidden from attention; they are still
predicted, and still predict their next one from all that is not hidden. The first token is never hidden. Unlike MEAP's
masks, a hidden token leaves its own input as it is: only others do not see it.
"""

import dataclasses

import tensorflow as tf

from . import base, checks, features, random, scorers, units
from .attention import CAUSAL, AttentionSpec

_RATE, _SELECT = 0, 1  # random streams
FORGETFUL = AttentionSpec(ordered=True, table=((True, False), (True, False)))  # nobody but itself sees group 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgetfulCausal(base.Objective):
  """Predict the next token, some of the past being out of sight; weight 1 on each.

  Attributes:
    max_rate: the highest share of a row's tokens that is hidden; 0.15 in the paper.
    fixed_rate: None draws the share of each row; a number takes it for all.
  """

  attention: AttentionSpec = FORGETFUL
  max_rate: float = 0.15
  fixed_rate: float | None = None

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('ForgetfulCausal.max_rate', self.max_rate)
    if self.fixed_rate is not None:
      checks.require_prob('ForgetfulCausal.fixed_rate', self.fixed_rate)
      checks.refuse_idle(self, ('max_rate',), 'fixed_rate=None')

  @property
  def more_features(self):
    return ('decoder_groups',)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    rate = self.max_rate * random.uniform(seeds, _RATE, 1)[:, 0] if self.fixed_rate is None else self.fixed_rate
    length = tf.reduce_sum(tf.cast(segments > 0, tf.float32), axis=1)
    count = tf.cast(tf.round(length * rate), tf.int32)
    hidden = units.select_positions(seeds, _SELECT, special.is_text(tokens) & (segments > 0), count)
    made = features.assemble(
      inputs=tokens,
      targets=features.shift_left(tokens, segments),
      weights=features.same_as_next(segments),
      segment_ids=segments,
      corrupted=hidden,
      bidirectional=False,
    )
    return made | {'decoder_groups': tf.cast(hidden, tf.int32)}

  def configured(self):
    return {'corrupted': self.max_rate / 2 if self.fixed_rate is None else self.fixed_rate}

  def scorer(self, special):
    del special
    return scorers.LeftToRight(attention=CAUSAL)  # nothing is hidden
