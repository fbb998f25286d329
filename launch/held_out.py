"""Evaluation during training: the objective's own loss on held-out rows, with the same corruption every time."""

import dataclasses

import jax
import numpy as np

from .. import UserError
from ..tasks.pipeline import Source
from . import mesh as mesh_lib
from . import step as step_lib
from .program import Program


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """When to evaluate, and on how much.

  Attributes:
    period: updates between evaluations; 0 evaluates at the end only.
    batches: held-out batches.
  """

  period: int = 100
  batches: int = 8

  def due(self, update: int, last: int) -> bool:
    """Whether an evaluation follows this update of a run that ends with `last`."""
    return update == last or bool(self.period and update % self.period == 0)


def compile_step(program: Program) -> jax.stages.Compiled:
  """(parameters, batch) -> named (numerator, denominator) sums, compiled ahead as `Program.compile` does."""
  step = jax.jit(
    step_lib.make_eval_step(program.decoder, program.scoring), out_shardings=mesh_lib.replicated(program.mesh)
  )
  shapes = program.state_shapes().params, program.batch_shapes()
  with program.context():
    lowered = step.lower(*shapes)
  return lowered.compile(compiler_options=program.compiler_options())


class Batches:
  """A fixed set of held-out batches, kept on the host."""

  def __init__(self, program: Program, source: Source, how: Evaluation):
    """Reads them; UserError if the validation split does not fill one."""
    self._mesh = program.mesh
    stream = source.batches(
      program.objective,
      program.batch_size,
      split='validation',
      host=jax.process_index(),
      num_hosts=jax.process_count(),
    )
    self._batches = [batch for _, batch in zip(range(how.batches), stream, strict=False)]
    if not self._batches:
      raise UserError(
        f'The validation split has fewer than BATCH_SIZE={program.batch_size} rows with an example of '
        f'{type(program.objective).__name__}; lower BATCH_SIZE or hold out more text.'
      )

  def loss(self, step: jax.stages.Compiled, params: dict) -> dict[str, float]:
    """'loss' and its terms by name, each over its own denominator summed over all batches."""
    found = [step(params, mesh_lib.put_batch(self._mesh, batch)) for batch in self._batches]
    sums: dict[str, np.ndarray] = {}
    for pairs in jax.device_get(found):
      for name, pair in pairs.items():
        sums[name] = sums.get(name, np.zeros(2)) + np.array([float(x) for x in pair])
    means = {name: float(top / max(bottom, 1e-9)) for name, (top, bottom) in sums.items()}
    return {'loss': sum(means.values()), **means}
