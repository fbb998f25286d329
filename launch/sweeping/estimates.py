"""How long cells will take, and by what that is known."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence

from .. import files
from .plans import Plan
from .shares import Machine

ASSUMED_MFU = 0.4
"""Of the devices' peak, where no cell has shown what is reached: near what the core sweep reaches on idle cores."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Seconds by plan, None where nothing can be said, and what they rest on."""

  seconds: list[float | None]
  rests_on: str


def of(plans: Sequence[Plan], known: Sequence[Plan], machine: Callable[[], Machine]) -> Estimate:
  """Seconds that the updates of `plans` take, one after another; start-up and judging are not in them.

  Args:
    plans: still to run.
    known: of the same sweep, some of which may be done.
    machine: asked if no cell is done.
  """
  per_flop, per_token = [], {}
  for one in known:
    if not one.cell.trained:
      continue
    done = json.loads((files.path(one.cell.model_dir) / 'done.json').read_text())
    rate = done.get('tokens_per_second') or 0
    if rate > 0 and one.update_flops:
      per_flop.append(1 / rate * one.update_tokens / one.update_flops)
    if rate > 0:
      per_token[one.cell.row] = 1 / rate
  if per_token:
    a_flop = statistics.median(per_flop) if per_flop else None
    seconds = [_seconds(one, per_token.get(one.cell.row), a_flop) for one in plans]
    return Estimate(seconds, 'by the rates of finished cells of the same row, or by FLOPs at their median rate')
  if any(one.update_flops is None for one in plans) or not plans:
    return Estimate([None] * len(plans), 'FLOPs are not known without the vocabulary')
  here = machine()
  if here.peak is None:
    return Estimate([None] * len(plans), f'the peak of {here.kind} is not known')
  how = 'measured' if here.platform == 'cpu' else "the maker's"
  rests = (
    f'by FLOPs at {ASSUMED_MFU:.0%} of the peak of {here.count} x {here.kind} ({here.peak:.3g} FLOP/s, {how}), assumed'
  )
  return Estimate([_seconds(one, None, 1 / (ASSUMED_MFU * here.peak)) for one in plans], rests)


def _seconds(one: Plan, a_token: float | None, a_flop: float | None) -> float | None:
  left = one.train_steps - min(one.cell.step() or 0, one.train_steps)
  if a_token is not None:
    return left * one.update_tokens * a_token
  return None if a_flop is None or one.update_flops is None else left * one.update_flops * a_flop


def spoken(seconds: float | None) -> str:
  """'2 h 05 min', '3 min 20 s' or '8 s'; '?' for None."""
  if seconds is None:
    return '?'
  whole = round(seconds)
  if whole >= 3600:
    return f'{whole // 3600} h {whole % 3600 // 60:02d} min'
  return f'{whole // 60} min {whole % 60:02d} s' if whole >= 60 else f'{whole} s'
