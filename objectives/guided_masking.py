"""Masks that a scorer chooses: the text analogue of Ask2Mask (arXiv 2202.12719).

There, on speech, an external recogniser's confidence in each frame chooses what is masked, the confident frames, and
its confidence in an utterance scales the loss. Here the scorer is a frozen decoder of ours that reads the text from
left to right: a token's confidence is p(token | what stands left of it in its passage), a passage's the mean of its
tokens'. What is masked is predicted in place, as by `MaskedLM`, whose replacements and exact counts these are.

Deviations: text is not speech, so either end may be masked. Positions are drawn without replacement, with weights
confidence ** (1 / temperature), or its inverse, so that masks vary by epoch. The paper's fractions and thresholds are
not known to us: rate, temperature and the two confidences are our choices.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import tensorflow as tf

from .. import UserError
from . import base, checks, masked_lm, networks, random
from .loss import LossTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedMasking(masked_lm.MaskedLM):
  """Predict tokens that a scorer chose; the other attributes are `MaskedLM`'s.

  Attributes:
    guide: the scorer, whose confidence it is. None is needed where nothing is trained.
    masks: which end is masked more: 'confident', as in the paper, or 'unsure'.
    temperature: of the draw. 4 is ours: the odds of two tokens to be drawn next are the fourth root of those of their
      confidences. Near 0 the most confident are always taken; as it grows the draw becomes `MaskedLM`'s.
    weighting: 'passage' multiplies the loss of a token by its passage's confidence, as the paper does by utterance, so
      that the weights' mean over the masked tokens is the mean confidence of their passages; 'relative' divides that by
      its mean over the row's masked tokens, so that the weights' mean over these is 1 in every row; 'none' has 1.
  """

  guide: networks.Frozen = networks.Frozen()
  masks: Literal['confident', 'unsure'] = 'confident'
  temperature: float = 4.0
  weighting: Literal['passage', 'relative', 'none'] = 'passage'

  on_the_device: ClassVar[str] = (
    'the scorer chooses other places, as many as here, by the confidence it has; a scorer of equal confidence chooses '
    'these.'
  )

  def __post_init__(self):
    super().__post_init__()
    if self.unit != 'token' or self.selection != 'exact' or self.shifted:
      raise UserError(
        f'GuidedMasking has unit={self.unit!r}, selection={self.selection!r} and shifted={self.shifted}: a scorer '
        'chooses single tokens, an exact number of each row, and they are predicted in place. Leave these settings out.'
      )
    if not isinstance(self.guide, networks.Frozen):
      raise UserError(f'GuidedMasking.guide is {self.guide!r}; give @networks.Frozen().')
    checks.require_choice('GuidedMasking.masks', self.masks, ('confident', 'unsure'))
    checks.require_choice('GuidedMasking.weighting', self.weighting, ('passage', 'relative', 'none'))
    if not self.temperature > 0:
      raise UserError(f'GuidedMasking.temperature is {self.temperature}; it is a number above 0.')

  @property
  def beside(self):
    return {'guide': self.guide}

  @property
  def more_features(self):
    """Random bits, and what each token becomes if it is masked: 0 where it may not be."""
    return ('decoder_noise', 'decoder_replacements')

  @property
  def measures(self):
    return ('passage_weight', 'confidence', 'text_confidence')

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    tokens, able = rows['targets'], self.candidates(rows, special)
    # The very bits by which the row above was chosen: equal weights choose it again.
    noise = random.bits(seeds, masked_lm.SELECT, tf.shape(tokens)[1])
    replaced = self.replace(tokens, able, self.unit_starts(rows, seeds, special), seeds, special)
    return made | {
      'decoder_noise': tf.bitcast(noise, tf.int32),
      'decoder_replacements': tf.where(able, replaced, 0),
    }

  def on_device(self, nets: networks.Networks, batch: base.Features) -> base.Features:
    """The scorer's places in place of the row's, as many; and the measures.

    'passage_weight' and 'confidence' are of the masked tokens in order, [batch, masked at most]; 'text_confidence' is
    of every token that may be masked, [batch, length].
    """
    import jax.numpy as jnp

    tokens, weights = batch['decoder_target_tokens'], batch['decoder_loss_weights']
    replacements, segments = batch['decoder_replacements'], batch['decoder_segment_ids']
    able = replacements > 0
    log_p = nets.left_to_right('guide', batch, tokens)
    sign = 1.0 if self.masks == 'confident' else -1.0
    count = (weights > 0).sum(axis=1)
    chosen = nets.choose(sign / self.temperature * log_p, batch['decoder_noise'], able, count)
    confidence = jnp.where(able, jnp.exp(log_p), 0.0)
    scale = self._weights(_passage_means(confidence, able, segments), chosen)
    index = nets.positions(chosen, self.max_supervised(tokens.shape[1]))
    at = lambda values: jnp.take_along_axis(jnp.where(chosen, values, 0.0), index, axis=1)
    return batch | {
      'decoder_input_tokens': jnp.where(chosen, replacements, tokens),
      'decoder_loss_weights': chosen.astype(weights.dtype),
      'passage_weight': at(scale),
      'confidence': at(confidence),
      'text_confidence': confidence,
    }

  def _weights(self, passage: Any, chosen: Any) -> Any:
    """Of the masked tokens' losses, by their passages' confidence; [batch, length]."""
    import jax.numpy as jnp

    if self.weighting == 'none':
      return jnp.ones_like(passage)
    if self.weighting == 'passage':
      return passage
    total = jnp.where(chosen, passage, 0.0).sum(axis=1, keepdims=True)
    return passage * chosen.sum(axis=1, keepdims=True) / jnp.maximum(total, 1e-30)

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """'guided', what is trained; and shown alone: 'cross_entropy' without weights, 'passage_weight' and 'confidence' of
    the masked tokens, and 'text_confidence' of all that may be masked.

    Losses are in nats, sums over the masked tokens over their number; the others are means.
    """
    masked, able = weights.sum(), (batch['decoder_replacements'] > 0).sum().astype(weights.dtype)
    return {
      'guided': LossTerm((cross_entropy * weights * batch['passage_weight']).sum(), masked),
      'cross_entropy': LossTerm((cross_entropy * weights).sum(), masked, 0.0),
      'passage_weight': LossTerm(batch['passage_weight'].sum(), masked, 0.0),
      'confidence': LossTerm(batch['confidence'].sum(), masked, 0.0),
      'text_confidence': LossTerm(batch['text_confidence'].sum(), able, 0.0),
    }


def _passage_means(values: Any, able: Any, segments: Any) -> Any:
  """For each position the mean of `values` where `able` in its segment, 0 in one without; float32 [batch, length]."""
  import jax
  import jax.numpy as jnp

  def row(values: Any, able: Any, segments: Any) -> Any:
    total = lambda x: jax.ops.segment_sum(x, segments, num_segments=segments.shape[0] + 1)
    return (total(values) / jnp.maximum(total(able.astype(values.dtype)), 1.0))[segments]

  return jax.vmap(row)(values, able, segments)
