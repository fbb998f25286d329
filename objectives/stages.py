"""Objectives one after another: which one reads a batch is a matter of the step of training.

"Should We Still Pretrain Encoders with Masked Language Modeling?" (arXiv 2507.00994) trains next-token prediction for a
quarter of the budget and masked language modelling for the rest; AntLM (arXiv 2412.03275) goes from the one to the
other and back. Weights, the optimizer with its state and the schedule of its rate go on through the stages.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from .. import UserError
from . import base
from .parts import Parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stages(Parts):
  """Batches of one objective, then of another.

  All parts read the same rows, those that hold an example of every one of them. Held-out rows are read by each part
  throughout, as its last stage ends, so that its loss can be followed over the whole run; the loss of an evaluation is
  that of the last stage's part.

  Attributes:
    parts: the objectives by name.
    order: ((name of a part, length), ...), the stages from first to last. Lengths are relative to each other; they are
      numbers of updates if they add up to `steps`. A part may come more than once.
    steps: updates that the stages take together, TRAIN_STEPS as a rule; what comes after them is of the last stage.
      Stage k begins with update ceil(steps * share of the stages before it).
    answers_as: whose scorer answers the judge's questions and fills gaps; None takes the last stage's part. It changes
      nothing of the training.
  """

  order: Sequence[tuple[str, float]]
  steps: int

  by_step: ClassVar[bool] = True

  def __post_init__(self) -> None:
    super().__post_init__()
    object.__setattr__(self, 'order', _checked(self.order, self.parts))
    if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
      raise UserError(f'Stages.steps is {self.steps!r}; give the number of updates, TRAIN_STEPS as a rule.')
    starts = [*self.starts, self.steps]
    for (name, length), (start, end) in zip(self.order, itertools.pairwise(starts), strict=True):
      if start == end:
        raise UserError(
          f'Stages.order: of {self.steps} updates none is left for the stage {name!r} of length {length}; train longer '
          'or give it more.'
        )

  @property
  def starts(self) -> tuple[int, ...]:
    """How many updates come before each stage."""
    lengths = [length for _, length in self.order]
    before = [0, *itertools.accumulate(lengths)][:-1]
    # Rounded up unless it is a whole number but for its last bits.
    return tuple(math.ceil(self.steps * one / sum(lengths) - 1e-9) for one in before)

  @property
  def held_out_steps(self) -> tuple[int, ...]:
    ends = [*self.starts[1:], base.TRAINED + 1]
    # Of a part that comes again, its last stage's.
    last = {name: end - 1 for (name, _), end in zip(self.order, ends, strict=True)}
    return tuple(sorted(last.values(), reverse=True))

  @property
  def answering(self) -> base.Objective:
    return self.parts[self.answers_as or self.order[-1][0]]

  @property
  def row_shares(self) -> dict[str, float]:
    shares = dict.fromkeys(self.parts, 0.0)
    for (name, _), (start, end) in zip(self.order, itertools.pairwise([*self.starts, self.steps]), strict=True):
      shares[name] += (end - start) / self.steps
    return shares

  @property
  def factors(self) -> dict[str, float]:
    return dict.fromkeys(self.parts, 1.0)

  def keep(self, rows: base.Features, special: base.SpecialTokens) -> tf.Tensor:
    return tf.reduce_all(self._able(rows, special), axis=1)

  def part_of(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tf.Tensor:
    del seeds, special
    stage = tf.searchsorted(tf.constant(self.starts, tf.int64), rows['step'], side='right') - 1
    names = list(self.parts)
    return tf.gather(tf.constant([names.index(name) for name, _ in self.order]), stage)


def _checked(order: Any, parts: Any) -> tuple[tuple[str, float], ...]:
  """The stages as tuples; UserError unless each names a part and has a length, and every part has a stage."""
  wrong = UserError(f"Stages.order is {order!r}; give (('name', length), ...), lengths above 0, of {', '.join(parts)}.")
  if isinstance(order, str) or not isinstance(order, Sequence) or not order:
    raise wrong
  for stage in order:
    if isinstance(stage, str) or not isinstance(stage, Sequence) or len(stage) != 2 or stage[0] not in parts:
      raise wrong
    if isinstance(stage[1], bool) or not isinstance(stage[1], int | float) or not 0 < stage[1] < math.inf:
      raise wrong
  idle = set(parts) - {name for name, _ in order}
  if idle:
    raise UserError(f'Stages.parts: no stage of Stages.order is of {", ".join(sorted(idle))}; leave it out.')
  return tuple((name, length) for name, length in order)
