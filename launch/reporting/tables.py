"""The report's tables, as text with marks; the page and the Markdown file show the same ones."""

import dataclasses
from collections.abc import Callable, Sequence

from . import plots
from .comparing import Cell, Sweep
from .inference import Column, Interval

SYMBOLS = {'best': '▲', 'near': '≈', 'best-questions': '△', 'near-questions': '≈'}
"""Of marks: best, told apart from every other cell; not told apart from the best; the same over questions alone."""

NOTHING = '–'
_MORE = {'exact': 'exact', 'token_top1': 'tokens', 'accuracy': 'accuracy', 'mrr': 'MRR', 'f1': 'F1'}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One field: its text, a mark (see `SYMBOLS`; 'dim' for baselines), smaller lines below, and whether it is home."""

  text: str
  mark: str = ''
  notes: tuple[str, ...] = ()
  home: bool = False

  @property
  def symbol(self) -> str:
    return SYMBOLS.get(self.mark, '')


@dataclasses.dataclass(frozen=True)
class Table:
  """The first field of each row is the row's head."""

  name: str
  title: str
  head: tuple[str, ...]
  rows: tuple[tuple[Entry, ...], ...]
  caption: str = ''


def number(value: float, digits: int) -> str:
  return f'{value:,.{digits}f}'.replace('-', '−')


def spoken(interval: Interval, factor: float) -> tuple[str, tuple[str, ...]]:
  """A figure with its interval over seeds, or without one and a note of what is known instead."""
  half = interval.half * factor
  digits = 1 if factor != 1 else 3
  mean = number(interval.mean * factor, digits)
  if interval.over == 'seeds':
    return f'{mean} ± {number(half, digits)}', ()
  if interval.over == 'questions':
    return mean, (f'questions {number(interval.low * factor, digits)} to {number(interval.high * factor, digits)}',)
  return mean, ()


def results(sweep: Sweep, columns: dict[str, Column], part: str, title: str) -> Table:
  """The judge's figures of one part: a row a cell, a column a test, and what the baseline gives."""
  names = sweep.parts[part]
  rows = []
  for cell in sweep.cells:
    rows.append((Entry(cell.name), Entry(cell.first.sees), *(_result(cell, columns[name], name) for name in names)))
  if any(sweep.tests[name].primary.baseline is not None for name in names):
    said = sorted({sweep.tests[name].primary.baseline_is or 'baseline' for name in names})
    base = [sweep.tests[name].primary for name in names]
    factors = [plots.scale(sweep.tests[name]) for name in names]
    shown = [
      Entry(NOTHING if one.baseline is None else number(one.baseline * factor, 1 if factor != 1 else 2), 'dim')
      for one, factor in zip(base, factors, strict=True)
    ]
    rows.append((Entry(f'baseline ({", ".join(said)})', 'dim'), Entry('nothing', 'dim'), *shown))
  heads = [f'{sweep.tests[name].title}, {_unit(sweep, name)}' for name in names]
  return Table(f'results-{part}', title, ('cell', 'sees', *heads), tuple(rows))


def _unit(sweep: Sweep, name: str) -> str:
  primary = sweep.tests[name].primary
  arrow = '↑' if primary.sign > 0 else '↓'
  return (
    f'{plots.FIGURES.get(primary.figure, primary.figure)} % {arrow}'
    if primary.unit == 'share'
    else f'{primary.unit} {arrow}'
  )


def _result(cell: Cell, column: Column, name: str) -> Entry:
  runs = cell.asked(name)
  if not runs:
    return Entry(NOTHING)
  text, notes = spoken(column.intervals[cell.name], plots.scale(column.test))
  more = []
  for figure, words in _MORE.items():
    values = [run.tests[name].figures[figure] for run in runs if figure in run.tests[name].figures]
    told = figure == 'mrr' and column.test.primary.baseline == 0.5  # of two candidates it follows from the accuracy
    if figure != column.test.primary.figure and not told and len(values) == len(runs):
      more.append(f'{words} {number(100 * sum(values) / len(values), 1)} %')
  mark = column.mark(cell.name)
  if mark and column.over == 'questions':
    mark += '-questions'
  return Entry(text, mark, (*notes, *more), cell.first.is_home(name))


def costs(sweep: Sweep) -> Table:
  """What each cell read, was taught and took: means over seeds."""
  columns: dict[str, Callable[[Cell], str]] = {
    'parameters': lambda cell: _mean(cell, 'parameters', '{:,.0f}'),
    'tokens read': lambda cell: _mean(cell, 'tokens_read', '{:,.0f}'),
    'supervised': lambda cell: _mean(cell, 'tokens_supervised', '{:,.0f}'),
    'a token read': _supervised,
    'model TFLOPs': lambda cell: _mean(cell, 'train_flops', '{:,.4g}', 1e-12),
    'seconds': lambda cell: _mean(cell, 'train_seconds', '{:,.0f}'),
    'tokens/s': lambda cell: _mean(cell, 'tokens_per_second', '{:,.0f}'),
    'MFU': lambda cell: _mean(cell, 'mfu', '{:.1%}'),
    'memory a device': lambda cell: _mean(cell, 'peak_bytes', '{:.2f} GiB', 2**-30),
  }
  known = {head: show for head, show in columns.items() if any(show(cell) != NOTHING for cell in sweep.cells)}
  rows = [(Entry(cell.name), *(Entry(show(cell)) for show in known.values())) for cell in sweep.cells]
  caption = (
    f'{"Means over seeds. " if sweep.averaged else ""}Tokens read are those of the text, without the ids that an '
    'objective adds. Model FLOPs are 6 a parameter and position plus attention, causal attention counted half, the '
    'output head only where something is scored, and nothing for padding. MFU is their rate over the peak of the '
    'devices, of which a CPU’s is measured.'
  )
  return Table('costs', 'Cost', ('cell', *known), tuple(rows), caption)


def _mean(cell: Cell, name: str, form: str, factor: float = 1.0) -> str:
  value = cell.mean(name)
  return NOTHING if value is None else form.format(value * factor)


def _supervised(cell: Cell) -> str:
  read, supervised = cell.mean('tokens_read'), cell.mean('tokens_supervised')
  return f'{supervised / read:.3f}' if read and supervised is not None else NOTHING


def realised(sweep: Sweep) -> Table:
  """What the objectives did to real rows, and in brackets what they were told to do."""
  words = {
    'corrupted': 'corrupted',
    'supervised': 'supervised',
    'masked': 'masked',
    'randomised': 'random',
    'kept': 'kept',
    'untouched': 'untouched segments',
    'rows_dropped': 'rows dropped',
    'padding': 'padding',
    'positions_per_token': 'positions a token',
  }
  shown = {name: head for name, head in words.items() if any(name in cell.first.realised for cell in sweep.cells)}
  rows = []
  for cell in sweep.cells:
    told = cell.first.realised.get('configured', {})
    entries = []
    for name in shown:
      value = cell.first.realised.get(name)
      text = NOTHING if value is None else f'{value:.3f}'
      entries.append(Entry(f'{text} ({told[name]:.3f})' if value is not None and name in told else text))
    rows.append((Entry(cell.name), *entries))
  caption = (
    'Shares counted on the first rows that training reads, of the first seed; in brackets what the objective is '
    'configured to, where that is one number. Masked, random and kept are shares of the corrupted positions.'
  )
  return Table('realised', 'Corruption and supervision', ('cell', *shown.values()), tuple(rows), caption)


def pairs(sweep: Sweep, column: Column) -> Table:
  """All differences of one test with their p-values."""
  factor = plots.scale(column.test)
  digits = 1 if factor != 1 else 3
  p = lambda value: NOTHING if value is None else '< 0.001' if value < 0.001 else f'{value:.3f}'
  rows = []
  for pair in column.pairs:
    one = pair.difference
    interval = f'{number(one.low * factor, digits)} to {number(one.high * factor, digits)}' if one.over else NOTHING
    rows.append(
      (
        Entry(f'{pair.first} − {pair.second}'),
        Entry(number(one.mean * factor, digits), 'best' if pair.found else ''),
        Entry(interval),
        Entry(one.over or NOTHING),
        Entry(p(pair.p_seeds)),
        Entry(p(pair.p_questions)),
        Entry(p(pair.adjusted)),
      )
    )
  head = (
    'difference',
    _unit(sweep, column.test.name),
    '95 % interval',
    'over',
    'p seeds',
    'p questions',
    'p corrected',
  )
  return Table(f'pairs-{column.test.name}', column.test.title, head, tuple(rows))


def markdown(table: Table) -> str:
  """A table in Markdown; marks as symbols, smaller lines in brackets."""
  escape = lambda text: text.replace('|', '\\|').replace('\n', ' ')

  def field(entry: Entry) -> str:
    text = f'**{escape(entry.text)}**' if entry.mark == 'best' else escape(entry.text)
    notes = f' ({escape("; ".join(entry.notes))})' if entry.notes else ''
    return ' '.join(part for part in (text, entry.symbol, '◆' if entry.home else '') if part) + notes

  line = lambda fields: f'| {" | ".join(fields)} |'
  aligned = line([':---', *['---:'] * (len(table.head) - 1)])
  return '\n'.join([line([escape(head) for head in table.head]), aligned, *_lines(table.rows, field, line)])


def _lines(rows: Sequence[Sequence[Entry]], field: Callable, line: Callable) -> list[str]:
  return [line([field(entry) for entry in row]) for row in rows]
