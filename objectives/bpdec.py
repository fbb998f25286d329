"""BPDec (first called DrBERT): masked language modelling with layers behind the decoder that are thrown away.

Source: arXiv 2401.15861, by two independent summaries of it: its text was not at hand, and there is no code. Between
the encoder and the head of a masked language model stand more layers, in pretraining alone. Gradual unmasking
attention: in the first of them only a random part of the masked positions may be attended to, the next opens the rest.
Output randomness: what the head reads is the encoder's output or that of these layers, at random.

Its numbers are not known to us: how many layers, how large a part, how often, and whether a position or a text is what
is drawn for. All of these are our choices. So are these: the extra layers are our decoder's, and read its states behind
their norm; who is hidden is hidden from every position but itself; 'masked' are all the chosen ones, kept or replaced
too. What is judged, probed and exported is the decoder with the head alone, which the second trick trains together.
"""

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from .. import UserError
from . import base, checks, masked_lm, networks, random

_MIXED, _OPENED = 8, 9  # random streams, beside those of `masked_lm`
_LATE = 2  # the group that the first of the extra layers does not see
GRADUAL = ((True, True, False),) * 3
"""Of the first extra layer. Groups: what is not chosen; what is chosen and seen at once; what is, and is seen later."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BPDec(masked_lm.MaskedLM):
  """`MaskedLM`, of whatever unit, rate and alignment, with extra layers in front of its head while it is trained.

  Attributes:
    layers: how many; 2 is our choice. None at all is `MaskedLM`.
    early_share: of the chosen positions, those that the first extra layer may attend to; 0.5 is our choice, 1 hides
      none.
    extra_prob: probability that the head reads the extra layers' output of a position, and not the decoder's; 0.5 is
      our choice. At 0 the extra layers learn nothing.
  """

  layers: int = 2
  early_share: float = 0.5
  extra_prob: float = 0.5

  note: ClassVar[str] = (
    'It was trained with extra layers between it and its output head (BPDec, arXiv 2401.15861), which read it in their '
    'place at some positions. They are no part of this folder: the decoder and the head are used without them.'
  )

  def __post_init__(self):
    super().__post_init__()
    if not networks.is_count(self.layers, 0):
      raise UserError(f'BPDec.layers is {self.layers}; give how many extra layers, 0 or more.')
    checks.require_prob('BPDec.early_share', self.early_share)
    checks.require_prob('BPDec.extra_prob', self.extra_prob)
    if self.attention.kind == 'general':
      raise UserError(
        f'BPDec.attention is {self.attention}: the extra layers see as all of the decoder does, so it is one rule for '
        'every layer, causal or from both sides.'
      )
    if not self.layers:
      checks.refuse_idle(self, ('early_share', 'extra_prob'), '`layers` above 0')

  @property
  def beside(self):
    if not self.layers:
      return {}
    first = GRADUAL if self.early_share < 1 else None
    return {'extra_layers': networks.ExtraLayers(tables=(first, *[None] * (self.layers - 1)))}

  @property
  def more_features(self):
    """Where the head reads the extra layers, 0 or 1; and the groups of `GRADUAL`, whose names 'decoder_groups' would be
    the decoder's.
    """
    return ('decoder_extra', 'decoder_opened') if self.layers else ()

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    if not self.layers:
      return made
    length = tf.shape(rows['targets'])[1]
    extra = random.uniform(seeds, _MIXED, length) < self.extra_prob
    late = random.uniform(seeds, _OPENED, length) >= self.early_share
    return made | {
      'decoder_extra': tf.cast(extra & (rows['segment_ids'] > 0), tf.int32),
      'decoder_opened': tf.where(made['corrupted'] > 0, tf.where(late, _LATE, 1), 0),
    }

  def to_head(self, nets: networks.Networks, hidden: Any, batch: base.Features) -> Any:
    if not self.layers:
      return hidden
    import jax.numpy as jnp

    behind = nets.behind('extra_layers', hidden, batch['decoder_opened'], batch)
    return jnp.where(batch['decoder_extra'][..., None] > 0, behind, hidden)
