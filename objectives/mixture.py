"""Several objectives in one stream of batches: each row is read by one of them, by their shares.

GPT-BERT (arXiv 2410.24159) trains one decoder so, on masked and on causal next-token prediction at ratios from 1:15 to
15:1.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from .. import UserError
from . import base, random
from .parts import PARTS, Parts

_PART, _STRIDE = 1 << 20, (1 << 20) + 1  # random streams, far from those of the parts
# Primes: times one of them, the n-ths of [0, 1) are the n-ths in another order, whatever number n of rows a batch has.
_STRIDES = (1258291, 1730213, 1685911, 1908121, 1910059, 1899341, 2095699, 1320533)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture(Parts):
  """Rows of several objectives in one batch.

  Rows of a training batch divide the shares among them: of n rows a part of share s reads n s, rounded down or up, and
  n s on average; of 16 rows one that is given 1 : 15 reads one. Which rows they are is a function of the run's seed and
  the step, whatever the hosts. Elsewhere (held-out rows, readers that know no batches, static copies) a row's part is
  drawn by its seed, as its corruption is. A part that finds no example in a row leaves it to the others, and so gets
  less than its share; the metrics say how much.

  Attributes:
    parts: the objectives by name.
    shares: of the rows, relative to each other; None gives all parts the same.
    weights: of each part's mean loss in the total, on average over batches; None takes the shares. In a training batch
      a part weighs as much more or less as it got rows: a share of 1 in 16 reads one of two batches of 8, and weighs
      2 in 16 there. So a weight is what is given, to the row, however few rows a batch has; the total, by shares, is
      the mean over the batch's rows, and does not fall where a part is absent. A part that cannot use every row weighs
      as much less. The held-out loss, of many batches, takes the weights as they are.
    answers_as: whose scorer answers the judge's questions and fills gaps; None takes the part with the largest share,
      the first by name of several. It changes nothing of the training.
  """

  shares: Mapping[str, float] | None = None
  weights: Mapping[str, float] | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ('shares', 'weights'):
      _check_numbers(name, numbers := getattr(self, name), self.parts)
      if numbers is not None:
        object.__setattr__(self, name, dict(sorted(numbers.items())))

  @property
  def answering(self) -> base.Objective:
    shares = self.row_shares
    return self.parts[self.answers_as or max(shares, key=shares.__getitem__)]

  @property
  def row_shares(self) -> dict[str, float]:
    return _fractions(self.shares, self.parts)

  @property
  def factors(self) -> dict[str, float]:
    return self.row_shares if self.weights is None else dict(self.weights)

  def balance(self, batch: Any) -> dict[str, Any]:
    """The share of the rows that each part got over the share that is due to it: on average every row counts alike."""
    real = batch['decoder_segment_ids'][:, 0] > 0
    of = lambda rows: rows.sum().astype('float32')
    every = of(real) + of(~real.any())  # of a batch of padding, 1
    shares = _fractions(self.shares, self.parts)
    return {
      name: of(real & (batch[PARTS][:, 0] == number)) / every / shares[name] for number, name in enumerate(self.parts)
    }

  def keep(self, rows: base.Features, special: base.SpecialTokens) -> tf.Tensor:
    return tf.reduce_any(self._able(rows, special), axis=1)

  def part_of(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tf.Tensor:
    shares = tf.constant(list(self.row_shares.values()), tf.float64)
    edges = tf.cumsum(tf.where(self._able(rows, special), shares[tf.newaxis], 0.0), axis=1)
    # Times a number below 1 the sum stays below itself, so that no part is drawn that is not able.
    drawn = tf.minimum(self._drawn(rows, seeds), 1 - 2.0**-24)[:, tf.newaxis] * edges[:, -1:]
    number = tf.reduce_sum(tf.cast(drawn >= edges, tf.int32), axis=1)
    return tf.minimum(number, len(self.parts) - 1)  # of a row that no part is able to read, which is dropped

  def _drawn(self, rows: base.Features, seeds: tf.Tensor) -> tf.Tensor:
    """Of each row a number that decides its part, uniform in [0, 1), float64 [batch].

    In a training batch of n rows each n-th of [0, 1) has one of them, which one is another matter in every step; so a
    part of share s reads n s of them, rounded down or up. Elsewhere, and of a row's static copies, it is the row's own.
    """
    alone = tf.cast(random.uniform(seeds, _PART, 1)[:, 0], tf.float64)
    if 'place' not in rows or self.static_copies:
      return alone
    turn = random.shared(rows['seed'], rows['step'], _STRIDE) * len(_STRIDES)
    stride = tf.gather(tf.constant(_STRIDES, tf.float64), tf.cast(turn, tf.int32))
    # Half a step of the grid aside: no row stands on an edge of a part, where its side would be a matter of rounding.
    begin = random.shared(rows['seed'], rows['step'], _PART) + 2.0**-25
    return tf.where(rows['place'] >= 0, (begin + stride * rows['place']) % 1.0, alone)


def _fractions(numbers: Mapping[str, float] | None, parts: Mapping[str, Any]) -> dict[str, float]:
  """The parts' numbers, which add up to 1."""
  given = {name: 1.0 if numbers is None else float(numbers[name]) for name in parts}
  return {name: value / sum(given.values()) for name, value in given.items()}


def _check_numbers(field: str, numbers: Mapping[str, float] | None, parts: Mapping[str, Any]) -> None:
  """Raises UserError unless there is a number for each part that makes sense."""
  if numbers is None:
    return
  if not isinstance(numbers, Mapping) or set(numbers) != set(parts):
    given = ', '.join(map(str, numbers)) if isinstance(numbers, Mapping) else repr(numbers)
    raise UserError(f'Mixture.{field} is of {given or "nothing"}; it needs a number for each of {", ".join(parts)}.')
  for name, value in numbers.items():
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
      raise UserError(f'Mixture.{field} gives {name} {value!r}; it is a number, 0 or more.')
    if field == 'shares' and value == 0:
      raise UserError(f'Mixture.shares gives {name} no row; leave it out of Mixture.parts.')
  if sum(numbers.values()) <= 0:
    raise UserError(f'Mixture.{field} adds up to nothing; give one part a number above 0.')
