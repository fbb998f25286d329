"""Masked diffusion: masked language modelling at a random rate, weighted so that the loss bounds the likelihood.

MDLM (arXiv 2406.07524), MD4 (2406.04329) and LLaDA (2502.09992) draw a time t of each row in [0, 1], mask each token
with probability p(t), and weigh the cross-entropy of masked tokens by p'(t) / p(t), over the number of all real tokens
(LLaDA, equation 3 and algorithm 1; MD4, section 3). The expectation is an upper bound of the negative log-likelihood a
token, the same for every schedule p. Attention sees both sides, or, with `AttentionSpec.block`, blocks from left to
right.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import tensorflow as tf

from .. import UserError
from . import base, checks, features, random, scorers
from .attention import BIDIRECTIONAL, AttentionSpec
from .loss import LossTerm

_SELECT, _TIME = 0, 1  # random streams; the first as in `masked_lm`
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2  # its multiples fill the unit interval evenly, however many are taken


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedDiffusion(base.Objective):
  """Predict masked tokens from both sides, at noise levels that rows of a batch divide among them.

  Attributes:
    schedule: p(t) above `floor`: 'linear' t (MDLM's log-linear, LLaDA), 'cosine' cos(pi / 2 (1 - t)) or 'polynomial'
      t^exponent (MD4, table 4).
    exponent: of the polynomial.
    floor: the smallest probability of a mask; 0.001 in MDLM and LLaDA. Weights are at most 1 / floor.
    weighting: 'bound' is p'(t) / p(t) over all real tokens; 'none' is the mean over the masked tokens.
    time: None draws it; a number is the time of all rows.
    samples: orders in which the judge reveals a text's hidden tokens, whose mean it takes; see `scorers.AnyOrder`. It
      changes nothing of the training.
  """

  attention: AttentionSpec = BIDIRECTIONAL
  schedule: Literal['linear', 'cosine', 'polynomial'] = 'linear'
  exponent: float = 2.0
  floor: float = 1e-3
  weighting: Literal['bound', 'none'] = 'bound'
  time: float | None = None
  samples: int = dataclasses.field(default=1, repr=False)  # not of the run: a trained model may be asked with another

  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'

  def __post_init__(self):
    super().__post_init__()
    checks.require_choice('MaskedDiffusion.schedule', self.schedule, ('linear', 'cosine', 'polynomial'))
    checks.require_choice('MaskedDiffusion.weighting', self.weighting, ('bound', 'none'))
    checks.require_prob('MaskedDiffusion.floor', self.floor, 1e-6, 0.5)
    if self.schedule != 'polynomial':
      checks.refuse_idle(self, ('exponent',), "schedule='polynomial'")
    if not 1 <= self.exponent <= 10:
      raise UserError(f'MaskedDiffusion.exponent is {self.exponent}; it lies in [1, 10].')
    if self.time is not None:
      checks.require_prob('MaskedDiffusion.time', self.time)
    if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
      raise UserError(f'MaskedDiffusion.samples is {self.samples!r}; give a whole number of orders, 1 or more.')

  @property
  def shift(self) -> int:
    return 0

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    probability, weight = self.noise(self.times(rows))
    able = special.is_text(tokens) & (segments > 0)
    masked = able & (random.uniform(seeds, _SELECT, tf.shape(tokens)[1]) < probability[:, tf.newaxis])
    return features.assemble(
      inputs=tf.where(masked, special.mask, tokens),
      targets=tokens if self.weighting == 'none' else tf.where(able, tokens, 0),
      weights=tf.where(masked, weight[:, tf.newaxis] if self.weighting == 'bound' else 1.0, 0.0),
      segment_ids=segments,
      corrupted=masked,
      bidirectional=self.attention.kind == 'bidirectional',
    )

  def times(self, rows: base.Features) -> tf.Tensor:
    """The time of each row in [0, 1), float32 [batch].

    Rows of a training batch of n divide [0, 1) into n equal parts, each of which has a row (stratified or antithetic
    sampling: MDLM, section 5.1; MD4, section 4). Elsewhere a row's number decides, evenly too.
    """
    if self.time is not None:
      return tf.fill(tf.shape(rows['targets'])[:1], self.time)
    turn = _GOLDEN_RATIO * tf.cast(rows['example_id'] % 2**31, tf.float64)
    begin = random.shared(rows['seed'], rows['epoch'], _TIME)
    if 'place' in rows and not self.static_copies:  # else a row's copies have their times
      in_batch = rows['place'] >= 0
      turn = tf.where(in_batch, rows['place'], turn)
      begin = tf.where(in_batch, random.shared(rows['seed'], rows['step'], _TIME), begin)
    return tf.cast((begin + turn) % 1.0, tf.float32)

  def noise(self, time: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """p(t) and p'(t) / p(t), float32; the latter without the share of [0, 1] that lies below the floor."""
    # In float64, for TensorFlow's cosine of a number depends in its last bit on how many others it is taken with.
    time = tf.cast(time, tf.float64)
    if self.schedule == 'cosine':
      angle = math.pi / 2 * (1 - time)
      above, slope = tf.cos(angle), math.pi / 2 * tf.sin(angle)
    else:
      power = self.exponent if self.schedule == 'polynomial' else 1.0
      above, slope = time**power, power * time ** (power - 1)
    probability = self.floor + (1 - self.floor) * above
    return tf.cast(probability, tf.float32), tf.cast(slope / probability, tf.float32)

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """In nats a token that could be masked: on average over times and masks, at least the negative log-likelihood."""
    if self.weighting == 'none':
      return super().loss(cross_entropy, weights, batch)
    real = (batch['decoder_target_tokens'] > 0).sum()
    return {'bound': LossTerm((cross_entropy * weights).sum(), real.astype(weights.dtype))}

  def configured(self):
    return {'masked': 1.0}

  def scorer(self, special):
    return scorers.AnyOrder.under(self.attention, special.mask, self.samples)
