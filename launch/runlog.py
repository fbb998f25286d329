"""A run's account of itself: the bar, the metrics, what it has read and supervised, and 'done.json' at its end."""

import contextlib
import json
import os
import statistics
import time
from collections.abc import Iterator

import jax

from . import metrics, progress

START = {'batches': 0, 'tokens': 0.0, 'scored': 0.0, 'seconds': 0.0}
"""The position of a run that has not begun: global batches consumed, tokens of the corpus read, positions scored, and
seconds spent (compilation left out)."""


class RunLog:
  """Shows and writes each step's metrics, and counts what the whole run has read and supervised.

  Attributes:
    tokens, scored: tokens of the corpus read and positions scored since step 0.
  """

  def __init__(self, bar: progress.Progress, writer: metrics.Writer, position: dict, period: int, last: int):
    self._bar, self._writer, self._period, self._last = bar, writer, period, last
    self.tokens, self.scored = position['tokens'], position['scored']
    self._first, self._before, self._began = True, position['seconds'], time.monotonic()

  def position(self, batches: int) -> dict[str, float]:
    """What a checkpoint after `batches` batches needs to go on from."""
    seconds = self._before + time.monotonic() - self._began
    return {'batches': batches, 'tokens': self.tokens, 'scored': self.scored, 'seconds': seconds}

  def step(self, step: int, device_metrics: dict[str, jax.Array], learning_rate: float) -> None:
    """Reads the metrics of update number `step` from the device."""
    values = {name: float(value) for name, value in device_metrics.items()}
    if self._first:  # the first step waited for the compiler
      self._first, self._began = False, time.monotonic()
      self._bar.restart_clock(counted=False)
    rate = self._bar.report(values['loss'], values['tokens'])
    self.tokens += values['tokens']
    self.scored += values['scored']
    if step % self._period == 0 or step in (1, self._last):
      more = {'learning_rate': learning_rate, 'tokens_per_second': rate}
      self._writer.write(step, values | more | {'total_tokens': self.tokens, 'total_scored': self.scored})

  def evaluated(self, step: int, values: dict[str, float]) -> None:
    """Writes held-out losses; a report wants them beside the tokens read so far."""
    named = {f'eval/{name}': value for name, value in values.items()}
    self._writer.write(step, named | {'eval/total_tokens': self.tokens})

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Time inside is not part of the rate."""
    yield
    self._bar.restart_clock()

  def close(self) -> None:
    self._bar.close()


def write_done(model_dir: str, position: dict, params: dict, train_flops: float) -> None:
  """Writes 'done.json', whose presence says that the run is whole; the run's first process does.

  Args:
    model_dir: whose metrics hold the rates.
    position: of the last checkpoint.
    params: the parameters, to be counted.
    train_flops: model FLOPs of the whole run.
  """
  if jax.process_index() > 0:
    return
  rates = [row['tokens_per_second'] for row in metrics.read(model_dir) if row.get('tokens_per_second')]
  facts = {
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    'tokens_read': position['tokens'],
    'tokens_supervised': position['scored'],
    'tokens_per_second': statistics.median(rates) if rates else 0.0,
    'train_seconds': position['seconds'],
    'train_flops': train_flops,
  }
  with open(os.path.join(model_dir, 'done.json'), 'w') as file:
    json.dump(facts, file, indent=2)
