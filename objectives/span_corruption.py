"""Span corruption: spans are cut out, and predicted behind what is left (T5, arXiv 1910.10683, section 3.1.4).

In one stack, as a prefix language model: a text `A B C D E` with spans B and D becomes

    A <mask:0> C <mask:1> E <eoss> <mask:0> B <mask:1> D <eoss>

of which all up to the first <eoss> is seen from both sides and the rest is predicted from left to right, sentinels and
the end included (T5's two EOS are <eoss> here, for </s> ends documents; its 100 sentinels are 16, used in turn). How
many spans there are and how long follows `random_spans_noise_mask` of t5's `data/preprocessors.py`: of n tokens round(n
* rate) are noise, in round(noise / mean) spans, and noise is cut into that many parts, none of them empty, all ways to
do so being equally likely. So a row of 568 tokens has inputs of 512 and targets of 114.

Where spans stand is `placement`. T5 cuts the rest into as many parts as there are spans; text begins, noise ends. So
the beginning of a text is hardly ever cut out, its end always: of 568 tokens at 15 % with spans of 3, they are noise
with probability 0.056, 0.092, 0.114, ..., 0.15, ..., 0.47, 0.68, 1, and a lone span is always a suffix. 'even' makes
both ends places like any other, as if the tokens stood in a circle that is cut open anywhere: 0.148 to 0.153
throughout. The fewer the spans, the less even, for none is cut in two: two spans in 128 tokens give 0.140 to 0.181
around 0.150, and a lone span begins anywhere with the same probability, so that it covers tokens near the ends less
often than those between. The first token, `bos` or a mode's, is never noise.

T5's texts are cut from one stream. Here the documents of a row are corrupted each by itself: noise and spans are dealt
out to them by their lengths. The row has as much noise as one text of its length, unless the documents that get a span
are too short for it: of each of those one token a span is kept. It has fewer and longer spans where it has several
documents, for the end tokens of each take the room of a span.
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import tensorflow as tf

from .. import UserError
from . import base, checks, features, needs, random, rotation, scorers
from .attention import PREFIX, AttentionSpec

_NOISE, _REST, _DEAL, _EDGES = 0, 1, 2, 3  # random streams


class Lengths(NamedTuple):
  """What span corruption makes of a text: noise tokens and spans in it, and lengths of inputs and targets."""

  noise: int
  spans: int
  inputs: int
  targets: int


def lengths(tokens: int, rate: float = 0.15, mean_length: float = 3.0) -> Lengths:
  """Of a text of so many tokens; inputs and targets both have an end token (t5's `random_spans_helper`).

  But for rates of exactly 0.5, where t5 takes one token less of text and of targets if targets would be longer than
  inputs: 512 inputs with spans of 64 are 1,006 tokens with 512 targets there, 1,007 with 513 here.
  """
  noise = min(max(round(tokens * rate), 1), max(tokens - 1, 1))
  spans = min(max(round(noise / mean_length), 1), max(tokens - noise, 1))
  return Lengths(noise, spans, tokens - noise + spans + 1, noise + spans + 1)


def text_length(inputs: int, rate: float = 0.15, mean_length: float = 3.0) -> int:
  """The longest text whose corrupted inputs have at most so many tokens: 568 for T5's 512."""
  tokens = inputs
  while lengths(tokens + 1, rate, mean_length).inputs <= inputs:
    tokens += 1
  return tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption(base.Objective):
  """Predict the spans that were cut out of a text, from what is left of it.

  Attributes:
    attention: as in `prefix_lm.PrefixLM`.
    rate: share of a row's tokens that is cut out; 0.15 in T5.
    mean_length: of the spans; 3 in T5.
    placement: 'even' spreads spans over the whole text; 't5' begins with text and ends with noise, as T5 does.
    mode: as in `prefix_lm.PrefixLM`.
  """

  attention: AttentionSpec = PREFIX
  rate: float = 0.15
  mean_length: float = 3.0
  placement: Literal['even', 't5'] = 'even'
  mode: int | None = None

  home: ClassVar[str] = 'infill'

  def __post_init__(self):
    super().__post_init__()
    checks.require_mark('SpanCorruption.mode', self.mode)
    checks.require_prob('SpanCorruption.rate', self.rate, 0.01, 0.9)
    if not self.mean_length >= 1:
      raise UserError(f'SpanCorruption.mean_length is {self.mean_length}; a span has at least 1 token.')
    checks.require_choice('SpanCorruption.placement', self.placement, ('even', 't5'))

  @property
  def needs(self):
    return (needs.Need('sentinels'), *needs.of_mark('SpanCorruption.mode', self.mode))

  @property
  def more_features(self):
    return ('decoder_levels',) if self.attention.levels else ()

  def model_length(self, text_length):
    found = self._lengths(text_length)
    return found.inputs + found.targets

  def max_supervised(self, text_length):
    return self._lengths(text_length).targets

  def configured(self):
    return {}

  def scorer(self, special):
    return scorers.SpanInfill(special.sentinels[0], special.end_of_span, begin=special.mark(self.mode))

  def embedding(self, special):
    return dataclasses.replace(super().embedding(special), begin=special.mark(self.mode))

  def corrupt(self, rows, seeds, special):
    rows = rows | {'targets': features.begin(rows['targets'], rows['segment_ids'], special.mark(self.mode))}
    start, end = self._spans(rows, seeds, special)
    length = self.model_length(rows['targets'].shape[1])
    moved = rotation.rotate(rows, special, start, end, length, end_each_span=False, close_text=True)
    behind, segments = moved.behind > 0, moved.segment_ids
    seen = ~behind & (segments > 0)
    made = features.assemble(
      inputs=moved.tokens,
      targets=features.shift_left(moved.tokens, segments),
      weights=features.shift_left(moved.behind, segments) > 0,
      segment_ids=segments,
      corrupted=moved.moved,
      bidirectional=seen if self.attention.levels else False,
    )
    return made | ({'decoder_levels': features.levels(seen)} if self.attention.levels else {})

  def _lengths(self, tokens: int) -> Lengths:
    return lengths(tokens, self.rate, self.mean_length)

  def _spans(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tuple[tf.Tensor, tf.Tensor]:
    """Half-open ranges of row positions, int32 [batch, segments, spans]; empty ones come last."""
    segments, length = rows['segment_ids'], rows['targets'].shape[1]
    begin, past = rotation.segment_edges(segments > 0, segments)
    free, _ = rotation.segment_edges((segments > 0) & (rows['targets'] == special.eos), segments)
    body = tf.where(free > begin, free, past) - begin  # tokens up to the document's end
    noise, spans = self._dealt(tf.reduce_sum(past - begin, axis=1), body, seeds, length)
    slots = tf.maximum(tf.reduce_max(spans), 1)  # an axis of no slots has no maximum
    noise_ends = _parts(seeds, _NOISE, noise, spans, segments, slots)
    before = self._rest_before(seeds, body, noise, spans, segments, slots)
    end = begin[..., tf.newaxis] + before + noise_ends
    start = end - noise_ends + _pushed(noise_ends)
    used = tf.range(slots) < spans[..., tf.newaxis]
    return tf.where(used, start, 0), tf.where(used, end, 0)

  def _dealt(self, tokens: tf.Tensor, body: tf.Tensor, seeds: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Noise tokens and spans of each segment, int32 [batch, segments], of rows of so many tokens.

    Each segment's end tokens take the room of a span, so a row of many segments has fewer spans.
    """
    counts = [(0, 0)] * 2 + [self._lengths(n)[:2] for n in range(2, length + 1)]
    noise, spans = tf.unstack(tf.gather(tf.constant(counts), tokens), axis=-1)
    room = body // 2  # a span has a token, and another before it
    pieces = tf.reduce_sum(tf.cast(room > 0, tf.int32), axis=1)
    most = tf.minimum(spans, tf.maximum(spans + 1 - pieces, (spans + 1) // 2))
    spans = _deal(seeds, 0, most, room)
    more = _deal(seeds, 1, noise - tf.reduce_sum(spans, axis=1), tf.where(spans > 0, body - 2 * spans, 0))
    return spans + more, spans

  def _rest_before(
    self,
    seeds: tf.Tensor,
    body: tf.Tensor,
    noise: tf.Tensor,
    spans: tf.Tensor,
    segment_ids: tf.Tensor,
    slots: tf.Tensor,
  ) -> tf.Tensor:
    """How many tokens that are kept stand before each span of a segment, int32 [batch, segments, slots]."""
    if self.placement == 't5':
      return _parts(seeds, _REST, body - noise, spans, segment_ids, slots)
    rest = body - 1 - noise  # without the first token
    noise_first, noise_last = _edges(seeds, noise, spans, rest)
    parts = spans + 1 - tf.cast(noise_first, tf.int32) - tf.cast(noise_last, tf.int32)
    ends = _parts(seeds, _REST, rest, parts, segment_ids, slots)
    return 1 + tf.where(noise_first[..., tf.newaxis], _pushed(ends), ends)


def _edges(seeds: tf.Tensor, noise: tf.Tensor, spans: tf.Tensor, rest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Whether the texts of int32 [batch, segments] such tokens begin, and end, with noise: bool [batch, segments] each.

  With the frequencies that a circle of the tokens has when it is cut open at random: inside a span, before one, behind
  one, or between tokens of the rest. A lone span would be two if it were cut.
  """
  inside = tf.where(spans > 1, noise - spans, 0)
  drawn = random.integers(seeds, _EDGES, tf.shape(spans)[1], 0, inside + spans + rest)
  full = rest < spans  # the rest is only just enough to hold spans apart
  noise_first = full | (drawn < inside + spans)
  noise_last = full | (drawn < inside) | ((drawn >= inside + spans) & (drawn < inside + 2 * spans))
  return noise_first, noise_last


def _pushed(ends: tf.Tensor) -> tf.Tensor:
  """Where each part begins: where the one before it ends, 0 for the first. [batch, segments, slots]."""
  return tf.pad(ends[..., :-1], [[0, 0], [0, 0], [1, 0]])


def _deal(seeds: tf.Tensor, turn: int, total: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
  """Deals totals, int32 [batch], out to segments by their room, int32 [batch, segments], as far as there is any.

  Each gets its due, rounded up or down by chance, and never more than its room; int64 keeps products of two lengths.
  """
  until = tf.cumsum(tf.cast(room, tf.int64), axis=1)
  whole = until[:, -1:]
  due = tf.minimum(tf.cast(total, tf.int64)[:, tf.newaxis], whole) * until
  drawn = random.integers(seeds, _DEAL, tf.constant([turn]), 0, tf.cast(whole, tf.int32))
  until = tf.cast((due + tf.cast(drawn, tf.int64)) // tf.maximum(whole, 1), tf.int32)
  return until - tf.pad(until[:, :-1], [[0, 0], [1, 0]])


def _parts(
  seeds: tf.Tensor, stream: int, total: tf.Tensor, parts: tf.Tensor, segment_ids: tf.Tensor, slots: tf.Tensor
) -> tf.Tensor:
  """Cuts `total` things into `parts` that are not empty, all ways alike: where each part ends.

  Args:
    seeds, stream: of the random numbers.
    total, parts: int32 [batch, segments], parts <= total.
    segment_ids: int32 [batch, length], of the row; total <= tokens of the segment.
    slots: the most parts.

  Returns:
    int32 [batch, segments, slots]; `total` from the last part on.
  """
  place, shape = features.positions(segment_ids), tf.shape(segment_ids)
  of = lambda values: tf.gather(tf.pad(values, [[0, 0], [1, 0]]), segment_ids, batch_dims=1)
  between = (place > 0) & (place < of(total))
  # The first parts - 1 of a segment's places in a random order are cuts.
  drawn = tf.cast(tf.bitwise.right_shift(random.bits(seeds, stream, shape[1]), tf.constant(8, tf.uint32)), tf.int64)
  keys = tf.cast(segment_ids, tf.int64) * 2**48 + drawn * 2**24 + tf.cast(place, tf.int64)
  keys = tf.where(between, keys, tf.int64.max)
  rank = tf.argsort(tf.argsort(keys, axis=1), axis=1)
  earlier = tf.cumsum(tf.maximum(total - 1, 0), axis=1, exclusive=True)
  cut = between & (rank - of(earlier) < of(parts) - 1)
  number = tf.cumsum(tf.cast(cut, tf.int32), axis=1) - 1
  number -= of(tf.cumsum(tf.maximum(parts - 1, 0), axis=1, exclusive=True))
  where = tf.where(cut)
  slot = tf.stack(
    [tf.cast(where[:, 0], tf.int32), tf.boolean_mask(segment_ids, cut) - 1, tf.boolean_mask(number, cut)], 1
  )
  ends = tf.scatter_nd(slot, tf.boolean_mask(place, cut), [shape[0], tf.shape(total)[1], slots])
  return tf.where(tf.range(slots) < parts[..., tf.newaxis] - 1, ends, total[..., tf.newaxis])
