"""Several objectives in one stream of batches: each row is read by one of them, drawn by their shares.

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
from .parts import Parts

_PART = 1 << 20  # random stream, far from those of the parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture(Parts):
  """Rows of several objectives in one batch.

  A row goes to one of the parts that find an example in it, by chance and by their shares: a function of the run's
  seed, the row and the epoch, as its corruption is. So a part that cannot use every row gets less than its share; the
  metrics say how much.

  Attributes:
    parts: the objectives by name.
    shares: of the rows, relative to each other; None gives all parts the same.
    weights: of each part's mean loss in the total; None takes the shares, so that the total is what a row's loss comes
      to. A batch in which a part scores nothing has no term of it.
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

  def keep(self, rows: base.Features, special: base.SpecialTokens) -> tf.Tensor:
    return tf.reduce_any(self._able(rows, special), axis=1)

  def part_of(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tf.Tensor:
    shares = tf.constant(list(self.row_shares.values()), tf.float64)
    edges = tf.cumsum(tf.where(self._able(rows, special), shares[tf.newaxis], 0.0), axis=1)
    # A grid of 2**-24 times a sum of at most 1, in float64: below that sum, so no part is drawn that is not able.
    drawn = tf.cast(random.uniform(seeds, _PART, 1), tf.float64) * edges[:, -1:]
    number = tf.reduce_sum(tf.cast(drawn >= edges, tf.int32), axis=1)
    return tf.minimum(number, len(self.parts) - 1)  # of a row that no part is able to read, which is dropped


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
