"""A run's account of itself: the bar, the metrics, what it has read and supervised, and 'done.json' at its end."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from . import environment, files, meters, metrics, progress, startup
from .shares import Shares

START = {'batches': 0, 'tokens': 0.0, 'scored': 0.0, 'flops': 0.0, 'seconds': 0.0}
"""The position of a run that has not begun: global batches consumed, tokens of the corpus read, positions scored, model
FLOPs (see `Program.useful_flops`), and seconds spent (compilation left out)."""


class RunLog:
  """Shows and writes each step's metrics, and counts what the whole run has read and supervised.

  Attributes:
    tokens, scored, flops: tokens of the corpus read, positions scored and model FLOPs since step 0.
  """

  def __init__(
    self,
    bar: progress.Progress,
    writer: metrics.Writer,
    meter: meters.Meter,
    position: dict,
    *,
    flops: Callable[[Mapping[str, float]], float],
    learning_rates: Sequence[float] | np.ndarray,
    period: int,
    last: int,
    began: startup.Startup,
    bound: float | None = None,
    peak: str = '',
  ):
    """Goes on from a position.

    Args:
      bar, writer, meter: what is told of each step.
      position: of the checkpoint gone on from, or START.
      flops: model FLOPs of an update by its metrics.
      learning_rates: of each update of the whole run.
      period: updates between lines of metrics.
      last: update at which this process ends.
      began: what the time before the first step went into.
      bound: the highest MFU that the compiled step can reach, None if nothing is known of it.
      peak: whose peak it is that MFU is of, see `devices.name_of`.
    """
    self._bar, self._writer, self._meter, self._period, self._last = bar, writer, meter, period, last
    self._flops, self._learning_rates, self._startup, self._bound = flops, learning_rates, began, bound
    self._peak = peak
    self.tokens, self.scored, self.flops = position['tokens'], position['scored'], position['flops']
    self._shares = Shares(position.get('parts', {}))
    self._first, self._before, self._began = True, position['seconds'], time.monotonic()

  def position(self, batches: int) -> dict[str, Any]:
    """What a checkpoint after `batches` batches needs to go on from; 'parts' only of a mixture."""
    seconds = self._before + time.monotonic() - self._began
    parts = {'parts': dict(self._shares.totals)} if self._shares.totals else {}
    return {
      'batches': batches,
      'tokens': self.tokens,
      'scored': self.scored,
      'flops': self.flops,
      'seconds': seconds,
      **parts,
    }

  def step(self, step: int, values: dict[str, float], applied: bool = True) -> None:
    """Counts update number `step` and tells its metrics; of one that was not applied, only what it read is counted."""
    if not applied:
      self.tokens += values['tokens']
      return
    flops = self._flops(values)
    self._shares.count(values)
    self.tokens += values['tokens']
    self.scored += values['scored']
    self.flops += flops
    if self._first:  # it warms everything up: no rate has it in it
      self._started()
    else:
      self._meter.update(values['tokens'], flops)
    rates = self._meter.rates()
    self._bar.report(values['loss'], meters.shown(rates, self._bound, self._peak))
    if step % self._period == 0 or step in (1, self._last):
      more = {'learning_rate': float(self._learning_rates[step - 1]), **rates}
      if self._bound is not None:
        more['mfu_bound'] = self._bound
      more |= {'total_tokens': self.tokens, 'total_scored': self.scored}
      self._writer.write(step, self._shares.shown(values) | more)

  def _started(self) -> None:
    """The first step of this process is done."""
    self._startup.mark('step')
    if jax.process_index() == 0:
      self._bar.say(self._startup.line())
    self._first, self._began = False, time.monotonic()
    self._meter.resume()

  def evaluated(self, step: int, values: dict[str, float]) -> None:
    """Writes held-out losses; a report wants them beside the tokens read so far."""
    named = {f'eval/{name}': value for name, value in values.items()}
    self._writer.write(step, named | {'eval/total_tokens': self.tokens})

  def flush(self) -> None:
    """All lines are where they belong: a checkpoint must not be newer than its metrics."""
    self._writer.flush()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Around what waits for the next batch."""
    if self._first:
      self._startup.mark('step')
    with self._meter.waiting():
      yield
    if self._first:
      self._startup.mark('data')

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Time inside is not part of the rates."""
    yield
    self._meter.resume()

  def close(self) -> None:
    self._bar.close()
    self._writer.flush()  # 'done.json' is made of the lines


def write_done(model_dir: str, position: dict, parameters: int) -> None:
  """Writes 'done.json', whose presence says that the run is whole; the run's first process does.

  Rates are medians of the lines of metrics; a rate that no line has is left out, but for 'tokens_per_second'.

  Args:
    model_dir: whose metrics hold the rates.
    position: of the last checkpoint.
    parameters: how many the model has.
  """
  if jax.process_index() > 0:
    return
  rows = metrics.read(model_dir)
  medians = {'tokens_per_second': 0.0}
  for name in (*meters.RATES, 'padding'):
    if found := [row[name] for row in rows if row.get(name) is not None]:
      medians[name] = statistics.median(found)
  facts = {
    'parameters': parameters,
    'tokens_read': position['tokens'],
    'tokens_supervised': position['scored'],
    'train_seconds': position['seconds'],
    'train_flops': position['flops'],
    **medians,
  }
  if (peak := environment.peak_bytes()) is not None:
    facts['peak_bytes'] = peak
  files.write_atomically(files.path(model_dir) / 'done.json', json.dumps(facts, indent=2))
