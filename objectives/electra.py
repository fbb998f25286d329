"""ELECTRA: a small generator fills masks in, the decoder tells which tokens were replaced (arXiv 2003.10555).

Sources: the paper, sections 3.1 and 3.2, and google-research/electra (`run_pretraining.py`, `configure_pretraining.py`,
`pretrain/pretrain_helpers.py`). Of 15% of the tokens 85% become [MASK] and the others stay, none is random; the
generator, a masked language model that shares the embedding table, draws a token for each at temperature 1; one that
equals the original counts as original. The decoder's loss is over every real token, 50 times that of the generator,
whose mean is over the chosen ones. No gradient goes through the drawing.

Deviations: positions are drawn without replacement, so that the rate is exact; only ordinary tokens are drawn; heads
have no biases, and the generator's no dense layer.
"""

import dataclasses
import math
from typing import Any, ClassVar

import tensorflow as tf

from .. import UserError
from . import base, masked_lm, networks, random, schedules, scoring
from .loss import LossTerm

_NOISE = 8  # random stream, beside those of `masked_lm`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Electra(masked_lm.MaskedLM):
  """Tell which tokens a generator replaced; the other attributes are `MaskedLM`'s, and choose what it may replace.

  Attributes:
    mask_prob, random_prob: of what the generator reads; 0.85 and 0 in the released code.
    generator_width: of the generator, a share of the decoder's width, heads and MLP; 1/4 for the paper's small and
      large models, 1/3 for base.
    generator_layers: its blocks; None takes as many as the decoder has, as there.
    detection_weight: of the decoder's loss, that of the generator's being 1; 50 in the paper.
  """

  mask_prob: float = 0.85
  random_prob: float = 0.0
  generator_width: float = 0.25
  generator_layers: int | None = None
  detection_weight: float = 50.0

  on_the_device: ClassVar[str] = 'the generator reads this row and fills the coloured places in; then it is judged.'
  predicts_tokens: ClassVar[bool] = False
  note: ClassVar[str] = (
    'It was trained as the discriminator of ELECTRA (arXiv 2003.10555): to tell tokens that a generator had replaced. '
    'Its hidden states are what was trained; the logits of tokens are not, and neither the generator nor the head that '
    'tells replaced tokens is part of this folder. Fine-tune it.'
  )

  def __post_init__(self):
    super().__post_init__()
    if self.shifted:
      raise UserError('Electra.shifted is True: a token is told from the output at its own place. Leave it out.')
    if not 0 < self.detection_weight < math.inf:
      raise UserError(f'Electra.detection_weight is {self.detection_weight}; it is a number above 0.')
    _ = self.beside  # whose settings complain of themselves

  @property
  def beside(self):
    share = schedules.largest(self.rate)
    generator = networks.Tower(width=self.generator_width, layers=self.generator_layers, scored=share, drawn=share)
    return {'generator': generator, 'detector': networks.Detector()}

  @property
  def more_features(self):
    """Random bits, and the half-open range of ids to draw from: where nothing is drawn, that range is 0, 0."""
    return ('decoder_noise', 'decoder_lowest', 'decoder_highest')

  @property
  def measures(self):
    return ('generator_loss', 'detection_loss', 'replaced')

  def max_supervised(self, text_length):
    return text_length

  def configured(self):
    return super().configured() | {'supervised': 1.0}

  def scorer(self, special):
    return scoring.Unscored('it tells whether a token was replaced, and gives none a probability; fine-tune it')

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    chosen = made['corrupted'] > 0
    noise = random.bits(seeds, _NOISE, tf.shape(rows['targets'])[1])
    return made | {
      'decoder_loss_weights': tf.cast(rows['segment_ids'] > 0, tf.float32),
      'decoder_noise': tf.bitcast(noise, tf.int32),
      'decoder_lowest': tf.where(chosen, special.text[0], 0),
      'decoder_highest': tf.where(chosen, special.text[1], 0),
    }

  def on_device(self, nets: networks.Networks, batch: base.Features) -> base.Features:
    """The generator's tokens in place of the chosen ones; 'generator_loss' and 'replaced', [batch, chosen at most]."""
    import jax.numpy as jnp

    highest, inputs = batch['decoder_highest'], batch['decoder_input_tokens']
    index = nets.positions(highest, super().max_supervised(inputs.shape[1]))
    at = lambda name: jnp.take_along_axis(batch[name], index, axis=1)
    chosen, originals = at('decoder_highest') > 0, at('decoder_target_tokens')
    hidden = nets.tower('generator', batch, index)
    drawn = nets.draw(hidden, at('decoder_noise'), at('decoder_lowest'), at('decoder_highest'))
    tokens = jnp.where(chosen, drawn, at('decoder_input_tokens'))
    return batch | {
      'decoder_input_tokens': jnp.put_along_axis(inputs, index, tokens, axis=1, inplace=False),
      'generator_loss': jnp.where(chosen, nets.cross_entropy(hidden, originals), 0.0),
      'replaced': (chosen & (tokens != originals)).astype(jnp.float32),
    }

  def measure(self, nets: networks.Networks, hidden: Any, batch: base.Features) -> base.Features:
    """'detection_loss', binary cross-entropy in nats of each real token, [batch, length]."""
    import jax

    replaced = batch['decoder_input_tokens'] != batch['decoder_target_tokens']
    logits = nets.head('detector', hidden)
    return {'detection_loss': (jax.nn.softplus(logits) - replaced * logits) * batch['decoder_loss_weights']}

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """'generator', over the chosen tokens; 'detection', over the real ones; and shown alone 'replaced', of the chosen.

    Both losses are in nats a token.
    """
    del cross_entropy
    chosen = (batch['decoder_highest'] > 0).sum().astype(weights.dtype)
    return {
      'generator': LossTerm(batch['generator_loss'].sum(), chosen),
      'detection': LossTerm(batch['detection_loss'].sum(), weights.sum(), self.detection_weight),
      'replaced': LossTerm(batch['replaced'].sum(), chosen, 0.0),
    }
