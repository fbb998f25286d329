"""An objective of the team's own, in one file: every other position is hidden and predicted from both sides."""

import dataclasses
from typing import ClassVar

import tensorflow as tf
import unmask
from unmask.objectives import features, random


@dataclasses.dataclass(frozen=True, kw_only=True)
class EveryOther(unmask.objectives.Objective):
  """Masks every `step`-th position, from one that is drawn for the row.

  Attributes:
    step: distance of two masked positions.
  """

  step: int = 2
  attention: unmask.objectives.AttentionSpec = unmask.objectives.BIDIRECTIONAL
  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.step < 2:
      raise unmask.UserError(f'EveryOther.step is {self.step}; it is 2 or more.')

  @property
  def shift(self) -> int:
    return 0

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    first = random.integers(seeds, 0, 1, 0, self.step)
    place = tf.range(tf.shape(tokens)[1])[tf.newaxis]
    chosen = ((place - first) % self.step == 0) & special.is_text(tokens) & (segments > 0)
    return features.assemble(
      inputs=tf.where(chosen, special.mask, tokens),
      targets=tf.where(chosen, tokens, 0),
      weights=chosen,
      segment_ids=segments,
      corrupted=chosen,
      bidirectional=True,
    )

  def scorer(self, special: unmask.objectives.SpecialTokens) -> unmask.objectives.Scorer:
    return unmask.objectives.PseudoLikelihood(mask=special.mask)
