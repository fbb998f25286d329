"""Runs beside each other: cells, whether they can be compared at all, and what a reader must know before they are."""

import collections
import dataclasses
import functools
from collections.abc import Sequence

from ... import UserError
from .reading import Run, Test

_SHAPE = ('num_layers', 'embed_dim', 'num_heads', 'mlp_dim', 'head_dim', 'num_kv_heads', 'tied_embeddings')


@dataclasses.dataclass(frozen=True)
class Cell:
  """Runs that differ in their seed alone, in the order of their seeds."""

  name: str
  runs: tuple[Run, ...]

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(run.seed for run in self.runs)

  @property
  def first(self) -> Run:
    return self.runs[0]

  def asked(self, test: str) -> list[Run]:
    """The runs that were asked the test."""
    return [run for run in self.runs if test in run.tests]

  def mean(self, name: str) -> float | None:
    """The mean over seeds of a figure of 'done.json'; None if a run has none."""
    values = [run.done[name] for run in self.runs if run.done.get(name) is not None]
    return sum(values) / len(values) if len(values) == len(self.runs) else None


@dataclasses.dataclass(frozen=True)
class Sweep:
  """All cells, the tests in the order in which they were first asked, and the cells that are not there."""

  cells: tuple[Cell, ...]
  missing: tuple[str, ...] = ()

  @property
  def runs(self) -> list[Run]:
    return [run for cell in self.cells for run in cell.runs]

  @property
  def averaged(self) -> bool:
    """Whether any cell has several seeds, so that figures are means."""
    return any(len(cell.runs) > 1 for cell in self.cells)

  @functools.cached_property
  def tests(self) -> dict[str, Test]:
    """Tests by name, each as the first run that was asked it has it."""
    found: dict[str, Test] = {}
    for run in self.runs:
      for name, test in run.tests.items():
        found.setdefault(name, test)
    return found

  @property
  def parts(self) -> dict[str, list[str]]:
    """Names of tests by their part, in order."""
    parts: dict[str, list[str]] = collections.defaultdict(list)
    for name, test in self.tests.items():
      parts[test.part].append(name)
    return dict(parts)

  def numeric_axes(self) -> dict[str, dict[str, float]]:
    """Axes with three or more labels that are all numbers: axis -> label -> number."""
    axes = {}
    for axis in dict.fromkeys(axis for cell in self.cells for axis in cell.first.axes):
      labels = list(dict.fromkeys(cell.first.axes[axis] for cell in self.cells if axis in cell.first.axes))
      numbers = {label: number for label in labels if (number := _number(label)) is not None}
      if len(numbers) >= 3:
        axes[axis] = numbers
    return axes


def _number(label: str) -> float | None:
  try:
    return float(label.removesuffix('%')) / (100 if label.endswith('%') else 1)
  except ValueError:
    return None


def sweep(runs: Sequence[Run], missing: Sequence[str] = ()) -> Sweep:
  """Groups runs into cells, in the order in which cells first come.

  Raises:
    UserError: two runs are the same cell and seed, or runs were asked different questions under one name.
  """
  groups: dict[str, list[Run]] = collections.defaultdict(list)
  for run in runs:
    for other in groups[run.name]:
      if other.seed == run.seed:
        raise UserError(
          f'{other.model_dir!r} and {run.model_dir!r} are both {run.name} with seed {run.seed}; give one of them.'
        )
    groups[run.name].append(run)
  cells = tuple(Cell(name, tuple(sorted(group, key=lambda run: run.seed))) for name, group in groups.items() if group)
  result = Sweep(cells, tuple(missing))
  _refuse_other_questions(result)
  return result


def _refuse_other_questions(sweep: Sweep) -> None:
  first = {name: next(run for run in sweep.runs if name in run.tests) for name in sweep.tests}
  for run in sweep.runs:
    for name, test in run.tests.items():
      mine, other = test, first[name].tests[name]
      if (mine.asked, mine.items, mine.kind, mine.primary.figure) != (
        other.asked,
        other.items,
        other.kind,
        other.primary.figure,
      ):
        raise UserError(
          f'{first[name].model_dir!r} and {run.model_dir!r} were asked different questions in {name} (another corpus, '
          'vocabulary, row length or setting); run unmask evaluate on both with the same settings.'
        )


def flags(sweep: Sweep) -> list[str]:
  """Sentences on what differs between the runs and should not, unless it is an axis of the sweep."""
  axes = {axis for cell in sweep.cells for axis in cell.first.axes}
  said = []
  if alone := [cell.name for cell in sweep.cells if len(cell.runs) == 1]:
    all_of_them = 'Every cell has' if len(alone) == len(sweep.cells) else f'{", ".join(alone)}: there is'
    said.append(
      f'{all_of_them} one seed only, so intervals over seeds are not shown: how much a figure changes from one '
      'training to the next cannot be known from one. What is shown instead, where it can be, is what other questions '
      'would give of the same trained models; it is no evidence that one objective is better than another.'
    )
  shape = lambda run: tuple(run.model.get(name) for name in _SHAPE)
  if 'model' not in axes:
    said += _differs(sweep, shape, 'The models are not of one shape', lambda run: _shape(run))
  for name, words in (('corpus', 'corpora'), ('task', 'tasks'), ('vocabulary', 'vocabularies')):
    if not axes & {'task', 'corpus', 'vocabulary'}:
      said += _differs(sweep, lambda run, name=name: run.model.get(name), f'The runs read different {words}')
  said += _differs(sweep, lambda run: run.model.get('text_length'), 'The runs read rows of different lengths')
  if 'batch_size' not in axes:
    said += _differs(sweep, lambda run: run.model.get('batch_size'), 'The runs have different batch sizes')
  if 'budget' not in axes:
    said += _budgets(sweep)
  said += _differs(sweep, lambda run: _how(run), 'Learning rates were found in different ways')
  said += _seeds(sweep)
  for run in sweep.runs:
    last = max((row['step'] for row in run.rows if 'step' in row), default=run.checkpoint)
    if last > run.checkpoint:
      said.append(f'{run.model_dir} was judged at update {run.checkpoint:,} and trained to {last:,}.')
    if run.broken:
      said.append(f'{run.model_dir} gave no number in {", ".join(run.broken)}, where it is left out: it has diverged.')
  said += _not_asked(sweep)
  if shares := _overlaps(sweep):
    each = '; '.join(f'{title} {share:.1%}' for title, share in shares.items())
    said.append(f'Some questions share long n-grams with the training text ({each}).')
  if sweep.missing:
    many = len(sweep.missing)
    said.append(f'{many} {"cell is" if many == 1 else "cells are"} not in this report: {"; ".join(sweep.missing)}.')
  return said


def _not_asked(sweep: Sweep) -> list[str]:
  """A sentence for each set of cells that were not asked some tests, however many those are."""
  titles: dict[tuple[str, ...], list[str]] = collections.defaultdict(list)
  for name, test in sweep.tests.items():
    titles[tuple(cell.name for cell in sweep.cells if not cell.asked(name))].append(test.title)
  return [
    f'{"; ".join(tests)} {"was" if len(tests) == 1 else "were"} not asked of {", ".join(cells)}.'
    for cells, tests in titles.items()
    if cells
  ]


def _overlaps(sweep: Sweep) -> dict[str, float]:
  """The largest share of questions that overlap with any run's training text, by title, where there is one."""
  shares = {
    test.title: max(run.tests[name].overlap or 0.0 for run in sweep.runs if name in run.tests)
    for name, test in sweep.tests.items()
  }
  return {title: share for title, share in shares.items() if share}


def _differs(sweep: Sweep, key, sentence: str, show=None) -> list[str]:
  """The sentence and who has what, if a fact that runs know differs between them."""
  groups: dict[object, list[Run]] = collections.defaultdict(list)
  for run in sweep.runs:
    if (value := key(run)) is not None:
      groups[value].append(run)
  if len(groups) < 2:
    return []
  names = lambda group: ', '.join(dict.fromkeys(run.name for run in group))
  each = '; '.join(f'{(show or key)(group[0])}: {names(group)}' for group in groups.values())
  return [f'{sentence} ({each}).']


def _budgets(sweep: Sweep) -> list[str]:
  """Where cells state a budget, the budgets; else the tokens read, of which 2 % may differ by where rows end."""
  stated = [run.cell.get('budget') for run in sweep.runs]
  if all(stated):
    key = lambda run: (run.cell['budget'].get('unit'), run.cell['budget'].get('amount'))
    show = lambda run: f'{run.cell["budget"].get("amount"):,.4g} {run.cell["budget"].get("unit")}'
    return _differs(sweep, key, 'The runs have different budgets', show)
  read = [run.done.get('tokens_read', 0) for run in sweep.runs]
  if max(read) > 1.02 * min(read):
    low, high = (sweep.runs[read.index(value)] for value in (min(read), max(read)))
    fewest, most = f'{low.name} {min(read):,.0f}', f'{high.name} {max(read):,.0f}'
    return [f'The runs read different numbers of tokens ({fewest}, {most}).']
  return []


def _seeds(sweep: Sweep) -> list[str]:
  sets = {cell.seeds for cell in sweep.cells}
  if len(sets) < 2:
    return []
  each = '; '.join(f'{cell.name}: {", ".join(map(str, cell.seeds))}' for cell in sweep.cells)
  return [f'The cells were trained with different seeds, and only shared ones are paired ({each}).']


def _how(run: Run) -> str | None:
  return run.cell.get('learning_rate', {}).get('how')


def _shape(run: Run) -> str:
  return f'{run.model.get("num_layers")} layers of {run.model.get("embed_dim")}'
