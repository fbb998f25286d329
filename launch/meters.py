"""Rates of a run: tokens and model FLOPs a second, MFU, and the share of time that the device waited for rows.

MFU, model FLOPs utilisation, is model FLOPs a second over what the devices' peaks add up to (PaLM, arXiv 2204.02311,
appendix B). Counted are FLOPs of use alone: none for padding, none for slots of the output head where nothing is
scored, none for what is computed again in the backward pass.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

RATES = ('tokens_per_second', 'flops_per_second', 'peak_flops_per_second', 'mfu', 'mfu_bound', 'data_wait')
"""What depends on the machine and its day; all else in 'metrics.jsonl' is the same in every run of a configuration."""


@dataclasses.dataclass(frozen=True)
class _Update:
  seconds: float
  waited: float
  tokens: float
  flops: float


class Meter:
  """Rates over the last `window` updates, without what went by in pauses."""

  def __init__(self, peak: float | None = None, window: int = 50, clock: Callable[[], float] = time.monotonic):
    """`peak` is FLOPs a second of all devices together; None where it is unknown: there is no MFU then."""
    self._peak, self._clock = peak, clock
    self._updates: collections.deque[_Update] = collections.deque(maxlen=window)
    self._last, self._waited = clock(), 0.0

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Time inside is time in which there was no row to work on."""
    began = self._clock()
    yield
    self._waited += self._clock() - began

  def update(self, tokens: float, flops: float) -> None:
    """An update is done: of so many tokens of text, by so many model FLOPs."""
    now = self._clock()
    self._updates.append(_Update(now - self._last, self._waited, tokens, flops))
    self._last, self._waited = now, 0.0

  def resume(self) -> None:
    """Leaves out the time since the last update, or the last call of this: a pause."""
    self._last, self._waited = self._clock(), 0.0

  def rates(self) -> dict[str, float]:
    """By names of `RATES`; nothing before the first update, 'mfu' only where the peak is known."""
    total = lambda name: sum(getattr(update, name) for update in self._updates)
    seconds = total('seconds')
    if not seconds:
      return {}
    flops = total('flops') / seconds
    rates = {'tokens_per_second': total('tokens') / seconds, 'flops_per_second': flops}
    if self._peak:
      rates |= {'peak_flops_per_second': self._peak, 'mfu': flops / self._peak}
    return rates | {'data_wait': total('waited') / seconds}


def shown(rates: dict[str, float], bound: float | None = None, peak: str = '') -> str:
  """A few words: '8,123 tokens/s, 0.058 TFLOP/s, waits for data 1%, MFU 34% of at most 61% (peak 0.17: 2 x cpu)'.

  Args:
    rates: as `Meter.rates` gives them; FLOPs are the model's.
    bound: the highest possible MFU.
    peak: the name of the devices whose peak MFU is of, in TFLOP/s.
  """
  if not rates:
    return ''
  words = [f'{rates["tokens_per_second"]:,.0f} tokens/s', f'{_tera(rates["flops_per_second"])} TFLOP/s']
  words.append(f'waits for data {rates["data_wait"]:.0%}')
  if 'mfu' in rates:
    at_most = f' of at most {bound:.0%}' if bound and bound < 0.995 else ''
    words.append(f'MFU {rates["mfu"]:.0%}{at_most} (peak {_tera(rates["peak_flops_per_second"])}: {peak})')
  return ', '.join(words)


def _tera(flops: float) -> str:
  return f'{flops / 1e12:,.0f}' if flops >= 1e14 else f'{flops / 1e12:.3g}'
