"""Masked diffusion by a mixture of noising strategies: MDiff4STR's six, on text (arXiv 2512.01422; OpenOCR).

Each passage draws a strategy: all of it masked, all but a prefix, all but a suffix, all but its first blocks, one token
alone, or each token with a probability that is drawn too. So one loss asks for what language models, their mirror
images, masked models and diffusion ask for. A passage's loss is the mean over its masked tokens, times its length.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from .. import UserError
from . import base, features, random, scorers
from .attention import BIDIRECTIONAL, AttentionSpec
from .loss import LossTerm

STRATEGIES = ('all', 'prefix', 'suffix', 'blocks', 'one', 'random')
_STRATEGY, _SIZE, _BLOCKS, _ONE, _TOKENS = 0, 1, 2, 3, 4  # random streams


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseStrategies(base.Objective):
  """Predict masked tokens from both sides; which are masked is by the strategy that the passage draws.

  Of a passage of n tokens 'all' masks n; 'prefix' and 'suffix' keep 1..n - 1 of them, all numbers being alike; 'blocks'
  cuts it in 2 to 6 equal blocks and keeps some, but not all, of the first; 'one' masks one; 'random' masks each with a
  probability uniform in [0, 1). One is masked where a strategy masks none.

  Attributes:
    shares: of the passages, relative to each other, by strategy; a strategy that is not named is not used.
  """

  attention: AttentionSpec = BIDIRECTIONAL
  shares: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(STRATEGIES, 1.0))

  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'

  def __post_init__(self):
    super().__post_init__()
    wrong = UserError(
      f'NoiseStrategies.shares is {self.shares!r}; give a number above 0 for one or more of {", ".join(STRATEGIES)}.'
    )
    if not isinstance(self.shares, Mapping) or not self.shares or not set(self.shares) <= set(STRATEGIES):
      raise wrong
    if any(isinstance(x, bool) or not isinstance(x, int | float) or not 0 < x < 1e9 for x in self.shares.values()):
      raise wrong
    object.__setattr__(self, 'shares', {name: float(self.shares[name]) for name in STRATEGIES if name in self.shares})

  @property
  def shift(self) -> int:
    return 0

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    able = special.is_text(tokens) & (segments > 0)
    one = tf.cast(able, tf.int32)
    count = features.reduce_by(tf.math.unsorted_segment_sum, one, segments)
    before = tf.cumsum(one, axis=1, exclusive=True)
    rank = before - tf.gather(tf.cumsum(count, axis=1, exclusive=True), segments, batch_dims=1)
    masked = able & self._masked(seeds, segments, rank, count)
    realised = features.reduce_by(tf.math.unsorted_segment_sum, tf.cast(masked, tf.int32), segments)  # 0: it gets one
    alone = _up_to(random.uniform(seeds, _ONE, tf.shape(count)[1]), count)
    masked |= (
      able & tf.gather(realised == 0, segments, batch_dims=1) & (rank == tf.gather(alone, segments, batch_dims=1))
    )
    weight = tf.cast(count, tf.float32) / tf.cast(tf.maximum(realised, 1), tf.float32)
    return features.assemble(
      inputs=tf.where(masked, special.mask, tokens),
      targets=tf.where(able, tokens, 0),
      weights=tf.where(masked, tf.gather(weight, segments, batch_dims=1), 0.0),
      segment_ids=segments,
      corrupted=masked,
      bidirectional=not self.attention.always_ordered,
    )

  def _masked(self, seeds: tf.Tensor, segments: tf.Tensor, rank: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Which tokens the strategies mask, bool [batch, length]; the n tokens of a passage have ranks 0..n - 1."""
    passages = tf.shape(count)[1]
    draw = lambda stream: random.uniform(seeds, stream, passages)
    kept = 1 + _up_to(draw(_SIZE), tf.maximum(count - 1, 0))
    blocks = 2 + _up_to(draw(_BLOCKS), tf.constant(5))
    whole = 1 + _up_to(draw(_SIZE), blocks - 1)
    of = lambda values: tf.gather(values, segments, batch_dims=1)
    masks = {
      'all': rank >= 0,
      'prefix': rank >= of(kept),
      'suffix': rank < of(count - kept),
      'blocks': rank * of(blocks) >= of(whole * count),
      'one': rank < 0,  # none: what has no masked token gets one
      'random': random.uniform(seeds, _TOKENS, tf.shape(segments)[1])
      < of(tf.broadcast_to(draw(_SIZE), tf.shape(count))),
    }
    strategy = tf.searchsorted(tf.constant(self._edges(), tf.float32), tf.reshape(draw(_STRATEGY), [-1]), side='right')
    strategy = of(tf.reshape(strategy, tf.shape(count)))
    return tf.reduce_any(tf.stack([(strategy == k) & masks[name] for k, name in enumerate(self.shares)]), axis=0)

  def _edges(self) -> list[float]:
    """Where the strategies' shares of [0, 1) end, but for the last one's."""
    values = list(self.shares.values())
    return [sum(values[: k + 1]) / sum(values) for k in range(len(values) - 1)]

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """Over the number of tokens that could be masked: a passage counts by its length, however many are masked."""
    real = (batch['decoder_target_tokens'] > 0).sum()
    return {'cross_entropy': LossTerm((cross_entropy * weights).sum(), real.astype(weights.dtype))}

  def configured(self):
    return {'masked': 1.0}

  def scorer(self, special):
    return scorers.AnyOrder.under(self.attention, special.mask)


def _up_to(chance: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Of a number in [0, 1), one of 0..count - 1, all alike; int32."""
  return tf.cast(chance * tf.cast(count, tf.float32), tf.int32)
