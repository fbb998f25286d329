"""Where a run's numbers go: 'metrics.jsonl' and TensorBoard in its directory, and a tracker if one is asked for."""

import json
import sys
import threading
from collections.abc import Callable
from typing import Protocol

import jax

from . import board, files, lines, trackers

_PAUSE_SECONDS = 2.0  # a bucket takes one write a second of the same object


class Writer(Protocol):
  """Takes a run's scalars and texts."""

  def write(self, step: int, values: dict[str, float]) -> None:
    """Scalars of a step."""

  def configuration(self, operative: str) -> None:
    """The run's gin configuration."""

  def flush(self) -> None:
    """Returns when what can be written is."""

  def close(self) -> None:
    """Nothing more comes."""


def writer(model_dir: str, first_step: int) -> Writer:
  """A `MetricsWriter` in the first process of a run; the others write nothing."""
  return NoWriter() if jax.process_index() > 0 else MetricsWriter(model_dir, first_step)


class MetricsWriter:
  """Writes scalars by step. A resumed run takes back what it had written beyond the step it resumes from.

  What cannot be written is kept in memory and written with the next line that can: a full disk ends no training.
  """

  def __init__(self, model_dir: str, first_step: int):
    """UserError if the directory cannot be written to begin with."""
    folder = files.path(model_dir)
    self._model_dir = model_dir
    self._lines = lines.Lines(folder, keep=lambda line: json.loads(line)['step'] <= first_step)
    self._board = board.Board(folder)
    self._tracker = trackers.WeightsAndBiases(folder) if trackers.wanted() else None
    self._kept: list[dict] = []
    self._lock = threading.Lock()
    self._warned = False
    # A bucket answers in its own time, which the loop does not wait for.
    self._behind = _Behind(self._write_kept) if files.is_remote(folder) else None

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds one line, 'step' and the values, and the same scalars to TensorBoard. Raises nothing."""
    self._kept.append({'step': step, **values})
    if self._behind:
      self._behind.wake()
    else:
      self._write_kept()

  def configuration(self, operative: str) -> None:
    """Adds the run's gin configuration, wherever it can be shown."""
    with self._lock:
      self._board.text('config', f'```\n{operative}\n```')
    if self._tracker:
      self._tracker.configuration(operative)

  def close(self) -> None:
    """Tries a last time to write what is kept, and says how many lines are lost if it cannot."""
    if self._behind:
      self._behind.close()
    if reason := self._write_kept():
      lost = f'{len(self._kept)} {"line" if len(self._kept) == 1 else "lines"} of metrics'
      _warn(f'{lost} could not be written to {self._model_dir} and are lost: {reason}.')
    self._board.close()
    if self._tracker:
      self._tracker.close()

  def flush(self) -> None:
    """Returns when what can be written is."""
    self._write_kept()

  def _write_kept(self) -> str | None:
    """Writes all lines that are kept, in order; the reason if that cannot be done now."""
    with self._lock:
      rows = self._kept[:]  # the loop may add more meanwhile
      if not rows:
        return None
      try:
        self._lines.append(''.join(json.dumps(row) + '\n' for row in rows))
      except Exception as error:  # gcsfs has errors of many kinds
        reason = files.reason(error)
        if not self._warned:
          place = f'metrics cannot be written to {self._model_dir}: {reason}'
          _warn(f'{place}; they are kept and written when there is room.')
        self._warned = True
        return reason
      del self._kept[: len(rows)]
      self._warned = False
      for row in rows:
        values = {name: value for name, value in row.items() if name != 'step'}
        self._board.scalars(row['step'], values)
        if self._tracker:
          self._tracker.scalars(row['step'], values)
      return None


def _warn(sentence: str) -> None:
  print(f'unmask: {sentence}', file=sys.stderr, flush=True)


class _Behind:
  """Does one piece of work in a thread, once for any number of wakes that come while it is under way."""

  def __init__(self, work: Callable[[], object]):
    self._work, self._wanted, self._closing = work, threading.Event(), threading.Event()
    self._thread = threading.Thread(target=self._run, name='metrics', daemon=True)
    self._thread.start()

  def _run(self) -> None:
    while not self._closing.is_set():
      self._wanted.wait()
      self._wanted.clear()
      self._work()
      self._closing.wait(_PAUSE_SECONDS)

  def wake(self) -> None:
    """The work is wanted."""
    self._wanted.set()

  def close(self) -> None:
    """Waits for the work under way, if any."""
    self._closing.set()
    self._wanted.set()
    self._thread.join()


class NoWriter:
  """Stands for a `MetricsWriter` in every process of a run but the first."""

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes nothing."""

  def configuration(self, operative: str) -> None:
    """Writes nothing."""

  def flush(self) -> None:
    """There is nothing to wait for."""

  def close(self) -> None:
    """There is nothing to close."""


def read(model_dir: str) -> list[dict]:
  """All lines of a run's metrics, in order; a last line cut off by a crash is left out."""
  return [json.loads(line) for line in lines.read(files.path(model_dir))]
