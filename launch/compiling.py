"""The programs of a run, compiled in a thread while rows are made ready: XLA needs neither Python nor the rows."""

from collections.abc import Callable
from concurrent import futures

import jax

from . import held_out
from .program import Program


def start(program: Program) -> Callable[[], tuple[jax.stages.Compiled, jax.stages.Compiled]]:
  """Begins to compile; the function returned waits for the update and for the step of an evaluation."""
  pool = futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix='compile')
  update, evaluation = pool.submit(program.compile), pool.submit(held_out.compile_step, program)
  pool.shutdown(wait=False)
  return lambda: (update.result(), evaluation.result())
