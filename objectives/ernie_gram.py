"""ERNIE-Gram: n-grams are predicted as one thing each, and token by token in parallel (arXiv 2010.12148).

A chosen n-gram of the lexicon becomes a single [MASK], at which it is predicted as one class of a joint vocabulary of
tokens and n-grams. Behind the row stand typed masks <mask:0>, <mask:1>, ..., one for each token of what was chosen, at
the position of its [MASK]: there the tokens are predicted one by one. All see the text with its [MASK]s; a typed mask
sees beside it itself alone. 15 % of the boundaries are chosen: n-grams, and the single tokens between them. This is the
paper's model without the generator that proposes n-grams.

The n-grams are those that PMI-masking takes as units (`collocation_lengths`). There are `classes` classes: that of an
n-gram is a hash of its tokens, so no list of n-grams has to come with the rows. A class is not an n-gram: the default
corpus has 44,088 n-grams for 16,384 classes, and a class leaves 0.75 of the 9.77 nats of an n-gram open
(docs/objectives.md), which the typed masks alone ask for. So whoever compares the two objectives compares the n-grams'
classes, not the n-grams, predicted as wholes; and beside them single tokens are chosen here, words there.

Sources: the paper was read in summaries alone, and no code of its pretraining is public. Deviations and our choices:
hashed classes, in place of a list that ends somewhere; the lexicon is PMI-masking's, by PMI and up to five words, not
by a t-statistic and up to three; of n-grams that overlap in part a random one is taken, not the longest from the left;
all that is chosen is hidden, none replaced or kept; both losses weigh the same.
"""

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from .. import UserError
from . import base, features, needs, networks, random, schedules, scorers, units
from .attention import BIDIRECTIONAL, AttentionSpec
from .loss import LossTerm

_SELECT, _OVERLAPS = 0, 2  # random streams; `select_units` takes the next one too
_LONGEST = 16  # tokens of an n-gram: as many typed masks as every vocabulary has sentinels
_TOKEN, _CLASS = 1, 2  # 'decoder_ngrams': 0 is no [MASK]
TWO_STREAMS = AttentionSpec(ordered=False, table=((True, False), (True, False)))
"""Groups: the text, typed masks. A token always sees itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ERNIEGram(base.Objective):
  """Predict n-grams as classes where one [MASK] stands for each, and their tokens at masks behind the text.

  Attributes:
    rate: share of the boundaries that is chosen, or a schedule of it (`schedules.LinearRate`); 0.15 in the paper. As
      every boundary is as likely as the others, it is the share of the tokens too.
    classes: rows of the table of n-grams, which is trained beside the decoder's and is no part of what is exported. A
      mesh's tensor axis must divide it.
  """

  attention: AttentionSpec = TWO_STREAMS
  rate: schedules.Rate = 0.15
  classes: int = 16384

  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'
  note: ClassVar[str] = (
    'It was trained as ERNIE-Gram without a generator (arXiv 2010.12148): a [MASK] stood for a token or for a whole '
    'n-gram. The table of n-grams is not part of this folder, so its logits at a [MASK] are those of a token, given '
    'that a single token is missing there.'
  )

  def __post_init__(self):
    super().__post_init__()
    schedules.require('ERNIEGram.rate', self.rate)
    if self.attention != TWO_STREAMS:
      raise UserError(
        f'ERNIEGram.attention is {self.attention}; its two streams have a rule of their own. Leave it out.'
      )
    _ = self.beside  # whose settings complain of themselves

  @property
  def shift(self) -> int:
    return 0

  @property
  def units(self):
    return ('word_ids', 'collocation_lengths')

  @property
  def needs(self):
    return (needs.Need('sentinels'),)

  @property
  def beside(self):
    return {'ngrams': networks.Classes(count=self.classes, scored=schedules.largest(self.rate))}

  @property
  def more_features(self):
    """Who is a typed mask; and where a [MASK] stands 1 if it is of a token, 2 and more if it is of a class."""
    return ('decoder_groups', 'decoder_ngrams')

  @property
  def measures(self):
    return ('coarse_loss', 'ngram_loss')

  def model_length(self, text_length):
    # What is chosen loses a position for each token but one, and gains one for each behind the text.
    return text_length + self._most(text_length)

  def max_supervised(self, text_length):
    return min(text_length, self._most(text_length) + _LONGEST)

  def _most(self, length: int) -> int:
    """The budget of tokens of a full row, which is at least as many as boundaries are chosen."""
    return max(1, round(length * schedules.largest(self.rate)))

  def configured(self):
    return {'supervised': schedules.first(self.rate)}

  def scorer(self, special):
    # Not at typed masks, which a text alone does not have: as the model is used once it is exported.
    return scorers.PseudoLikelihood(mask=special.mask, attention=BIDIRECTIONAL)

  def unit_starts(self, rows, seeds, special):
    tokens, segments, lengths = rows['targets'], rows['segment_ids'], rows['collocation_lengths']
    able = special.is_text(tokens) & (segments > 0)
    one_by_one = tf.where(able, 1 + tf.range(tf.shape(tokens)[1])[tf.newaxis], 0)
    is_ngram = (lengths > 1) & (lengths <= min(_LONGEST, len(special.sentinels)))
    ids = units.break_overlaps(seeds, _OVERLAPS, tf.where(is_ngram, lengths, 0), one_by_one)
    return units.unit_starts(ids, segments, able)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    starts = self.unit_starts(rows, seeds, special)
    chosen = units.select_units(seeds, _SELECT, starts, schedules.budget(self.rate, rows), _LONGEST)
    offset = tf.where(chosen, tf.range(tf.shape(tokens)[1])[tf.newaxis] - starts, 0)
    sizes, numbers = _of_units(tokens, starts, offset, self.classes)
    left = (segments > 0) & (~chosen | (offset == 0))
    source, typed = _two_streams(left, chosen, self.model_length(tokens.shape[1]))
    real = source >= 0
    at = lambda values: tf.where(real, tf.gather(values, tf.maximum(source, 0), batch_dims=1), 0)
    masked = (at(tf.cast(chosen, tf.int32)) > 0) & ~typed
    ngram = masked & (at(sizes) > 1)
    sentinels = tf.gather(tf.constant(special.sentinels, tf.int32), at(offset))
    made = features.assemble(
      inputs=tf.where(typed, sentinels, tf.where(masked, special.mask, at(tokens))),
      targets=tf.where(ngram, 0, at(tokens)),
      weights=typed,
      segment_ids=at(segments),
      corrupted=masked,
      bidirectional=False,  # no kernel of one rule for all
    )
    # In the text as it is read; all tokens of what is chosen have the place of their [MASK].
    place = tf.cumsum(tf.cast(left, tf.int32), axis=1)
    place -= tf.gather(place, features.run_starts(segments), batch_dims=1)
    return made | {
      'decoder_positions': at(place),
      'decoder_groups': tf.cast(typed, tf.int32),
      'decoder_ngrams': tf.where(ngram, _CLASS + at(numbers), tf.where(masked, _TOKEN, 0)),
    }

  def measure(self, nets: networks.Networks, hidden: Any, batch: base.Features) -> base.Features:
    """'coarse_loss' at each [MASK], 'ngram_loss' where that stands for an n-gram: nats, [batch, chosen at most]."""
    import jax.numpy as jnp

    index = nets.positions(batch['decoder_ngrams'], self._most(hidden.shape[1]))
    said, tokens = (jnp.take_along_axis(batch[f'decoder_{x}'], index, axis=1) for x in ('ngrams', 'target_tokens'))
    at_masks = jnp.take_along_axis(hidden, index[:, :, None], axis=1)
    found = nets.joint_cross_entropy('ngrams', at_masks, tokens, said - _CLASS)
    return {'coarse_loss': jnp.where(said > 0, found, 0.0), 'ngram_loss': jnp.where(said >= _CLASS, found, 0.0)}

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """'fine', over the typed masks; 'coarse', over the [MASK]s; and shown alone 'ngram', over those of n-grams.

    All in nats: a token, a boundary, an n-gram.
    """
    count = lambda least: (batch['decoder_ngrams'] >= least).sum().astype(weights.dtype)
    return {
      'fine': LossTerm((cross_entropy * weights).sum(), weights.sum()),
      'coarse': LossTerm(batch['coarse_loss'].sum(), count(_TOKEN)),
      'ngram': LossTerm(batch['ngram_loss'].sum(), count(_CLASS), 0.0),
    }


def _of_units(tokens: tf.Tensor, starts: tf.Tensor, offset: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
  """How many tokens each token's unit has, and its class below `classes`; int32 [batch, length] each.

  Args:
    tokens, starts: int32 [batch, length].
    offset: int32 [batch, length], a token's place in its unit; of chosen ones.
  """
  number = lambda value: tf.cast(value, tf.uint32)
  # A sum of hashes of (token, place): another order is another sum.
  each = random.mix(number(tokens) ^ random.mix(number(offset) + number(1)))
  units_of = tf.maximum(starts, 0)
  add = lambda values: features.reduce_by(tf.math.unsorted_segment_sum, values, units_of)
  back = lambda values: tf.gather(values, units_of, batch_dims=1)
  sizes = back(add(tf.cast(starts >= 0, tf.int32)))
  total = back(add(tf.cast(tf.where(starts >= 0, each, 0), tf.int64)))
  mixed = tf.cast(random.mix(tf.cast(tf.bitwise.bitwise_and(total, 0xFFFFFFFF), tf.uint32)), tf.int64)
  return sizes, tf.cast(tf.bitwise.right_shift(mixed * classes, tf.constant(32, tf.int64)), tf.int32)


def _two_streams(left: tf.Tensor, chosen: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
  """The tokens that are `left`, and behind them those that are `chosen`, in their order.

  Args:
    left, chosen: bool [batch, text_length].
    length: positions of the result.

  Returns:
    For each position the token's place in the text, int32 [batch, length], -1 behind the last; and whether it is one of
    the chosen, bool.
  """
  batch, size = tf.unstack(tf.shape(left))
  kept = tf.concat([left, chosen], axis=1)
  at = tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1 + length * tf.range(batch)[:, tf.newaxis]
  place = tf.broadcast_to(1 + tf.range(2 * size)[tf.newaxis], tf.shape(kept))
  laid = tf.scatter_nd(tf.boolean_mask(at, kept)[:, tf.newaxis], tf.boolean_mask(place, kept), [batch * length])
  laid = tf.ensure_shape(tf.reshape(laid, [batch, length]) - 1, [None, length])
  return tf.where(laid >= size, laid - size, laid), laid >= size
