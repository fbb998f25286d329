"""The training bar: step, loss, tokens a second, time left; a line every ten seconds where there is no terminal."""

import sys
import time

import tqdm


class Progress:
  """A bar over `total` steps that starts at `first`.

  Tokens are real (unpadded) positions read; their rate is over the last `_WINDOW` reports.
  """

  _WINDOW = 50

  def __init__(self, name: str, first: int, total: int):
    terminal = sys.stderr.isatty()
    self._bar = tqdm.tqdm(
      initial=first,
      total=total,
      desc=name,
      unit='step',
      mininterval=0.3 if terminal else 10.0,
      dynamic_ncols=terminal,
      bar_format='{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}',
    )
    self._times: list[tuple[float, float]] = [(time.monotonic(), 0.0)]
    self._tokens = 0.0

  def report(self, loss: float, tokens: float, note: str = '') -> float:
    """One step is done; returns tokens a second, 0 where nothing was timed yet."""
    self._tokens += tokens
    self._times = [*self._times[-self._WINDOW :], (time.monotonic(), self._tokens)]
    (start, before), (end, now) = self._times[0], self._times[-1]
    rate = (now - before) / (end - start) if len(self._times) > 1 else 0.0
    self._bar.set_postfix_str(f'loss {loss:.3f}, {rate:,.0f} tokens/s{note}', refresh=False)
    self._bar.update(1)
    return rate

  def restart_clock(self, counted: bool = True) -> None:
    """Leaves the time up to now out of the rate: compilation, evaluation. Not `counted`: the next step's tokens too."""
    self._times = [(time.monotonic(), self._tokens)] if counted else []

  def close(self) -> None:
    self._bar.close()
