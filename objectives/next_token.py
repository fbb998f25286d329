"""Next-token prediction: the causal language-modelling baseline.

Nothing is corrupted. Every token of a segment but its first (`bos`) is predicted once, from all tokens before it.
"""

import dataclasses

import tensorflow as tf

from . import base, features, scorers


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextToken(base.Objective):
  """Predict x[i + 1] at every position i of a segment, causally; weight 1 on every real target."""

  def corrupt(self, rows, seeds, special):
    del seeds, special
    tokens, segments = rows['targets'], rows['segment_ids']
    return features.assemble(
      inputs=tokens,
      targets=features.shift_left(tokens, segments),
      weights=features.same_as_next(segments),
      segment_ids=segments,
      corrupted=tf.zeros_like(tokens),
      bidirectional=False,
    )

  def configured(self):
    return {'corrupted': 0.0}

  def scorer(self, special):
    del special
    return scorers.LeftToRight()
