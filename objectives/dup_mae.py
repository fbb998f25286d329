"""DupMAE (RetroMAE-2): a passage's first state must do for rebuilding all of its tokens (arXiv 2211.08769, 2305.02564).

Sources: the papers, and staoxiao/RetroMAE (`src/pretrain/data.py`, `modeling_duplex.py`). Three losses are added up:
masked language modelling over whole words, 30% of them; the reconstruction of every token by a layer that is thrown
away afterwards, from the bottleneck, which is the state of one token, and each position's own random half of the clean
tokens; and a bag of words: logits pooled over a passage by their maximum, whose softmax is compared with the set of the
passage's tokens, each worth one part in as many as the passage has tokens, however often it comes.

Deviations: a row may hold several passages, each with its own bottleneck; what a position sees is drawn for it alone
(the released code draws up to 256 sets for a text and gives each position one of them), each unit by itself, so that
the share is met on average; the layer is one of our decoder's (see `models.enhanced_decoder`); heads have no dense
layer.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf

from .. import UserError
from . import base, checks, features, masked_lm, networks, random, schedules
from .loss import LossTerm

_NOISE = 8  # random stream, beside those of `masked_lm`


@dataclasses.dataclass(frozen=True, kw_only=True)
class DupMAE(masked_lm.MaskedLM):
  """Make a passage's vector: predict what is masked, rebuild the passage from it, tell which tokens there are.

  The other attributes are `MaskedLM`'s, of what is masked for the decoder. 30% of whole words is what the documented
  commands of the released code take (its classes' defaults say 15%); 80/10/10 is `MaskedLM`'s.

  Attributes:
    hidden: share of the clean tokens that a position does not see when its token is rebuilt, whole units of them; 0.5
      in the documented commands.
    bottleneck: the token of a passage whose state is its vector. The 'first', as there, must see what follows it; the
      'last' serves any attention.
    reconstruction_weight: of that loss, the masked one's being 1; 1 in the released code.
    bag_weight: of the bag of words; 0.1 there.
  """

  rate: schedules.Rate = 0.3
  unit: Literal['token', 'word', 'collocation', 'salient'] = 'word'
  hidden: float = 0.5
  bottleneck: Literal['first', 'last'] = 'first'
  reconstruction_weight: float = 1.0
  bag_weight: float = 0.1

  home: ClassVar[str] = 'masked'
  note: ClassVar[str] = (
    'It was trained to make vectors of texts (DupMAE, arXiv 2305.02564); the layer that rebuilt texts from them is no '
    'part of this folder.'
  )

  def __post_init__(self):
    super().__post_init__()
    if self.shifted:
      raise UserError('DupMAE.shifted is True: what is masked is predicted in its place. Leave it out.')
    checks.require_prob('DupMAE.hidden', self.hidden)
    checks.require_choice('DupMAE.bottleneck', self.bottleneck, ('first', 'last'))
    ordered = self.attention.ordered
    if self.bottleneck == 'first' and (self.attention.block > 1 or ordered is True or (ordered and all(ordered))):
      raise UserError(
        f"DupMAE.bottleneck is 'first', and under attention={self.attention} the first token of a passage does not see "
        "the passage; take 'last'."
      )
    for name in ('reconstruction_weight', 'bag_weight'):
      if not 0 < getattr(self, name) < math.inf:
        raise UserError(f'DupMAE.{name} is {getattr(self, name)}; it is a number above 0. Without it take MaskedLM.')

  @property
  def beside(self):
    return {'reconstruction': networks.EnhancedDecoder(hidden=self.hidden)}

  @property
  def more_features(self):
    """Random bits; the places in the row of each token's bottleneck and of its unit's first token, its own where it has
    none; the number of each ordinary token among those of its passage, from 1, else 0; and at the first of equal ones
    how many ordinary tokens its passage has, else 0.
    """
    return ('decoder_noise', 'decoder_bottlenecks', 'decoder_units', 'decoder_text_ranks', 'decoder_bag_sizes')

  @property
  def head_uses(self):
    return 2.0  # every token is rebuilt, and every position pooled

  @property
  def measures(self):
    return ('reconstruction_loss', 'bag_loss')

  def embedding(self, special):
    rule = super().embedding(special)
    if self.bottleneck == 'first':
      return dataclasses.replace(rule, reads='first')
    return dataclasses.replace(rule, reads='behind', behind=(special.eos,))

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    tokens, segments = rows['targets'], rows['segment_ids']
    index = tf.range(tf.shape(tokens)[1])[tf.newaxis] + tf.zeros_like(tokens)
    starts = self.unit_starts(rows, seeds, special)
    text = special.is_text(tokens) & (segments > 0)
    count = lambda which: features.reduce_by(tf.math.unsorted_segment_sum, tf.cast(which, tf.int32), segments)
    sizes = tf.gather(count(text), segments, batch_dims=1)
    before = tf.cumsum(tf.cast(text, tf.int32), axis=1)
    ranks = before - tf.gather(before - tf.cast(text, tf.int32), features.run_starts(segments), batch_dims=1)
    return made | {
      'decoder_noise': tf.bitcast(random.bits(seeds, _NOISE, tf.shape(tokens)[1]), tf.int32),
      'decoder_bottlenecks': tf.where(segments > 0, self._bottlenecks(segments, index), index),
      'decoder_units': tf.where(starts >= 0, starts, index),
      'decoder_text_ranks': tf.where(text, ranks, 0),
      'decoder_bag_sizes': tf.where(text & _first_of_equals(tokens, segments), sizes, 0),
    }

  def measure(self, nets: networks.Networks, hidden: Any, batch: base.Features) -> base.Features:
    """Both in nats of each token, [batch, length]; that of the bag is times the token's share of its passage's bag."""
    import jax.numpy as jnp

    tokens, segments, place = (batch[f'decoder_{name}'] for name in ('target_tokens', 'segment_ids', 'bottlenecks'))
    at = _at_bottleneck(batch)
    vectors = jnp.take_along_axis(hidden, place[..., None], axis=1)
    states = nets.rebuild('reconstruction', vectors, at, tokens, batch['decoder_noise'], batch['decoder_units'], batch)
    sizes = batch['decoder_bag_sizes']
    of_bag = nets.pooled_cross_entropy(hidden, ~at, segments, tokens)
    return {
      'reconstruction_loss': jnp.where(_rebuilt(batch), nets.cross_entropy(states, tokens), 0.0),
      'bag_loss': jnp.where(sizes > 0, of_bag, 0.0) / jnp.maximum(sizes, 1),
    }

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """'masked', over the chosen tokens; 'reconstruction', over the ordinary ones that are no bottleneck; 'bag', over
    passages that have any. All in nats.
    """
    passages = (batch['decoder_text_ranks'] == 1).sum().astype(weights.dtype)
    rebuilt = _rebuilt(batch).sum().astype(weights.dtype)
    return {
      'masked': LossTerm((cross_entropy * weights).sum(), weights.sum()),
      'reconstruction': LossTerm(batch['reconstruction_loss'].sum(), rebuilt, self.reconstruction_weight),
      'bag': LossTerm(batch['bag_loss'].sum(), passages, self.bag_weight),
    }

  def _bottlenecks(self, segments: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    reduce = tf.math.unsorted_segment_min if self.bottleneck == 'first' else tf.math.unsorted_segment_max
    return tf.gather(features.reduce_by(reduce, index, segments), segments, batch_dims=1)


def _rebuilt(batch: base.Features) -> Any:
  """Which tokens are, bool [batch, length]: ordinary ones but for bottlenecks, in whose place their states stand."""
  return (batch['decoder_text_ranks'] > 0) & ~_at_bottleneck(batch)


def _at_bottleneck(batch: base.Features) -> Any:
  """Which positions are bottlenecks; bool [batch, length], of NumPy's or JAX's arrays."""
  place = batch['decoder_bottlenecks']
  return (place == np.arange(place.shape[1])[None]) & (batch['decoder_segment_ids'] > 0)


def _first_of_equals(tokens: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
  """Whether no token before it in its segment is equal; bool [batch, length]."""
  keys = tf.bitwise.left_shift(tf.cast(segments, tf.int64), tf.constant(32, tf.int64)) + tf.cast(tokens, tf.int64)
  order = tf.argsort(keys, axis=1, stable=True)
  first = features.starts(tf.gather(keys, order, batch_dims=1))
  return tf.gather(first, tf.argsort(order, axis=1), batch_dims=1)
