"""The programs of a run, compiled in a thread while rows are made ready: XLA needs neither Python nor the rows.

They are traced before the thread begins: Flax cannot trace in two threads at once.
"""

from collections.abc import Callable
from concurrent import futures

import jax

from . import held_out
from .program import Program


def start(program: Program) -> Callable[[], tuple[jax.stages.Compiled, jax.stages.Compiled]]:
  """Begins to compile; the function returned waits for the update and for the step of an evaluation."""
  lowered = program.lower(), held_out.lower_step(program)
  pool = futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix='compile')
  update, evaluation = (pool.submit(program.compile, one) for one in lowered)
  pool.shutdown(wait=False)
  return lambda: (update.result(), evaluation.result())
