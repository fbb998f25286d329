"""Figures that look into a test (retrieval by length and depth, BLiMP by phenomenon), and into the training."""

import math
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from . import inference, palette, plots
from .comparing import Cell, Sweep
from .plots import Plot

_PHENOMENON_INCHES = 0.1


def group_interval(cell: Cell, test: str, grouping: str, group: str) -> inference.Interval | None:
  """The primary figure of one group: over seeds by Student's t, of one seed with the judge's standard error."""
  runs = cell.asked(test)
  if not runs:
    return None
  figure = runs[0].tests[test].primary.figure
  found = [run.tests[test].groups.get(grouping, {}).get(group, {}) for run in runs]
  values = [one[figure] for one in found if isinstance(one.get(figure), int | float)]
  if len(values) != len(runs):
    return None
  error = found[0].get(f'{figure}_se')
  if len(values) > 1 or error is None:
    return inference.student(values)
  half = 1.96 * float(error)
  return inference.Interval(values[0], values[0] - half, values[0] + half, 'questions')


def heat_map(sweep: Sweep, test: str) -> Plot:
  """Retrieval by length (across) and depth (down), a panel a cell, means over seeds."""
  shown = sweep.tests[test]
  labels = [tuple(group.split('|')) for group in shown.groups['length_depth']]
  lengths = sorted({length for length, _ in labels}, key=float)
  depths = sorted({depth for _, depth in labels}, key=float)
  factor, cells = plots.scale(shown), [cell for cell in sweep.cells if cell.asked(test)]
  tables = {}
  for cell in cells:
    value = lambda depth, length, cell=cell: group_interval(cell, test, 'length_depth', f'{length}|{depth}')
    rows = [[value(depth, length) for length in lengths] for depth in depths]
    tables[cell.name] = np.array([[one.mean * factor if one else math.nan for one in row] for row in rows])
  every = np.concatenate([table.ravel() for table in tables.values()])
  low, high = (0.0, 100.0) if factor == 100 else (float(np.nanmin(every)), float(np.nanmax(every)))
  colours = matplotlib.colormaps[palette.HEAT]
  with plots.style():
    figure, axes = plots.grid(len(cells), 3, 0.75 + 0.25 * len(depths), sharey=True, sharex=True)
    for number, (axis, cell) in enumerate(zip(axes, cells, strict=True)):
      table = tables[cell.name]
      axis.imshow(table, cmap=colours, vmin=low, vmax=high, aspect='auto')
      for (row, column), value in np.ndenumerate(table):
        dark = (value - low) / max(high - low, 1e-9) < 0.55
        shown_value = '–' if math.isnan(value) else f'{value:.{0 if factor == 100 else 2}f}'
        axis.text(column, row, shown_value, ha='center', va='center',
                  color='white' if dark else 'black', fontsize=palette.SMALL)  # fmt: skip
      axis.set_title(plots.label(cell.name))
      axis.set_xticks(range(len(lengths)), lengths)
      axis.set_yticks(range(len(depths)), [f'{float(depth):.0%}' for depth in depths])
      axis.set_xlabel('tokens' if plots.ends_column(number, len(cells)) else '')
      axis.set_ylabel('depth' if axis.get_subplotspec().is_first_col() else '')
      axis.grid(visible=False)
      axis.tick_params(length=0)
      axis.spines[:].set_visible(False)
    seen = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(low, high), colours)
    bar = figure.colorbar(seen, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label(plots.unit(shown))
    base = shown.primary.baseline
    if base is not None:
      bar.ax.axhline(base * factor, color='white', linewidth=2.5)
      bar.ax.axhline(base * factor, color='black', linestyle='--', linewidth=1.2)
    mean = {name: float(np.nanmean(table)) for name, table in tables.items()}
    alt = ', '.join(f'{plots.label(name)} {value:.3g}' for name, value in mean.items())
    return plots.finish(
      figure,
      f'heat-{test}',
      shown.title,
      f'{shown.title} by length of the context and depth of the answer; means over both: {alt}.',
      f'{"Means over seeds. " if sweep.averaged else ""}The depth is how far into the context the answer stands. '
      + (f'Dashed on the scale: {shown.primary.baseline_is}.' if base is not None else ''),
    )


def phenomena(sweep: Sweep, test: str, grouping: str = 'phenomenon') -> Plot:
  """A line for each group, on it a marker for each cell with its interval."""
  shown = sweep.tests[test]
  groups = sorted(shown.groups[grouping])
  cells = [cell for cell in sweep.cells if cell.asked(test)]
  looks, factor = palette.looks([cell.name for cell in sweep.cells]), plots.scale(shown)
  with plots.style():
    slot = 0.8 / max(1, len(cells))
    height = (_PHENOMENON_INCHES * len(cells) + 0.12) * len(groups) + 0.9
    figure = Figure(figsize=(palette.PAGE_INCHES, height))
    axis = figure.subplots()
    for number, cell in enumerate(cells):
      for place, group in enumerate(groups):
        if found := group_interval(cell, test, grouping, group):
          where = place + slot * (number - (len(cells) - 1) / 2)
          look = {key: value for key, value in looks[cell.name].items() if key != 'linestyle'}
          half = found.half * factor if found.over else None
          axis.errorbar(found.mean * factor, where, xerr=half, linestyle='none', elinewidth=1.0, markersize=4.5,
                        label=plots.label(cell.name) if not place else None, **look)  # fmt: skip
    for edge in range(len(groups) + 1):
      axis.axhline(edge - 0.5, color=palette.GRID, linewidth=0.8)
    if shown.primary.baseline is not None:
      axis.axvline(shown.primary.baseline * factor, color=palette.BASELINE, linestyle='--', linewidth=1.0)
    axis.set_yticks(range(len(groups)), [plots.label(group) for group in groups])
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.grid(axis='y', visible=False)
    axis.set_xlabel(plots.unit(shown))
    plots.legend(figure, axis)
    over = 'over seeds (Student t)' if any(len(cell.runs) > 1 for cell in cells) else 'over questions alone'
    base = f' Dashed: {shown.primary.baseline_is}.' if shown.primary.baseline is not None else ''
    return plots.finish(
      figure,
      f'{grouping}-{test}',
      f'{shown.title} by {plots.label(grouping)}',
      f'{shown.title} by {plots.label(grouping)}: {len(groups)} lines with a marker for each of {len(cells)} cells.',
      f'Bars are 95 % intervals {over}; groups are not compared by tests.{base}',
    )


def by_number(sweep: Sweep, tests: Sequence[str], grouping: str, x_label: str, logarithmic: bool = False) -> Plot:
  """The primary figure against the number that names a group, such as moves or a learning rate."""
  looks = palette.looks([cell.name for cell in sweep.cells])

  def draw(axis, name: str) -> None:
    labels = sweep.tests[name].groups[grouping]
    found = {
      cell.name: [(float(one), value) for one in labels if (value := group_interval(cell, name, grouping, one))]
      for cell in sweep.cells
    }
    if logarithmic:
      axis.set_xscale('log')
    plots.dodged(axis, found, looks, plots.scale(sweep.tests[name]), ratio=logarithmic)
    axis.set_xticks([float(one) for one in labels], list(labels), minor=False)
    axis.minorticks_off()

  titles = ' and '.join(sweep.tests[name].title for name in tests)
  title = f'{titles} by {plots.label(grouping)}'
  return plots.panels(sweep, tests, draw, x_label, f'{grouping}-{"-".join(tests)}', title,
                      f'{title}, a line for each cell.', 'Bars are 95 % intervals. Dashed: baseline.')  # fmt: skip


def by_length(sweep: Sweep, lengths: dict[int, str]) -> Plot:
  """Loss and exact match against how many tokens are missing: length -> test."""
  looks = palette.looks([cell.name for cell in sweep.cells])
  figures = {'loss': ('nats a token\n(lower is better)', 1.0), 'exact': ('exact match, %\n(higher is better)', 100.0)}
  with plots.style():
    figure, axes = plots.grid(2, 2, 2.5)
    for axis, (name, (words, factor)) in zip(axes, figures.items(), strict=True):
      series: dict[str, list] = {cell.name: [] for cell in sweep.cells}
      for cell in sweep.cells:
        for length, test in lengths.items():
          values = [run.tests[test].figures.get(name) for run in cell.asked(test)]
          known = [value for value in values if value is not None]
          if known and len(known) == len(values):
            series[cell.name].append((float(length), inference.student(known)))
      axis.set_xscale('log')
      plots.dodged(axis, series, looks, factor, ratio=True)
      axis.set_xticks(list(lengths), [str(length) for length in lengths], minor=False)
      axis.minorticks_off()
      axis.set_xlabel('missing tokens')
      axis.set_ylabel(words)
    plots.legend(figure, axes[0])
    return plots.finish(
      figure,
      'infill-length',
      'Infilling by how much is missing',
      f'Loss and exact match of each cell for gaps of {", ".join(map(str, lengths))} tokens.',
      'Bars are 95 % intervals over seeds (Student t) where there are several. The gaps lie in different texts.',
    )


def points(run, by: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
  """(x, loss) of training and of held-out rows: x is million tokens read, or model FLOPs in units of 10^12."""
  read = run.done.get('tokens_read') or 0
  factor = 1e-6 if by == 'tokens' else (run.done.get('train_flops', 0) / read / 1e12 if read else 0)
  train = [(row['total_tokens'] * factor, row['loss']) for row in run.rows if 'total_tokens' in row and 'loss' in row]
  steps = {row['step']: row['total_tokens'] for row in run.rows if 'total_tokens' in row}
  held = [row for row in run.rows if 'eval/loss' in row]
  tokens = lambda row: row.get('eval/total_tokens', np.interp(row['step'], list(steps), list(steps.values())))
  return train, [(float(tokens(row)) * factor, row['eval/loss']) for row in held]


def curves(sweep: Sweep, by: str) -> Plot:
  """Each cell's own loss, on axes of its own."""
  looks = palette.looks([cell.name for cell in sweep.cells])
  with plots.style():
    figure, axes = plots.grid(len(sweep.cells), 3, 1.75)
    for number, (axis, cell) in enumerate(zip(axes, sweep.cells, strict=True)):
      look, ends = looks[cell.name], []
      for run in cell.runs:
        train, held = points(run, by)
        if train:
          axis.plot(*zip(*train, strict=True), color='#999999', linewidth=0.7, label='training')
          ends += [loss for _, loss in train[len(train) // 20 :]]
        if held:
          axis.plot(*zip(*held, strict=True), color=look['color'], marker=look['marker'], markersize=3.5, linewidth=1.1,
                    markeredgecolor=palette.INK, markeredgewidth=0.4, label='held out')  # fmt: skip
      if ends:  # the first steps, at the logarithm of the vocabulary's size, would flatten all others
        axis.set_ylim(min(ends) - 0.05 * (max(ends) - min(ends)), max(ends) + 0.05 * (max(ends) - min(ends)))
      axis.set_title(plots.label(cell.name))
      axis.set_ylabel('its own loss, nats' if axis.get_subplotspec().is_first_col() else '')
      if plots.ends_column(number, len(sweep.cells)):
        axis.set_xlabel('million tokens read' if by == 'tokens' else 'model FLOPs, 10¹²')
      axis.locator_params(nbins=5)
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc='outside upper right', ncols=2)
    return plots.finish(
      figure,
      f'curves-{by}',
      f'How each learned, by {"tokens read" if by == "tokens" else "model FLOPs"}',
      f'Training and held-out loss of each of {len(sweep.cells)} cells against {by}, each on axes of its own.',
      'A line a seed. Losses of different objectives are different quantities: heights must not be compared '
      'between panels.',
    )


def all_of(sweep: Sweep) -> dict[str, list[Plot]]:
  """Figures that look into tests, by the part of the tests."""
  found: dict[str, list[Plot]] = {}
  by_moves: dict[str, list[str]] = {}
  lengths = {int(name[7:]): name for name in sweep.tests if re.fullmatch(r'infill_\d+', name)}
  for name, test in sweep.tests.items():
    add = found.setdefault(test.part, []).append
    if 'length_depth' in test.groups:
      add(heat_map(sweep, name))
    if 'phenomenon' in test.groups:
      add(phenomena(sweep, name))
    for grouping in ('moves', 'learning_rate'):
      if len(test.groups.get(grouping, {})) > 1:
        by_moves.setdefault(grouping, []).append(name)
    for grouping in ('attention', 'start'):
      if len(test.groups.get(grouping, {})) > 1:
        add(phenomena(sweep, name, grouping))
  if len(lengths) > 1:
    ordered = dict(sorted(lengths.items()))
    found.setdefault(sweep.tests[lengths[min(lengths)]].part, []).append(by_length(sweep, ordered))
  for grouping, names in by_moves.items():
    parts = dict.fromkeys(sweep.tests[name].part for name in names)
    for part in parts:
      mine = [name for name in names if sweep.tests[name].part == part]
      words = {'moves': 'moves', 'learning_rate': 'learning rate of fine-tuning'}[grouping]
      found[part].append(by_number(sweep, mine, grouping, words, logarithmic=grouping == 'learning_rate'))
  return found
