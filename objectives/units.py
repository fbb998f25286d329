"""Choosing what to mask: positions or units, exactly to a budget. TensorFlow graph functions.

A unit is a run of tokens that are masked together (a word, a collocation, a salient span); it is known by the
position of its first token in the row. Units are taken in a random order until the budget of tokens is spent.
"""

import tensorflow as tf

from . import features, random

_EMPTY = tf.int64.max
_OVERLAPS = 4  # of entries of up to five words, the next four at most begin inside one


def unit_starts(unit_ids: tf.Tensor, segment_ids: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
  """The position of each token's unit, -1 where the token is no candidate; int32 [batch, length].

  Args:
    unit_ids: int32 [batch, length]; a run of equal ids inside a segment is a unit, 0 is no unit.
    segment_ids: int32 [batch, length].
    candidates: bool [batch, length], tokens that may be masked.
  """
  run = tf.where(candidates, unit_ids, 0)
  begins = features.starts(run) | features.starts(segment_ids)
  index = tf.range(tf.shape(run)[1])[tf.newaxis]
  return tf.where(run > 0, features.cumulative_max(tf.where(begins, index, 0)), -1)


def random_order(seeds: tf.Tensor, stream: int, starts: tf.Tensor) -> tf.Tensor:
  """A sort key a token, equal inside a unit and distinct between units: int64 [batch, length], max where starts < 0."""
  length = tf.shape(starts)[1]
  keys = tf.cast(random.bits(seeds, stream, length), tf.int64)
  keys = tf.gather(keys, tf.maximum(starts, 0), batch_dims=1)
  keys = tf.bitwise.left_shift(keys, tf.constant(24, tf.int64)) + tf.cast(starts, tf.int64)
  return tf.where(starts >= 0, keys, _EMPTY)


def select_positions(seeds: tf.Tensor, stream: int, candidates: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Exactly min(count, candidates) positions a row, uniformly without replacement; bool [batch, length].

  Args:
    candidates: bool [batch, length].
    count: int32 [batch].
  """
  length = tf.shape(candidates)[1]
  index = tf.range(length)[tf.newaxis] + tf.zeros_like(candidates, tf.int32)
  keys = random_order(seeds, stream, tf.where(candidates, index, -1))
  count = tf.minimum(count, tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1))
  last = tf.gather(_smallest(keys, tf.reduce_max(count)), tf.maximum(count - 1, 0), batch_dims=1)
  return candidates & (keys <= last[:, tf.newaxis]) & (count > 0)[:, tf.newaxis]


def _smallest(keys: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """The first `count` (at least one) of each row's keys in order; [batch, count]. Cheaper than to sort them all."""
  return -tf.math.top_k(-keys, k=tf.clip_by_value(count, 1, tf.shape(keys)[1])).values


def select_units(seeds: tf.Tensor, stream: int, starts: tf.Tensor, budget: tf.Tensor, max_over: int) -> tf.Tensor:
  """Whole units in random order, `budget` tokens in expectation, every unit with the same probability.

  The units lie in random order on a circle, and a window of `budget` tokens begins at a random token of it. Units
  inside the window are chosen; each of the two at its ends is chosen with the probability of the share of it that lies
  inside. (Without the circle and the chance, units of 12 tokens are chosen up to four times less often than single
  tokens in rows of 128.)

  Args:
    seeds, stream: the randomness; `stream` + 1 is used too.
    starts: int32 [batch, length] from `unit_starts`.
    budget: int32 [batch], tokens.
    max_over: end units that would take the row over the budget by more tokens than this are not chosen.

  Returns:
    Bool [batch, length].
  """
  length = tf.shape(starts)[1]
  index = tf.range(length)[tf.newaxis]
  able = starts >= 0
  count = lambda x: tf.reduce_sum(tf.cast(x, tf.int32), axis=1)
  total = count(able)
  budget = tf.minimum(budget, total)
  column = lambda x: x[:, tf.newaxis]
  # The window begins at a token drawn from all; the circle is cut there, so the other units follow in random order.
  own = tf.where(able, tf.cast(random.bits(seeds, stream, length), tf.int64), -1)
  begin = tf.argmax(own, axis=1, output_type=tf.int32)
  low = able & (starts == column(tf.gather(starts, begin, batch_dims=1)))
  low_size = count(low)
  low_inside = tf.minimum(count(low & (index >= column(begin))), budget)
  low_inside = tf.maximum(low_inside, budget - (total - low_size))  # the window comes round to where it began
  keys = tf.where(low, _EMPTY, random_order(seeds, stream, starts))
  left = budget - low_inside
  high_key = column(tf.gather(_smallest(keys, tf.reduce_max(left) + 1), tf.minimum(left, length - 1), batch_dims=1))
  inside, high = keys < high_key, able & ~low & (keys == high_key)
  high_size, high_inside = count(high), left - count(inside)
  # One draw for both ends, so that seldom both or neither are taken.
  chance = random.uniform(seeds, stream + 1, 1)[:, 0]
  share = lambda part, size: tf.cast(part, tf.float32) / tf.cast(tf.maximum(size, 1), tf.float32)
  low_over, high_over = low_size - low_inside, high_size - high_inside
  take_low = (chance < share(low_inside, low_size)) & (low_over <= max_over)
  over = high_over + tf.where(take_low, low_over, 0)
  take_high = (1.0 - chance <= share(high_inside, high_size)) & (high_inside > 0) & (over <= max_over)
  chosen = inside | (low & column(take_low)) | (high & column(take_high))
  return able & chosen & column(budget > 0)


def select_fitting_units(seeds: tf.Tensor, stream: int, starts: tf.Tensor, budget: tf.Tensor) -> tf.Tensor:
  """Whole units in random order until `budget` tokens are chosen; a unit that would exceed it is skipped.

  The rule of BERT's whole-word masking (google-research/bert create_pretraining_data.py): after a unit that does not
  fit the next one is tried, so a row never exceeds its budget and ends below it by less than its shortest remaining
  unit. The price is that long units are chosen less often than short ones where the budget is small
  (docs/objectives.md).

  Args:
    starts: int32 [batch, length] from `unit_starts`.
    budget: int32 [batch], tokens.

  Returns:
    Bool [batch, length].
  """
  shape = tf.shape(starts)
  batch, length = shape[0], shape[1]
  keys = random_order(seeds, stream, starts)
  order = tf.argsort(keys, axis=-1)
  sorted_starts = tf.gather(starts, order, batch_dims=1)
  first = features.starts(sorted_starts) & (sorted_starts >= 0)
  index = tf.range(length)[tf.newaxis] + tf.zeros_like(starts)
  # The end of a unit in sorted order: one before the next unit's first token (or before the first non-candidate).
  edges = tf.where(first | (sorted_starts < 0), index, length)
  following = tf.pad(edges[:, 1:], [[0, 0], [0, 1]], constant_values=length)
  next_edge = length - tf.reverse(features.cumulative_max(tf.reverse(length - following, [1])), [1])
  size = next_edge - index
  fits = first & (next_edge <= budget[:, tf.newaxis])  # the random order up to the first unit that does not fit
  spent = tf.reduce_max(tf.where(fits, next_edge, 0), axis=1)

  def more(taken, remaining, after):
    return tf.reduce_any(first & (index >= after[:, tf.newaxis]) & (size <= remaining[:, tf.newaxis]))

  def take(taken, remaining, after):
    able = first & (index >= after[:, tf.newaxis]) & (size <= remaining[:, tf.newaxis])
    chosen = able & (tf.cumsum(tf.cast(able, tf.int32), axis=1) == 1)
    cost = tf.reduce_sum(tf.where(chosen, size, 0), axis=1)
    moved = tf.reduce_max(tf.where(chosen, index + 1, 0), axis=1)
    after = tf.where(tf.reduce_any(chosen, axis=1), moved, length)
    return taken | chosen, remaining - cost, after

  taken, _, _ = tf.while_loop(
    more,
    take,
    (fits, budget - spent, spent),
    shape_invariants=(tf.TensorShape([None, None]), tf.TensorShape([None]), tf.TensorShape([None])),
  )
  rows = tf.repeat(tf.range(batch)[:, tf.newaxis], length, axis=1)
  chosen_starts = tf.boolean_mask(tf.stack([rows, sorted_starts], axis=-1), taken)
  hits = tf.scatter_nd(chosen_starts, tf.ones(tf.shape(chosen_starts)[0], tf.int32), shape)
  return (tf.gather(hits, tf.maximum(starts, 0), batch_dims=1) > 0) & (starts >= 0)


def break_overlaps(seeds: tf.Tensor, stream: int, lengths: tf.Tensor, word_ids: tf.Tensor) -> tf.Tensor:
  """Collocations and single words from entries that may overlap in part; a random one of those that do is taken.

  Entries are taken in a random order, each unless one that was taken before it overlaps it; what is left over are words
  (section 3.2 of PMI-masking, arXiv 2010.01825). An entry that a row's edge cuts is none.

  Args:
    seeds, stream: the randomness.
    lengths: int32 [batch, length], at the first token of an entry the number of its tokens, elsewhere 0. Later entries
      begin and end later, and of the entries after it at most `_OVERLAPS` overlap one.
    word_ids: int32 [batch, length], a run of equal ids is a word; 0 is none.

  Returns:
    Unit ids, int32 [batch, length]: one more than the place of the unit's first token, 0 where `word_ids` is.
  """
  batch, length = tf.unstack(tf.shape(lengths))
  index = tf.range(length)[tf.newaxis]
  whole = (lengths > 0) & (index + lengths <= length)
  where = tf.where(whole)
  start = where[:, 0] * tf.cast(length, tf.int64) + where[:, 1]  # in the batch laid end to end
  end = start + tf.cast(tf.boolean_mask(lengths, whole), tf.int64)
  priority = tf.cast(tf.boolean_mask(random.bits(seeds, stream, length), whole), tf.int64)
  overlaps = [_shift(start, -k, tf.int64.max) < end for k in range(1, _OVERLAPS + 1)]  # entry m and entry m + k

  def neighbours(values: tf.Tensor, nothing: int | bool) -> list[tf.Tensor]:
    """The values of the entries that overlap each entry, `nothing` where there is none; ones behind it, ones before."""
    after = [tf.where(o, _shift(values, -k, nothing), nothing) for k, o in enumerate(overlaps, 1)]
    before = [_shift(tf.where(o, values, nothing), k, nothing) for k, o in enumerate(overlaps, 1)]
    return after + before

  def open_entries(taken, undecided):
    del taken
    return tf.reduce_any(undecided)

  def decide(taken, undecided):
    waiting = tf.where(undecided, priority, tf.int64.max)
    nearest = tf.reduce_min(tf.stack(neighbours(waiting, tf.int64.max)), axis=0)
    first = undecided & (waiting <= nearest)
    lost = tf.reduce_any(tf.stack(neighbours(first, False)), axis=0)
    return taken | first, undecided & ~first & ~lost

  taken, _ = tf.while_loop(open_entries, decide, (tf.zeros_like(start, tf.bool), tf.ones_like(start, tf.bool)))
  begins = tf.boolean_mask(start, taken)[:, tf.newaxis]
  ends = tf.boolean_mask(end, taken)[:, tf.newaxis]
  size = tf.cast(batch * length + 1, tf.int64)[tf.newaxis]
  one = tf.ones([tf.shape(begins)[0]], tf.int32)
  first = tf.scatter_nd(begins, one, size)
  inside = tf.cumsum(first - tf.scatter_nd(ends, one, size)) > 0
  first, inside = (tf.reshape(x[:-1], [batch, length]) for x in (first, inside))
  edges = (first > 0) | (features.starts(word_ids) & ~inside)
  return tf.where(word_ids > 0, features.cumulative_max(tf.where(edges, index + 1, 0)), 0)


def _shift(values: tf.Tensor, by: int, fill: int | bool) -> tf.Tensor:
  """values[i - by] at i, `fill` beyond the ends; [n]."""
  filler = tf.fill([abs(by)], tf.constant(fill, values.dtype))
  return tf.concat([filler, values], 0)[: tf.size(values)] if by > 0 else tf.concat([values, filler], 0)[-by:]


def one_unit_per_segment(seeds: tf.Tensor, stream: int, starts: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
  """One unit of each segment, uniformly among its units; none where a segment has none. Bool [batch, length]."""
  keys = random_order(seeds, stream, starts)
  best = features.reduce_by(tf.math.unsorted_segment_min, keys, segment_ids)
  return (starts >= 0) & (keys == tf.gather(best, segment_ids, batch_dims=1))
