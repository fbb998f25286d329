"""Preemption: SIGTERM, or the notice that a cloud's machine will be taken away, heard and answered between updates."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

from .exits import INTERRUPTED, PREEMPTED, Preempted


class Interruption:
  """Whether this run was asked to stop.

  A single process listens for SIGTERM and SIGINT itself. Of several, JAX's own service listens for SIGTERM in each, and
  all agree on one update after which they stop (its preemption sync point).
  """

  def __init__(self):
    self._heard: signal.Signals | None = None
    self._deferred = False

  @contextlib.contextmanager
  def listening(self) -> Iterator['Interruption']:
    """Inside, a signal raises `Preempted`, but inside `deferred` too."""
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
      yield self
      return
    before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
    tell, sys.unraisablehook = sys.unraisablehook, lambda lost: self._hear_again(lost) or tell(lost)
    try:
      yield self
    finally:
      sys.unraisablehook = tell
      for number, handler in before.items():
        signal.signal(number, handler)

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """Inside, the first signal is only remembered, for `reached`; a second SIGINT interrupts at once."""
    self._deferred = True
    try:
      yield
    finally:
      self._deferred = False

  def _hear(self, number: int, frame: object) -> None:
    again = self._heard is signal.SIGINT and number == signal.SIGINT
    self._heard = signal.Signals(number)
    if again:
      raise KeyboardInterrupt
    if not self._deferred:
      raise self.stopped('before its first update; nothing is lost')

  def _hear_again(self, lost: Any) -> bool:
    """Whether `Preempted` was raised in vain, as in JAX's callbacks of the garbage collector; if so, it comes again."""
    if not isinstance(lost.exc_value, Preempted) or self._heard is None:
      return False
    number, self._heard = self._heard, None
    threading.Timer(0.01, signal.pthread_kill, [threading.main_thread().ident, number]).start()
    return True

  def reached(self, update: int) -> bool:
    """Whether to save and stop after this update; every process calls it once an update, and gets the same answer."""
    if jax.process_count() == 1:
      return self._heard is not None
    try:
      return multihost_utils.reached_preemption_sync_point(update)
    except RuntimeError:  # the service is switched off (jax_enable_preemption_service)
      return False

  def stopped(self, what: str) -> Preempted:
    """The exception that ends the process: with the status of an interrupt from the keyboard, or of a preemption."""
    name = self._heard.name if self._heard else 'a preemption notice'
    status = INTERRUPTED if self._heard is signal.SIGINT else PREEMPTED
    return Preempted(f'stopped by {name} {what}. The same command goes on from here.', status)
