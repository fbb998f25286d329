"""A function over the shards of a corpus, in this process or in several others, which need not import the user's main
module again (multiprocessing's would).
"""

import concurrent.futures
import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, cast

from ... import UserError
from . import plain

_MOST = 16
_START = f'from {__name__} import serve; serve()'

Stage = Callable[[int, Callable[[int], Any]], Any]


def available(shards: int) -> int:
  """How many processes are of use: one for each core that this process may use, up to 16."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return min(_MOST, cores, shards)


def can_be_sent(stage: Stage) -> bool:
  """Whether other processes can take the stage: it is data, and what it is made of can be found by name."""
  try:
    plain.dump(stage)
  except TypeError:
    return False
  return True


def run(stage: Stage, shards: Sequence[int], count: int, tick: Callable[[int], Any]) -> list[Any]:
  """What the stage gives for each shard, in order.

  Args:
    stage: a function of a module, or a dataclass of plain values, where `count` is above 1; see `can_be_sent`.
    shards: their numbers.
    count: of processes; 1 takes this one.
    tick: is told of documents done.

  Raises:
    UserError: of the stage, or because a process died.
  """
  if count <= 1:
    return [stage(shard, tick) for shard in shards]
  waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
  for shard in shards:
    waiting.put(shard)
  results: dict[int, Any] = {}
  locked = threading.Lock()

  def told(kind: str, value: Any) -> None:
    with locked:
      if kind == 'tick':
        tick(value)
      else:
        results.update([value])

  workers: list[_Worker] = []
  pool = concurrent.futures.ThreadPoolExecutor(count)
  try:
    workers += [_Worker(stage) for _ in range(count)]
    for done in concurrent.futures.as_completed([pool.submit(worker.work, waiting, told) for worker in workers]):
      done.result()
  finally:
    for worker in workers:
      worker.stop()
    pool.shutdown()
  return [results[shard] for shard in shards]


class _Worker:
  """Another process, which runs a stage."""

  def __init__(self, stage: Stage):
    self._said = tempfile.TemporaryFile()  # noqa: SIM115 closed by `stop`
    paths = [os.path.abspath(path or '.') for path in sys.path]
    self._process: subprocess.Popen[bytes] = subprocess.Popen(
      [sys.executable, '-c', _START],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._said,
      env=os.environ | {'PYTHONPATH': os.pathsep.join(paths), 'TF_CPP_MIN_LOG_LEVEL': '3'},
    )
    self._to, self._from = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
    self._stage = stage

  def work(self, waiting: 'queue.SimpleQueue[int]', told: Callable[[str, Any], None]) -> None:
    """Takes shards until none is left."""
    try:
      _send(self._to, self._stage)
      while True:
        try:
          shard = waiting.get_nowait()
        except queue.Empty:
          return
        _send(self._to, shard)
        kind = 'tick'
        while kind == 'tick':
          kind, value = _receive(self._from)
          if kind == 'failed':
            raise UserError(value)
          told(kind, value)
    except (EOFError, BrokenPipeError) as error:
      self._said.seek(0)
      last = (self._said.read().decode(errors='replace').strip().split('\n') or [''])[-1]
      raise UserError(
        f'A process that annotates the corpus ended with status {self._process.wait()} ({last or "it said nothing"}); '
        'if memory ran out, let fewer documents be long (TextTask.longest_document) or close other programs.'
      ) from error

  def stop(self) -> None:
    self._process.kill()
    self._process.wait()
    for file in (self._to, self._from, self._said):
      with contextlib.suppress(BrokenPipeError):  # what was still to be sent
        file.close()


def _send(file: BinaryIO, value: Any) -> None:
  file.write(plain.dump(value) + b'\n')
  file.flush()


def _receive(file: BinaryIO) -> Any:
  """The next value; EOFError where there is none, or only the beginning of one."""
  line = file.readline()
  if not line.endswith(b'\n'):
    raise EOFError
  return plain.load(line, plain.anywhere)


def serve() -> None:
  """The other process: reads a stage and then shards; writes 'tick', 'done' or 'failed', each with a value."""
  out = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # what libraries print is no answer
  try:
    stage = _receive(sys.stdin.buffer)
    while True:
      try:
        shard = _receive(sys.stdin.buffer)
      except EOFError:
        return
      _send(out, ('done', (shard, stage(shard, lambda n: _send(out, ('tick', n))))))
  except UserError as error:
    _send(out, ('failed', str(error)))
