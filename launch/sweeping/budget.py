"""The budget that every cell of a sweep gets: tokens, FLOPs, or the updates that its run file says."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ... import UserError

UNITS = ('tokens', 'flops')


@dataclasses.dataclass(frozen=True)
class Budget:
  """What one cell may use.

  Attributes:
    unit: 'tokens' of the corpus, model 'flops', or 'steps' for the run's own TRAIN_STEPS.
    amount: how much; 0 for 'steps'.
  """

  unit: str = 'steps'
  amount: float = 0.0

  @classmethod
  def parse(cls, given: Mapping[str, Any] | None) -> 'Budget':
    """Reads {'tokens': 3e6} or {'flops': 1e14}, or None; UserError for anything else."""
    if given is None:
      return cls()
    if len(given) != 1 or not set(given) <= set(UNITS):
      raise UserError(f"BUDGET is {dict(given)!r}; give {{'tokens': N}}, {{'flops': N}} or None.")
    ((unit, amount),) = given.items()
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < math.inf:
      raise UserError(f'BUDGET asks for {amount!r} {unit}; it is a number above 0.')
    return cls(unit, float(amount))

  def steps(self, own: int, tokens: int, flops: float | None) -> int:
    """Updates of a cell: the nearest whole number to the budget, at least 1.

    Args:
      own: the run's TRAIN_STEPS.
      tokens: of the corpus that an update reads.
      flops: model FLOPs of an update, None where they are not known.

    Raises:
      UserError: the budget is in FLOPs and they are not known.
    """
    if self.unit == 'steps':
      return own
    if self.unit == 'tokens':
      return max(1, round(self.amount / tokens))
    if flops is None:
      raise UserError(
        'BUDGET is in FLOPs, which need the size of the vocabulary: give it by BINDINGS, '
        "'DecoderConfig.vocab_size = N', or a budget in tokens. Where a scorer is part of them it must be trained."
      )
    return max(1, round(self.amount / flops))

  def as_json(self, steps: int) -> dict[str, Any]:
    """For 'cell.json'."""
    return {'unit': self.unit, 'amount': self.amount or steps, 'train_steps': steps}
