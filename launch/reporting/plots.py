"""The report's figures, for paper and screen: every one is drawn once and written as SVG, PNG and PDF."""

import contextlib
import dataclasses
import io
import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence

import matplotlib
from matplotlib.figure import Figure

from . import inference, palette
from .comparing import Sweep
from .inference import Column
from .reading import Test

matplotlib.use('Agg')

PNG_DOTS = 300
FIGURES = {'mrr': 'MRR', 'exact': 'exact match', 'f1': 'F1', 'token_top1': 'tokens right'}


@dataclasses.dataclass(frozen=True)
class Plot:
  """A figure: `name` of its files, a title, what it shows in words for those who cannot see it, and how to read it."""

  name: str
  title: str
  alt: str
  caption: str
  svg: bytes
  png: bytes
  pdf: bytes
  width: float
  height: float


@contextlib.contextmanager
def style() -> Iterator[None]:
  """In here figures look like the others."""
  with matplotlib.rc_context(palette.STYLE):
    yield


def finish(figure: Figure, name: str, title: str, alt: str, caption: str) -> Plot:
  """Writes a figure as bytes; the same figure gives the same bytes."""
  written = {}
  figure.draw_without_rendering()  # lays it out, which takes most of the time; once will do
  figure.set_layout_engine('none')
  for kind, facts in (('svg', {'Date': None}), ('png', {'Software': None}), ('pdf', {'CreationDate': None})):
    data = io.BytesIO()
    figure.savefig(data, format=kind, metadata=facts, dpi=PNG_DOTS)
    written[kind] = data.getvalue()
  width, height = figure.get_size_inches()
  return Plot(name, title, alt, caption, **written, width=float(width), height=float(height))


def grid(count: int, columns: int, height: float, **more) -> tuple[Figure, list]:
  """A figure as wide as a page with `count` axes; `height` inches a line of them."""
  columns = _abreast(count, columns)
  lines = math.ceil(count / columns)
  figure = Figure(figsize=(palette.PAGE_INCHES, height * lines + 0.3))
  axes = figure.subplots(lines, columns, squeeze=False, **more)
  for axis in axes.flat[count:]:
    axis.set_visible(False)
  return figure, list(axes.flat[:count])


def _abreast(count: int, columns: int = 3) -> int:
  """How many of `count` axes stand beside each other: four in two lines of two."""
  return 2 if count == 4 else min(columns, count)


def ends_column(number: int, count: int) -> bool:
  """Whether nothing stands below axes `number`, which then say what their x is."""
  return number + _abreast(count) >= count


def label(name: str) -> str:
  return name.replace('_', ' ')


def unit(test: Test) -> str:
  """The unit of the primary figure and which way is better, for an axis."""
  words = f'{FIGURES.get(test.primary.figure, test.primary.figure)}, %' if scale(test) != 1 else test.primary.unit
  return f'{words} ({"higher" if test.primary.sign > 0 else "lower"} is better)'


def scale(test: Test) -> float:
  """Shares are shown in per cent."""
  return 100.0 if test.primary.unit == 'share' else 1.0


def tests(sweep: Sweep, columns: dict[str, Column], part: str, title: str) -> Plot:
  """The tests of one part: a panel a test, a line a cell, with 95 % intervals; dashed is the baseline."""
  names = sweep.parts[part]
  looks = palette.looks([cell.name for cell in sweep.cells])
  with style():
    figure, axes = grid(len(names), 3, 0.75 + 0.19 * len(sweep.cells), sharey=True)
    for number, (axis, name) in enumerate(zip(axes, names, strict=True)):
      test, shown = sweep.tests[name], columns[name]
      for place, cell in enumerate(sweep.cells):
        if cell.name in shown.intervals:
          home = cell.first.is_home(name)
          _interval(axis, shown.intervals[cell.name], place, looks[cell.name], scale(test), filled=not home)
      if test.primary.baseline is not None:
        axis.axvline(test.primary.baseline * scale(test), color=palette.BASELINE, linestyle='--', linewidth=1.0)
      axis.set_title(_wrapped(test.title))
      axis.set_xlabel(unit(test) if ends_column(number, len(names)) else '')
      axis.grid(axis='y', visible=False)
      axis.locator_params(axis='x', nbins=5)
    axes[0].set_yticks(range(len(sweep.cells)), [label(cell.name) for cell in sweep.cells])
    axes[0].set_ylim(len(sweep.cells) - 0.5, -0.5)
    best = '; '.join(f'{sweep.tests[name].title}: {label(columns[name].leader)} is ahead' for name in names)
    return finish(
      figure,
      f'tests-{part}',
      title,
      f'{title}, a panel for each test and a line for each cell. {best}.',
      _caption_of(columns[name] for name in names),
    )


def _caption_of(columns: Iterator[Column] | Sequence[Column]) -> str:
  columns = list(columns)
  over = {interval.over for column in columns for interval in column.intervals.values()}
  words = {
    'seeds': 'over seeds (Student t)',
    'questions': 'over questions alone, since the cell has one seed (clustered bootstrap)',
  }
  said = ' and '.join(words[kind] for kind in ('seeds', 'questions') if kind in over)
  bars = f'Bars are 95 % intervals {said}. ' if said else 'One seed: there are no intervals. '
  base = sorted({c.test.primary.baseline_is or 'baseline' for c in columns if c.test.primary.baseline is not None})
  dashed = f'Dashed: {" or ".join(base)}. ' if base else ''
  return f'{bars}{dashed}Hollow markers: the test asks in the form in which the objective was trained.'


def _interval(axis, interval: inference.Interval, place: float, look: dict, factor: float, filled: bool = True) -> None:
  """A marker with its interval, lying."""
  face = look['color'] if filled else 'white'
  axis.errorbar(
    interval.mean * factor,
    place,
    xerr=interval.half * factor if interval.over else None,
    color=look['color'],
    ecolor=look['color'],
    marker=look['marker'],
    linestyle='none',
    markerfacecolor=face,
    markeredgecolor=palette.INK if filled else look['color'],
    markeredgewidth=0.6 if filled else 1.4,
    elinewidth=1.3,
  )


def _wrapped(text: str) -> str:
  """A title in lines that fit over a panel, cut between words alone."""
  return textwrap.fill(text, 24, break_long_words=False, break_on_hyphens=False)


def along(sweep: Sweep, columns: dict[str, Column], axis_name: str, numbers: dict[str, float], part: str) -> Plot:
  """Each figure of one part against a numeric axis of the sweep, a line for each setting of the other axes."""
  names = sweep.parts[part]
  lines: dict[str, list] = {}
  for cell in sweep.cells:
    if cell.first.axes.get(axis_name) in numbers:
      others = ', '.join(value for axis, value in cell.first.axes.items() if axis != axis_name)
      lines.setdefault(others or axis_name, []).append((numbers[cell.first.axes[axis_name]], cell.name))
  looks = palette.looks(list(lines))

  def draw(axis, name: str) -> None:
    shown = columns[name].intervals
    series = {line: [(x, shown[cell]) for x, cell in points if cell in shown] for line, points in lines.items()}
    dodged(axis, series, looks, scale(sweep.tests[name]))
    axis.set_xticks(sorted(set(numbers.values())))

  title = f'What {label(axis_name)} changes: {label(part)}'
  alt = f'Each test against {label(axis_name)} from {min(numbers.values()):g} to {max(numbers.values()):g}.'
  caption = _caption_of([columns[name] for name in names]).replace(
    'Hollow markers: the test asks in the form in which the objective was trained.', ''
  )
  return panels(sweep, names, draw, label(axis_name), f'axis-{axis_name}-{part}', title, alt, caption.strip())


def dodged(
  axis,
  series: dict[str, list[tuple[float, inference.Interval]]],
  looks: dict[str, dict],
  factor: float,
  ratio: bool = False,
) -> None:
  """A line with intervals for each series of (x, interval), a little beside each other so that no bar hides another.

  Args:
    ratio: x is a logarithmic axis.
  """
  places = sorted({x for points in series.values() for x, _ in points})
  steps = [b / a if ratio else b - a for a, b in itertools.pairwise(places)] or [2.0 if ratio else 1.0]
  for number, (name, points) in enumerate(series.items()):
    share = min(0.05, 0.3 / len(series)) * (number - (len(series) - 1) / 2)
    xs = [x * min(steps) ** share if ratio else x + min(steps) * share for x, _ in sorted(points, key=lambda p: p[0])]
    found = [interval for _, interval in sorted(points, key=lambda p: p[0])]
    halves = [interval.half * factor if interval.over else 0.0 for interval in found]
    if found:
      axis.errorbar(
        xs,
        [interval.mean * factor for interval in found],
        yerr=halves,
        label=label(name),
        elinewidth=1.0,
        **looks[name],
      )


def panels(
  sweep: Sweep,
  names: Sequence[str],
  draw: Callable,
  x_label: str,
  name: str,
  title: str,
  alt: str,
  caption: str,
) -> Plot:
  """A panel for each test with the baseline dashed, and one legend above them all."""
  with style():
    figure, axes = grid(len(names), 3, 1.9 if len(names) > 1 else 2.5)
    for number, (axis, test_name) in enumerate(zip(axes, names, strict=True)):
      test = sweep.tests[test_name]
      draw(axis, test_name)
      if test.primary.baseline is not None:
        axis.axhline(test.primary.baseline * scale(test), color=palette.BASELINE, linestyle='--', linewidth=1.0)
      axis.set_title(_wrapped(test.title))
      axis.set_ylabel(unit(test).replace(' (', '\n('))
      axis.set_xlabel(x_label if ends_column(number, len(names)) else '')
      axis.locator_params(axis='y', nbins=5)
    legend(figure, axes[0])
    return finish(figure, name, title, alt, caption)


def legend(figure: Figure, axis) -> None:
  """One legend above all panels, of what the first holds."""
  handles, labels = axis.get_legend_handles_labels()
  if handles:
    figure.legend(handles, labels, loc='outside upper center', ncols=min(4, len(labels)), handlelength=3.2)
