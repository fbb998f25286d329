"""Span masking within budgets, as 4M does it with text (arXiv 2312.06647; apple/ml-4m, `fourm/data/masking.py`).

A text keeps each of its tokens with a probability p, which is drawn too. Masked neighbours are one span, so that
`A B C D E F` without B, C and E becomes, in one stack,

    A <mask:0> D <mask:1> F <eoss> <mask:0> B C <mask:1> E <eoss>

of which all up to the first <eoss>, the inputs, is seen from both sides and the rest, the targets, is predicted from
left to right but for its first sentinel, which is given. Inputs and targets have a budget each. While inputs exceed
theirs, p becomes 0.9 p and masks are drawn again. Where targets exceed theirs, they begin with a random span and end
where the budget does; or, if that leaves some of it over, with the earliest span from which all the rest fits.

A row is 4M's sample: its documents, masked each by itself and by a p of its own, share two budgets as 4M's modalities
do, back off together, and have their targets cut as one sequence, so that some of them may be read and not asked.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, rotation, scorers
from .attention import PREFIX, AttentionSpec

_KEEP, _TOKENS, _BEGIN = 0, 1, 2  # random streams
_BACK_OFF = 0.9  # ml-4m's `keep_prob_decay_factor`
_TRIES = 50  # draws before all is masked, which always fits; by then p is below 0.6 %
_LEAST_INPUTS, _LEAST_TARGETS = 4, 3  # `bos <mask:0> eos <eoss>`; a sentinel, a token and the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetedSpans(base.Objective):
  """Predict what was cut out of a text at a random rate, inputs and targets being of bounded length.

  Attributes:
    input_share: the budget of a row's inputs, sentinels and ends included, as a share of the row's text; one half is
      4M's for its longest texts (128 of 256).
    target_share: the same of its targets.
    keep_prob: p before it backs off; None draws it for every document, uniform in [0, 1), as the released code does.
  """

  attention: AttentionSpec = PREFIX
  input_share: float = 0.5
  target_share: float = 0.5
  keep_prob: float | None = None

  home: ClassVar[str] = 'infill'

  def __post_init__(self):
    super().__post_init__()
    checks.require_prob('BudgetedSpans.input_share', self.input_share, 0.01, 2.0)
    checks.require_prob('BudgetedSpans.target_share', self.target_share, 0.01, 2.0)
    if self.keep_prob is not None:
      checks.require_prob('BudgetedSpans.keep_prob', self.keep_prob)

  @property
  def needs(self):
    return (needs.Need('sentinels'),)

  @property
  def more_features(self):
    return ('decoder_levels',)

  def budgets(self, text_length: int) -> tuple[int, int]:
    """The most inputs and the most targets of a row of so many tokens."""
    return round(self.input_share * text_length), round(self.target_share * text_length)

  def model_length(self, text_length):
    return sum(self.budgets(text_length))

  def max_supervised(self, text_length):
    return self.budgets(text_length)[1]

  def check(self, text_length):
    super().check(text_length)
    inputs, targets = self.budgets(text_length)
    if inputs < _LEAST_INPUTS or targets < _LEAST_TARGETS:
      raise UserError(
        f'BudgetedSpans has room for {inputs} inputs and {targets} targets in rows of {text_length} tokens; it needs '
        f'{_LEAST_INPUTS} and {_LEAST_TARGETS} at least. Take longer rows, or larger input_share and target_share.'
      )

  def configured(self):
    return {}

  def scorer(self, special):
    return scorers.SpanInfill(special.sentinels[0], special.end_of_span)

  def corrupt(self, rows, seeds, special):
    length = rows['targets'].shape[1]
    most_inputs, most_targets = self.budgets(length)
    able = (rows['segment_ids'] > 0) & (rows['targets'] != special.bos) & (rows['targets'] != special.eos)
    fits = tf.cumsum(_input_sizes(able, rows['segment_ids']), axis=1) <= most_inputs
    segments = tf.where(tf.gather(fits, rows['segment_ids'], batch_dims=1), rows['segment_ids'], 0)
    masked = self._masked(able & (segments > 0), segments, seeds, most_inputs)
    start, end = _spans(masked, segments)
    # The inputs have a sentinel for every span and an end for every text with one: the targets have no more of them.
    whole = rotation.rotate(
      {'targets': rows['targets'], 'segment_ids': segments},
      special,
      start,
      end,
      length + 2 * most_inputs,
      end_each_span=False,
      close_text=True,
    )
    left = (whole.segment_ids > 0) & ((whole.behind == 0) | _asked(whole, seeds, most_targets))
    made = _close_up(whole, left, self.model_length(length))
    seen = (made.segment_ids > 0) & (made.behind == 0)
    return features.assemble(
      inputs=made.tokens,
      targets=features.shift_left(made.tokens, made.segment_ids),
      weights=(made.behind > 0) & (features.shift_left(made.behind, made.segment_ids) > 0),
      segment_ids=made.segment_ids,
      corrupted=made.moved,
      bidirectional=seen,
    ) | {'decoder_levels': features.levels(seen)}

  def _masked(self, able: tf.Tensor, segments: tf.Tensor, seeds: tf.Tensor, budget: int) -> tf.Tensor:
    """Which of the tokens that may be masked are, bool [batch, length]: the first draw whose inputs fit."""
    batch, length = tf.shape(segments)[0], segments.shape[1]
    if self.keep_prob is None:
      drawn = random.uniform(seeds, _KEEP, tf.maximum(tf.reduce_max(segments), 0) + 1)
      keep = tf.gather(drawn, segments, batch_dims=1)
    else:
      keep = tf.fill(tf.shape(segments), tf.constant(self.keep_prob, tf.float32))

    def draw(tries: tf.Tensor, masked: tf.Tensor, over: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      share = tf.where(tries < _TRIES, tf.pow(_BACK_OFF, tf.cast(tries, tf.float32)), 0.0)
      chance = random.uniform(seeds, _TOKENS, tries * length + tf.range(length))
      masked = tf.where(over[:, tf.newaxis], able & (chance >= share * keep), masked)
      return tries + 1, masked, tf.reduce_sum(_input_sizes(masked, segments), axis=1) > budget

    return tf.while_loop(
      lambda tries, _, over: tf.reduce_any(over) & (tries <= _TRIES),
      draw,
      (tf.constant(0), able, tf.fill([batch], True)),
    )[1]


def _span_starts(masked: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
  """Bool [batch, length]: masked, and the token before is not, or of another segment."""
  return masked & (features.starts(segments) | ~tf.pad(masked[:, :-1], [[0, 0], [1, 0]]))


def _input_sizes(masked: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
  """Tokens, sentinels, and an end if any is masked: the inputs of each segment, int32 [batch, 1 + segments]."""
  inputs = (segments > 0) & (~masked | _span_starts(masked, segments))
  size = features.reduce_by(tf.math.unsorted_segment_sum, tf.cast(inputs, tf.int32), segments)
  ends = features.reduce_by(tf.math.unsorted_segment_max, tf.cast(masked, tf.int32), segments)
  return size + tf.maximum(ends, 0)  # a segment that a row has not


def _spans(masked: tf.Tensor, segments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Half-open ranges of row positions, int32 [batch, segments, spans], for `rotation.rotate`."""
  begins = _span_starts(masked, segments)
  ends = masked & ~tf.pad((masked & ~begins)[:, 1:], [[0, 0], [0, 1]])
  count = features.reduce_by(tf.math.unsorted_segment_sum, tf.cast(begins, tf.int32), segments)
  earlier = tf.gather(tf.cumsum(count, axis=1, exclusive=True), segments, batch_dims=1)
  number = tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1 - earlier
  row, first = tf.unstack(tf.cast(tf.where(begins), tf.int32), axis=1)
  last = tf.cast(tf.where(ends)[:, 1], tf.int32)
  slot = tf.stack([row, tf.boolean_mask(segments, begins) - 1, tf.boolean_mask(number, begins)], axis=1)
  # An axis of no slots has no maximum.
  shape = [tf.shape(segments)[0], tf.shape(count)[1] - 1, tf.maximum(tf.reduce_max(count), 1)]
  return tf.scatter_nd(slot, first, shape), tf.scatter_nd(slot, last + 1, shape)


def _asked(row: rotation.Rotated, seeds: tf.Tensor, budget: int) -> tf.Tensor:
  """Which of the targets of the row's documents, taken as one sequence, are kept; bool [batch, length]."""
  behind = tf.cast(row.behind, tf.int32)
  sentinel = (row.behind > 0) & (row.in_tail == 0)
  place, total = tf.cumsum(behind, axis=1) - 1, tf.reduce_sum(behind, axis=1, keepdims=True)
  number = tf.cumsum(tf.cast(sentinel, tf.int32), axis=1)
  chosen = 1 + tf.cast(random.uniform(seeds, _BEGIN, 1) * tf.cast(number[:, -1:], tf.float32), tf.int32)
  begin = tf.reduce_sum(tf.where(sentinel & (number == chosen), place, 0), axis=1, keepdims=True)
  earliest = tf.where(sentinel & (total - place <= budget), place, total)
  begin = tf.where(total - begin >= budget, begin, tf.reduce_min(earliest, axis=1, keepdims=True))
  return (row.behind > 0) & (place >= begin) & (place < begin + budget)


def _close_up(row: rotation.Rotated, left: tf.Tensor, length: int) -> rotation.Rotated:
  """What is left of a row, without holes, in `length` positions."""
  until = tf.cumsum(tf.cast(left, tf.int32), axis=1)
  turn = tf.broadcast_to(tf.range(1, length + 1)[tf.newaxis], [tf.shape(left)[0], length])
  source = tf.searchsorted(until, turn)
  real = turn <= until[:, -1:]
  source = tf.where(real, source, 0)
  return rotation.Rotated(*(tf.where(real, tf.gather(values, source, batch_dims=1), 0) for values in row))
