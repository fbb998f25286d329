"""Evaluation during training: the objective's own loss on held-out rows, with the same corruption every time."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator

import jax
import numpy as np

from .. import UserError
from ..tasks.pipeline import Source
from . import mesh as mesh_lib
from . import step as step_lib
from .program import Program

_AHEAD = 8  # batches on the device beside the one that it works on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """When to evaluate, and on how much.

  Attributes:
    period: updates between evaluations; 0 evaluates at the end only.
    batches: held-out batches, or fewer where the validation split has no more; None takes the whole split. They are
      kept in the host's memory; of stages as many for each part.
  """

  period: int = 100
  batches: int | None = 8

  def __post_init__(self) -> None:
    if self.period < 0:
      raise UserError(f'Evaluation.period is {self.period}; give 0 or more updates.')
    if self.batches is not None and self.batches < 1:
      raise UserError(f'Evaluation.batches is {self.batches}; give 1 or more, or None for the whole split.')

  def due(self, update: int, last: int) -> bool:
    """Whether an evaluation follows this update of a run that ends with `last`."""
    return update == last or bool(self.period and update % self.period == 0)


def lower_step(program: Program) -> jax.stages.Lowered:
  """(parameters, batch) -> named (numerator, denominator) sums, before compilation as `Program.lower` gives it."""
  step = jax.jit(
    step_lib.make_eval_step(program.decoder, program.scoring), out_shardings=mesh_lib.replicated(program.mesh)
  )
  shapes = program.state_shapes().params, program.batch_shapes()
  with program.context():
    return step.lower(*shapes)


class Batches:
  """A fixed set of held-out batches, kept on the host."""

  def __init__(self, program: Program, source: Source, how: Evaluation):
    """Reads them; UserError if the validation split holds no example."""
    self._mesh = program.mesh
    scoring = dataclasses.replace(program.scoring, z_loss=0.0)
    self._coefficients = step_lib.coefficients(scoring, program.batch_shapes())
    self._readings = [
      list(itertools.islice(_batches(program, source, number), how.batches))
      for number in program.objective.held_out_steps
    ]
    if not self._readings[0]:
      raise UserError(
        f'No row of the validation split holds an example of {type(program.objective).__name__}; hold out more text '
        '(a lower VALIDATION_ONE_IN) or take another objective.'
      )

  def loss(self, step: jax.stages.Compiled, params: dict) -> dict[str, float]:
    """'loss' and the mean of each term by name, over its own denominator summed over all batches.

    A term of which there is nothing in them, that of a part of a mixture that read no row, is left out of both.
    """
    found = [self._means(step, params, batches) for batches in self._readings]
    total = sum(self._coefficients[name] * mean for name, mean in found[0].items())
    return {'loss': total, **{name: mean for means in found for name, mean in means.items()}}

  def _means(self, step: jax.stages.Compiled, params: dict, batches: list[dict]) -> dict[str, float]:
    sums: dict[str, np.ndarray] = {}
    running: collections.deque[dict] = collections.deque()

    def read() -> None:
      for name, pair in jax.device_get(running.popleft()).items():
        sums[name] = sums.get(name, np.zeros(2)) + np.array([float(x) for x in pair])

    for batch in batches:
      running.append(step(params, mesh_lib.put_batch(self._mesh, batch)))
      if len(running) > _AHEAD:
        read()
    while running:
      read()
    return {name: float(top / bottom) for name, (top, bottom) in sums.items() if bottom > 0}


def _batches(program: Program, source: Source, step: int) -> Iterator[dict[str, np.ndarray]]:
  """This host's held-out batches, read as that step of training."""
  where = {'host': jax.process_index(), 'num_hosts': jax.process_count()}
  return source.batches(program.objective, program.batch_size, split='validation', step=step, **where)
