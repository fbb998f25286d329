"""Fill in the middle: a text is cut in three and its middle moved to the end (FIM, arXiv 2207.14255).

A passage `prefix middle suffix` becomes, in PSM and in SPM (section 3; SPM is the paper's variant 2, appendix D),

    <PRE> prefix <SUF> suffix <MID> middle <EOT>          <PRE> <SUF> suffix <MID> prefix middle <EOT>

or stays as it is, and is trained from left to right. Both cuts are uniform over the places between characters, so they
may cut a token, whose parts are then tokens of their own. As in the context-level form (section 4.4), which the paper
advises, the passages of a row are cut where they lie in it. <EOT> is <eoss> here, and stands before a document's end;
the other three are spare ids of the vocabulary.
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, rotation, scorers, special_tokens

_WHETHER, _MODE, _CUTS, _ROOM = 0, 1, 2, 3  # random streams
_MARKS = (3, 4, 5)  # numbers of the spare ids: <PRE>, <SUF>, <MID>


class _Cut(NamedTuple):
  """A cut of each segment, int32 [batch, segments].

  Attributes:
    before: row position of the first token that is not wholly before the cut.
    after: that of the first token wholly behind it; `before + 1` where the cut lies in a token.
    left, right: the parts of that token, [batch, segments, width], filled up with 0.
  """

  before: tf.Tensor
  after: tf.Tensor
  left: tf.Tensor
  right: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class FillInTheMiddle(base.Objective):
  """Predict the next token of texts of which some have their middle at the end.

  Attributes:
    rate: probability that a passage is cut; 0.5 in the paper's main runs, 0.5 to 0.9 are advised.
    spm_share: of the cut passages, how many are in SPM; half in the paper's joint training (section 4.3).
    split: 'character' cuts between any two characters, 'token' between tokens.
    mark_weight: loss weight where the target is <PRE>, <SUF> or <MID>.
    room: positions of a row for marks and parts of tokens. Passages that would need more are not cut, those of a random
      document first: a passage takes 4, and 1 or 2 for each token that is cut.
  """

  rate: float = 0.5
  spm_share: float = 0.5
  split: Literal['character', 'token'] = 'character'
  mark_weight: float = 0.0
  room: int = 16

  home: ClassVar[str] = 'infill'

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('FillInTheMiddle.rate', self.rate)
    checks.require_prob('FillInTheMiddle.spm_share', self.spm_share)
    checks.require_prob('FillInTheMiddle.mark_weight', self.mark_weight)
    checks.require_choice('FillInTheMiddle.split', self.split, ('character', 'token'))
    if self.room < 8:
      raise UserError(f'FillInTheMiddle.room is {self.room}; one passage takes up to 8 positions.')

  @property
  def needs(self):
    marks = needs.Need('spare', 1 + max(_MARKS))
    by_token = "bind FillInTheMiddle.split to 'token'"
    return (marks, needs.Need('fragments', instead=by_token)) if self.split == 'character' else (marks,)

  def model_length(self, text_length):
    return text_length + self.room

  def configured(self):
    return {'untouched': 1 - self.rate}  # more where `room` was too small

  def scorer(self, special):
    pre, suf, mid = self._marks(special)
    form = scorers.SuffixFirst if self.spm_share == 1 else scorers.FillIn  # one that the model has seen
    return form(suf, special.end_of_span, pre=pre, mid=mid)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    begin, past = rotation.segment_edges(segments > 0, segments)
    begins = tf.where(tf.gather(tokens, begin, batch_dims=1) == special.bos, begin + 1, begin)
    ends, _ = rotation.segment_edges((segments > 0) & (tokens == special.eos), segments)
    ends = tf.where(ends > begin, ends, past)
    first, second = self._cuts(rows, seeds, special, begins, ends)
    sizes = {name: _size(first, second, begins, ends, name) for name in ('prefix', 'middle', 'suffix')}
    more = 4 + sum(sizes.values()) - (ends - begins)
    wanted = (random.uniform(seeds, _WHETHER, tf.shape(begin)[1]) < self.rate) & (ends > begins)
    chosen = rotation.with_room(seeds, _ROOM, wanted, more, self.room)
    spm = random.uniform(seeds, _MODE, tf.shape(begin)[1]) < self.spm_share
    pieces = self._pieces(first, second, (begin, begins, ends, past), chosen, spm, special)
    laid = rotation.lay_out(tokens, **pieces, out_length=self.model_length(tokens.shape[1]))
    targets = features.shift_left(laid.tokens, laid.segment_ids)
    weights = tf.cast(features.same_as_next(laid.segment_ids), tf.float32)
    is_mark = tf.reduce_any(tf.stack([targets == mark for mark in self._marks(special)]), axis=0)
    return features.assemble(
      inputs=laid.tokens,
      targets=targets,
      weights=tf.where(is_mark, self.mark_weight * weights, weights),
      segment_ids=laid.segment_ids,
      corrupted=laid.kind > 0,
      bidirectional=False,
    )

  def _marks(self, special: base.SpecialTokens) -> tuple[int, int, int]:
    pre, suf, mid = (special.mark(number) or 0 for number in _MARKS)
    return pre, suf, mid

  def _cuts(
    self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens, begins: tf.Tensor, ends: tf.Tensor
  ) -> tuple[_Cut, _Cut]:
    """Two cuts of each segment, in order; of two in one token the second moves to its end."""
    tokens, segments = rows['targets'], rows['segment_ids']
    table = self._table(special)
    index = tf.range(tf.shape(tokens)[1])[tf.newaxis]
    of = lambda values: tf.gather(tf.pad(values, [[0, 0], [1, 0]]), segments, batch_dims=1)
    inside = (segments > 0) & (index >= of(begins)) & (index < of(ends))
    characters = tf.where(inside, tf.gather(tf.constant(table.characters), tokens), 0)
    total = features.reduce_by(tf.math.unsorted_segment_sum, characters, segments)[:, 1:]
    after = tf.cumsum(characters, axis=1) - of(tf.cumsum(total, axis=1, exclusive=True))
    # Row i of the draws is segment i's, whatever the number of segments.
    count = tf.shape(begins)[1]
    drawn = (
      tf.reshape(random.uniform(seeds, _CUTS, 2 * count), [-1, count, 2]) * tf.cast(total + 1, tf.float32)[..., None]
    )
    drawn = tf.sort(tf.minimum(tf.cast(drawn, tf.int32), total[..., tf.newaxis]), axis=-1)

    def cut(place: tf.Tensor) -> _Cut:
      whole = tf.cast(inside & (after <= of(place)), tf.int32)
      before = begins + features.reduce_by(tf.math.unsorted_segment_sum, whole, segments)[:, 1:]
      at = tf.minimum(before, tf.shape(tokens)[1] - 1)
      token = tf.gather(tokens, at, batch_dims=1)
      size = tf.gather(characters, at, batch_dims=1)
      behind = place - (tf.gather(after, at, batch_dims=1) - size)
      within = (before < ends) & (behind > 0) & (behind < size)
      row = tf.where(within, tf.gather(tf.constant(table.first), token) + behind - 1, 0)
      part = lambda parts: tf.where(within[..., tf.newaxis], tf.gather(tf.constant(parts), row), 0)
      return _Cut(before, before + tf.cast(within, tf.int32), part(table.left), part(table.right))

    first, second = cut(drawn[..., 0]), cut(drawn[..., 1])
    both = (first.after > first.before) & (second.before == first.before)
    none = lambda parts: tf.where(both[..., tf.newaxis], 0, parts)
    moved = tf.where(both, first.after, second.before), tf.where(both, first.after, second.after)
    return first, _Cut(*moved, none(second.left), none(second.right))

  def _table(self, special: base.SpecialTokens) -> special_tokens.Fragments:
    if self.split == 'token':
      size = 1 + max(*special.text, special.mask, special.end_of_span, *special.sentinels, *special.spare)
      none = np.zeros([1, 1], np.int32)
      return special_tokens.Fragments(np.ones(size, np.int32), np.zeros(size, np.int32), none, none)
    assert special.fragments is not None  # `needs` says so
    return special.fragments()

  def _pieces(self, first: _Cut, second: _Cut, edges, chosen, spm, special) -> dict[str, tf.Tensor]:
    """Arguments of `rotation.lay_out`."""
    begin, begins, ends, past = edges
    pre, suf, mid = self._marks(special)
    sizes, sources, inserted, kinds = [], [], [], []

    def run(start: tf.Tensor, end: tf.Tensor, here: tf.Tensor, kind: int) -> None:
      sizes.append(tf.where(here, end - start, 0))
      sources.append(start)
      inserted.append(tf.zeros_like(start))
      kinds.append(tf.fill(tf.shape(start), kind))

    def put(token: tf.Tensor | int, here: tf.Tensor) -> None:
      token = tf.broadcast_to(token, tf.shape(begin))
      sizes.append(tf.cast(here & (token > 0), tf.int32))
      sources.append(begin)
      inserted.append(token)
      kinds.append(tf.ones_like(begin))

    def parts(tokens: tf.Tensor, here: tf.Tensor) -> None:
      for token in tf.unstack(tokens, axis=-1):
        put(token, here)

    always, psm = tf.ones_like(chosen), chosen & ~spm
    run(begin, begins, always, 0)
    run(begins, ends, ~chosen, 0)
    put(pre, chosen)
    run(begins, first.before, psm, 0)
    parts(first.left, psm)
    put(suf, chosen)
    parts(second.right, chosen)
    run(second.after, ends, chosen, 0)
    put(mid, chosen)
    run(begins, first.before, chosen & spm, 1)
    parts(first.left, chosen & spm)
    parts(first.right, chosen)
    run(first.after, second.before, chosen, 1)
    parts(second.left, chosen)
    put(special.end_of_span, chosen)
    run(ends, past, always, 0)
    owner = tf.broadcast_to(tf.range(1, tf.shape(begin)[1] + 1)[tf.newaxis], tf.shape(begin))
    flat = lambda values: tf.reshape(tf.stack(values, axis=-1), [tf.shape(begin)[0], -1])
    return {
      'sizes': flat(sizes),
      'source': flat(sources),
      'inserted': flat(inserted),
      'owner': flat([owner] * len(sizes)),
      'kind': flat(kinds),
    }


def _size(first: _Cut, second: _Cut, begins: tf.Tensor, ends: tf.Tensor, part: str) -> tf.Tensor:
  """Tokens of a part after the cuts, int32 [batch, segments]."""
  pieces = lambda parts: tf.reduce_sum(tf.cast(parts > 0, tf.int32), axis=-1)
  if part == 'prefix':
    return first.before - begins + pieces(first.left)
  if part == 'middle':
    return pieces(first.right) + second.before - first.after + pieces(second.left)
  return pieces(second.right) + ends - second.after
