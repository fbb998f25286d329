"""Studies of compiled steps as tables: one for the terminal, one in Markdown."""

import sys
from collections.abc import Callable, Sequence

import rich.console
import rich.table

from . import bounds
from .study import GIB, Study

MARKDOWN_HEAD = """\
| model | parameters | slice | mesh | batch | remat | memory a chip, GiB | compiled / model FLOPs | collectives a step, GB a chip | a step takes at least | MFU at most |
|---|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


def show(name: str, studies: Sequence[Study]) -> None:
  """Prints a table, a column a slice, and the formula of the bound."""
  table = rich.table.Table(title=f'{name}, {count(studies[0].parameters)} parameters')
  table.add_column('of one chip and step', no_wrap=True)
  for one in studies:
    table.add_column(one.topology, justify='right', no_wrap=True)
  for label, figure in _figures(studies):
    table.add_row(label, *(figure(one) for one in studies))
  print_table(table)
  print(bounds.FORMULA)
  for one in studies:
    for complaint in complaints(one):
      print(complaint)


def print_table(table: rich.table.Table) -> None:
  """Prints a table, as wide as it is where there is no terminal."""
  width = None if sys.stdout.isatty() else 200
  rich.console.Console(highlight=False, width=width).print(table)


def complaints(one: Study) -> list[str]:
  """What makes a study's figures less than they say."""
  said = []
  if one.unknown_loops:
    said.append(
      f'{one.topology}: {one.unknown_loops} loops of unknown length are counted once, so figures are too low.'
    )
  if one.unestimated:
    said.append(
      f'{one.topology}: the compiler has no estimate for {one.unestimated} computations, which count by FLOPs.'
    )
  if one.bound.uncounted:
    said.append(f'{one.topology}: the FLOPs of {", ".join(one.bound.uncounted)} are not known and not counted.')
  return said


def _figures(studies: Sequence[Study]) -> list[tuple[str, Callable[[Study], str]]]:
  """Rows: a label and how to say a study's figure."""
  gib = lambda size: f'{size / GIB:,.2f} GiB'
  rows: list[tuple[str, Callable[[Study], str]]] = [
    ('chips', lambda one: f'{one.chips:,}'),
    ('mesh', lambda one: mesh(one)),
    ('batch', lambda one: f'{one.rows:,} x {one.length:,}'),
    ('remat', lambda one: one.remat),
    ('memory: arguments', lambda one: gib(one.memory.arguments)),
    ('memory: temporaries', lambda one: gib(one.memory.temporaries)),
    ('memory: peak', lambda one: gib(one.memory.peak)),
    ('memory: of the chip', lambda one: f'{gib(one.memory.chip)} ({one.memory.peak / one.memory.chip:.0%} used)'),
    ('model FLOPs', lambda one: f'{one.bound.model_flops:.4g}'),
    ('compiled FLOPs', lambda one: f'{one.bound.compiled_flops:.4g}'),
    ('compiled / model: what remat costs', lambda one: f'{recomputed(one):.3f}'),
    ("compiler's cycles", lambda one: f'{one.cycles:,.0f} = {_seconds(one.bound.compute)}'),
  ]
  for kernel in sorted({name for one in studies for name in one.kernels}):
    rows.append((kernel, lambda one, kernel=kernel: _kernel(one.kernels.get(kernel))))
  rows.append(('kernels', lambda one: _seconds(one.bound.kernels)))
  for kind in sorted({name for one in studies for name in one.collectives}):
    rows.append((kind, lambda one, kind=kind: f'{one.collectives.get(kind, 0) / 1e9:,.3f} GB'))
  return [
    *rows,
    ('collectives, overlapped', lambda one: _seconds(one.bound.overlapped)),
    ('collectives, exposed', lambda one: _seconds(one.bound.exposed)),
    ('collectives between slices', lambda one: _seconds(one.bound.between_slices)),
    ('a step takes at least', lambda one: _seconds(one.bound.seconds)),
    ('  with nothing overlapped', lambda one: _seconds(one.bound.serial)),
    ('MFU is at most', lambda one: f'{one.bound.mfu:.1%}'),
    ('tokens a second, all chips, at most', lambda one: f'{one.tokens_per_second:,.0f}'),
    ('compiled in', lambda one: f'{one.lower_seconds + one.compile_seconds:,.1f} s'),
  ]


def markdown(name: str, studies: Sequence[Study], head: bool) -> str:
  """A Markdown table, a row a slice."""
  rows = [MARKDOWN_HEAD] if head else []
  for one in studies:
    cells = [
      name,
      count(one.parameters),
      one.topology,
      mesh(one),
      f'{one.rows:,} x {one.length:,}',
      one.remat + (' + flags' if one.tpu_compiler_options else ''),
      f'{one.memory.peak / GIB:,.2f} of {one.memory.chip / GIB:,.2f}',
      f'{recomputed(one):.2f}',
      f'{sum(one.collectives.values()) / 1e9:,.2f}',
      _seconds(one.bound.seconds),
      f'{one.bound.mfu:.1%}',
    ]
    rows.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(rows)


def recomputed(one: Study) -> float:
  """Compiled FLOPs over model FLOPs."""
  return one.bound.compiled_flops / one.bound.model_flops


def mesh(one: Study) -> str:
  """The mesh axes longer than 1."""
  return ', '.join(f'{axis}={size}' for axis, size in one.mesh.items() if size > 1) or 'one chip'


def _kernel(figures: dict[str, float] | None) -> str:
  return '-' if figures is None else f'{figures["calls"]:,.0f} calls, {figures["flops"]:.4g} FLOPs'


def _seconds(seconds: float) -> str:
  return f'{seconds:,.3f} s' if seconds >= 1 else f'{seconds * 1e3:,.3f} ms'


def count(number: int) -> str:
  """A number of parameters."""
  return f'{number / 1e9:,.2f} B' if number >= 1e9 else f'{number / 1e6:,.1f} M'
