"""What the judge found, for the terminal."""

import sys
from typing import Any

import jax


def say_once(line: str, told: set[str]) -> None:
  """A line for the user, the first time that it is said; of several processes the first one says it."""
  if line not in told and jax.process_index() == 0:
    print(f'unmask: {line}', file=sys.stderr, flush=True)
  told.add(line)


def show(model_dir: str, result: dict[str, Any]) -> None:
  """Prints a line a test: its figures, and what a model gets that knows nothing."""
  if jax.process_index():
    return
  print(f'{model_dir.rstrip("/")}, checkpoint {result["checkpoint"]}, sees {result["sees"]}')
  for name, test in result['tests'].items():
    figures, primary = test['figures'], test['primary']
    parts = [_figure(figures, primary['figure'])]
    if primary['baseline'] is not None:
      parts[0] += f' ({primary["baseline_is"]} {_number(primary["figure"], primary["baseline"])})'
    others = [name for name in ('mrr', 'loss', 'exact') if name in figures and name != primary['figure']]
    parts += [_figure(figures, other) for other in others]
    if test['overlap']:
      parts.append(f'overlap {test["overlap"]:.1%}')
    print(f'  {name:18} {"  ".join(parts)}')


def _figure(figures: dict[str, float], name: str) -> str:
  return f'{name} {_number(name, figures[name])} +- {_number(name, figures.get(f"{name}_se", 0.0))}'


def _number(name: str, value: float) -> str:
  return f'{value:.3f}' if name in ('loss', 'mrr') else f'{value:.1%}'
