"""Token replacement: some tokens are swapped for random ones, and all must be told (MDiff4STR, arXiv 2512.01422).

The model is not shown where a token was replaced, so it learns to overwrite confident mistakes: what a sampler that
keeps its own tokens cannot learn from masks alone.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from . import base, checks, features, random, scoring
from .attention import BIDIRECTIONAL, AttentionSpec

_RATE, _SELECT, _OTHER = 0, 1, 2  # random streams


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenReplacement(base.Objective):
  """Predict every token of a text of which some are random; weight 1 on each token of the text.

  Attributes:
    rate: the probability that a token is replaced, by any ordinary one; None draws it for each row from [0, 1).
  """

  attention: AttentionSpec = BIDIRECTIONAL
  rate: float | None = None

  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'

  def __post_init__(self):
    super().__post_init__()
    if self.rate is not None:
      checks.require_prob('TokenReplacement.rate', self.rate)

  @property
  def shift(self) -> int:
    return 0

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    able, length = special.is_text(tokens) & (segments > 0), tf.shape(tokens)[1]
    rate = random.uniform(seeds, _RATE, 1) if self.rate is None else self.rate
    replaced = able & (random.uniform(seeds, _SELECT, length) < rate)
    return features.assemble(
      inputs=tf.where(replaced, random.integers(seeds, _OTHER, length, *special.text), tokens),
      targets=tokens,
      weights=able,
      segment_ids=segments,
      corrupted=replaced,
      bidirectional=not self.attention.always_ordered,
    )

  def configured(self):
    return {'supervised': 1.0} | ({} if self.rate is None else {'corrupted': self.rate})

  def scorer(self, special):
    return scoring.Unscored('it reads every token, right or wrong, and has learned no gap')
