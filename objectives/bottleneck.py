"""GEM: next-token prediction through a bottleneck of special tokens, whose states become embeddings (arXiv 2506.04344).

A passage `prefix suffix` becomes `prefix <E1> ... <Ek> suffix`. The suffix sees the special tokens and itself but not
the prefix; special tokens see the prefix, not each other. So all that the suffix can know of the prefix goes through
their states. Other passages are left as they are, so that the model remains one of text (one in five is cut in the
paper).
This is the paper's next-token part, without its contrastive loss.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, rotation, scorers
from .attention import CAUSAL, AttentionSpec
from .embedding import Embedding

_WHETHER, _CUT, _ROOM = 0, 1, 2  # random streams
_FIRST, _MOST = 6, 4  # the spare ids that are special tokens: which, and how many there are
BOTTLENECK = AttentionSpec(
  ordered=True,
  # Groups: prefix (and untouched passages), special, suffix. A token always sees itself.
  table=((True, False, False), (True, False, False), (False, True, True)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bottleneck(base.Objective):
  """Predict the next token; in some passages what stands before a cut is seen only through special tokens.

  Attributes:
    rate: probability that a passage is cut; 0.2 in the paper.
    specials: how many special tokens; 1 in the paper's main runs, up to 4 here.
    room: positions of a row for special tokens; passages that would need more are left as they are, those of a random
      document first.
  """

  attention: AttentionSpec = BOTTLENECK
  rate: float = 0.2
  specials: int = 1
  room: int = 8

  home: ClassVar[str] = 'left_to_right'
  note: ClassVar[str] = 'It was trained to make vectors of texts (GEM, arXiv 2506.04344).'

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('Bottleneck.rate', self.rate)
    if not 1 <= self.specials <= _MOST:
      raise UserError(f'Bottleneck.specials is {self.specials}; give 1 to {_MOST}.')
    if self.room < self.specials:
      raise UserError(f'Bottleneck.room is {self.room}, which holds no {self.specials} special tokens.')

  @property
  def more_features(self):
    return ('decoder_groups',)

  @property
  def needs(self):
    return (needs.Need('spare', _FIRST + self.specials),)

  def model_length(self, text_length):
    return text_length + self.room

  def max_supervised(self, text_length):
    return text_length

  def scorer(self, special):
    del special
    return scorers.LeftToRight(attention=CAUSAL)  # a text without special tokens

  def embedding(self, special):
    return Embedding(reads='behind', behind=tuple(self.special_ids(special)))  # as before a suffix, in training

  def special_ids(self, special: base.SpecialTokens) -> list[int]:
    """Ids of the special tokens; UserError if the vocabulary has not so many to spare."""
    return [special.mark(_FIRST + number) or 0 for number in range(self.specials)]

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    begin, past = rotation.segment_edges(segments > 0, segments)
    passages = tf.shape(begin)[1]
    wanted = (random.uniform(seeds, _WHETHER, passages) < self.rate) & (past - begin > 2)
    needed = tf.fill(tf.shape(begin), self.specials)
    chosen = rotation.with_room(seeds, _ROOM, wanted, needed, self.room)
    # Behind `bos` and a token, or before the last one at the latest.
    places = tf.cast(tf.maximum(past - begin - 2, 0), tf.float32)
    cut = tf.where(chosen, begin + 2 + tf.cast(random.uniform(seeds, _CUT, passages) * places, tf.int32), past)
    none, ids = tf.zeros_like(begin), self.special_ids(special)
    marks = [tf.where(chosen, token, 0) for token in ids]
    owner = tf.broadcast_to(tf.range(1, passages + 1)[tf.newaxis], tf.shape(begin))
    flat = lambda values: tf.reshape(tf.stack(values, axis=-1), [tf.shape(begin)[0], -1])
    laid = rotation.lay_out(
      tokens,
      sizes=flat([cut - begin, *[tf.cast(chosen, tf.int32)] * len(ids), past - cut]),
      source=flat([begin, *[begin] * len(ids), cut]),
      inserted=flat([none, *marks, none]),
      owner=flat([owner] * (len(ids) + 2)),
      kind=flat([none, *[none + 1] * len(ids), none + 2]),
      out_length=self.model_length(tokens.shape[1]),
    )
    is_special = tf.cast(laid.kind == 1, tf.int32)
    weights = features.same_as_next(laid.segment_ids) & (features.shift_left(is_special, laid.segment_ids) == 0)
    made = features.assemble(
      inputs=laid.tokens,
      targets=features.shift_left(laid.tokens, laid.segment_ids),
      weights=weights,
      segment_ids=laid.segment_ids,
      corrupted=is_special,
      bidirectional=False,
    )
    return made | {'decoder_groups': laid.kind}
