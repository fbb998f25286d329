"""A watchdog: where a run hangs, in the stacks of all threads; and its end, so that a supervisor can start it again."""

import contextlib
import dataclasses
import faulthandler
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import jax

from .. import UserError
from . import files
from .exits import HUNG


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchdogPolicy:
  """How long nothing may move: no batch, no update, no evaluation, no checkpoint.

  Attributes:
    report_after: seconds until the stacks of all threads are written.
    stop_after: seconds until the process ends with status `exits.HUNG`; 0 watches nothing.
  """

  report_after: float = 300.0
  stop_after: float = 1800.0

  def __post_init__(self) -> None:
    if self.stop_after and not 0 < self.report_after <= self.stop_after:
      raise UserError(
        f'WatchdogPolicy has report_after={self.report_after} and stop_after={self.stop_after}: seconds, '
        'the first not above the second.'
      )


class Watchdog:
  """A thread that waits for `at` to be called again and again."""

  def __init__(self, policy: WatchdogPolicy, model_dir: str):
    """Stacks go to stderr, and to a file of each process in `model_dir`/hangs."""
    self._policy = policy
    self._file = files.path(model_dir) / 'hangs' / f'process-{jax.process_index()}.txt'
    self._what, self._since, self._reported = 'the first update', time.monotonic(), False
    self._end = threading.Event()

  def at(self, what: str) -> None:
    """The run has come so far, and does this now."""
    self._what, self._since, self._reported = what, time.monotonic(), False

  @contextlib.contextmanager
  def watching(self) -> Iterator['Watchdog']:
    """Inside, somebody watches."""
    if not self._policy.stop_after:
      yield self
      return
    self.at(self._what)
    thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)
    thread.start()
    try:
      yield self
    finally:
      self._end.set()
      thread.join()
      faulthandler.cancel_dump_traceback_later()

  def _watch(self) -> None:
    tick = min(5.0, self._policy.report_after / 4)
    while not self._end.wait(tick):
      # Should an extension hold Python's lock, this thread stands still too; faulthandler's needs no lock.
      if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(self._policy.stop_after + 10 * tick, exit=True, file=sys.__stderr__)
      idle = time.monotonic() - self._since
      if idle > self._policy.report_after and not self._reported:
        self._reported = True
        self._report(idle)
      if idle > self._policy.stop_after:
        self._say(f'nothing has moved for {idle:.0f} s in {self._what}: stopped. The same command goes on.')
        sys.stdout.flush()
        os._exit(HUNG)  # whatever hangs would hang an orderly exit too

  def _report(self, idle: float) -> None:
    with tempfile.TemporaryFile('w+') as scratch:
      faulthandler.dump_traceback(scratch, all_threads=True)
      scratch.seek(0)
      stacks = scratch.read()
    where = f'{self._what} (process {jax.process_index()} on {socket.gethostname()})'
    self._say(
      f'nothing has moved for {idle:.0f} s in {where}; the stacks of all threads, also in {self._file}:\n{stacks}'
    )
    with contextlib.suppress(Exception):  # the disk may be what hangs or fails
      self._file.parent.mkdir(parents=True, exist_ok=True)
      self._file.write_text(f'{time.strftime("%Y-%m-%d %H:%M:%S")} after {idle:.0f} s in {self._what}\n{stacks}')

  @staticmethod
  def _say(line: str) -> None:
    print(f'unmask: {line}', file=sys.stderr, flush=True)
