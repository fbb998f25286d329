"""A trace of a few updates, for XProf and TensorBoard: see docs/profiling.md."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import jax

from .. import UserError
from . import files

Steps = Sequence[int] | str | int | None


def parse(steps: Steps, train_steps: int) -> tuple[int, int] | None:
  """The first and the last update to trace, counted from 1; None for none.

  Args:
    steps: [first, last], 'first-last', one number, or None.
    train_steps: updates of the whole run.

  Raises:
    UserError: `steps` is none of these, or the run has no such updates.
  """
  if steps is None:
    return None
  given = steps.split('-') if isinstance(steps, str) else steps if isinstance(steps, list | tuple) else [steps]
  try:
    numbers = [int(number) for number in given if isinstance(number, int | str) and not isinstance(number, bool)]
  except ValueError:
    numbers = []
  if len(numbers) != len(given) or len(numbers) not in (1, 2):
    raise UserError(f'PROFILE_STEPS={steps!r} names no updates: write [FIRST, LAST], as --gin.PROFILE_STEPS=[10,15].')
  first, last = numbers[0], numbers[-1]
  if not 1 <= first <= last <= train_steps:
    raise UserError(f'PROFILE_STEPS={steps!r} must lie within the updates 1 to {train_steps}, the first one first.')
  return first, last


class Profile:
  """Traces the updates `steps`, if any, into 'profile' in the model directory; every process its own devices."""

  def __init__(self, steps: tuple[int, int] | None, model_dir: str):
    self._steps = steps
    self._place = files.path(model_dir) / 'profile'
    self._scratch: str | None = None  # JAX writes traces to local folders: what goes to a bucket is copied there
    self._running = False

  def begins(self, update: int) -> bool:
    """Whether the trace begins before this update: the first of `steps` that this process makes."""
    return self._steps is not None and not self._running and self._steps[0] <= update <= self._steps[1]

  def open(self, state: Any) -> None:
    """Begins, once all that was asked of the devices before is done: `state` is what they work on."""
    jax.block_until_ready(state)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # an event for every call of Python would slow down what is measured
    if files.is_remote(self._place):
      self._scratch = tempfile.mkdtemp(prefix='unmask-profile-')
    jax.profiler.start_trace(self._scratch or str(self._place), profiler_options=options)
    self._running = True

  def step(self, update: int) -> contextlib.AbstractContextManager:
    """Around what the host does for an update: the trace shows it by number."""
    return jax.profiler.StepTraceAnnotation('update', step_num=update) if self._running else contextlib.nullcontext()

  def ends(self, update: int) -> bool:
    """Whether the trace ends after this update, which must be done."""
    return self._steps is not None and self._running and update >= self._steps[1]

  def close(self) -> None:
    """Ends the trace if one is under way, and writes it."""
    if self._running:
      self._running = False
      jax.profiler.stop_trace()
      if self._scratch:
        files.copy_tree(self._scratch, self._place)
        shutil.rmtree(self._scratch, ignore_errors=True)
