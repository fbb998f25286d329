"""The figures as CSV in long form, one figure a line: for whoever wants to count again."""

import csv
import io
from collections.abc import Iterable, Sequence

from .comparing import Sweep
from .detail_plots import points
from .inference import Column
from .reading import Run


def figures(sweep: Sweep) -> str:
  """Columns: cell, a column for each axis, seed, test, grouping, group, figure, value, se.

  `se` is the standard error over questions where the judge states one. The tests 'cost' and 'realised' hold what the
  run took and did.
  """
  axes = list(dict.fromkeys(axis for run in sweep.runs for axis in run.axes))
  rows = []
  for run in sweep.runs:
    head = [run.name, *(run.axes.get(axis, '') for axis in axes), run.seed]
    rows += [[*head, *line] for line in _lines(run)]
  return _csv(['cell', *axes, 'seed', 'test', 'grouping', 'group', 'figure', 'value', 'se'], rows)


def _lines(run: Run) -> Iterable[list]:
  for name, test in run.tests.items():
    yield from _of(test.figures, name, '', '')
    for grouping, groups in test.groups.items():
      for group, found in groups.items():
        yield from _of(found, name, grouping, group)
  yield from _of(run.done, 'cost', '', '')
  yield from _of(run.realised, 'realised', '', '')
  yield from _of(run.realised.get('configured', {}), 'realised', 'configured', '')


def _of(found: dict, test: str, grouping: str, group: str) -> Iterable[list]:
  for figure, value in found.items():
    if isinstance(value, int | float) and not figure.endswith('_se'):
      yield [test, grouping, group, figure, value, found.get(f'{figure}_se', '')]


def comparisons(columns: dict[str, Column]) -> str:
  """Every pair of cells in every test: the difference, its interval, and the p-values."""
  rows = []
  for name, column in columns.items():
    for pair in column.pairs:
      one = pair.difference
      over = [one.low, one.high, one.over] if one.over else ['', '', '']
      p = ['' if value is None else value for value in (pair.p_seeds, pair.p_questions, pair.p, pair.adjusted)]
      rows.append([name, column.test.primary.figure, pair.first, pair.second, one.mean, *over, *p, int(pair.found)])
  head = ['test', 'figure', 'first', 'second', 'difference', 'low', 'high', 'interval_over']
  return _csv([*head, 'p_seeds', 'p_questions', 'p', 'p_corrected', 'found'], rows)


def curves(sweep: Sweep) -> str:
  """Losses of training and of held-out rows by million tokens read; of objectives of their own, not to be compared."""
  rows = []
  for run in sweep.runs:
    for split, found in zip(('train', 'held_out'), points(run, 'tokens'), strict=True):
      rows += [[run.name, run.seed, split, x, loss] for x, loss in found]
  return _csv(['cell', 'seed', 'split', 'million_tokens', 'loss'], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(head)
  writer.writerows(rows)
  return text.getvalue()
