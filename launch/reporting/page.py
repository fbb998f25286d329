"""The report as one HTML page that needs nothing else, and as Markdown; both say the same."""

import base64
import dataclasses
import datetime
import importlib.resources
from collections.abc import Sequence

import jinja2

from ... import __version__
from . import comparing, inference, resampling, tables, words
from .comparing import Sweep
from .inference import Column
from .plots import Plot
from .tables import Table

LEGEND = {
  'best': 'best, and told apart from every other cell',
  'near': 'among the best: the one ahead, or not told apart from it',
  'best-questions': 'best of these trained models on other questions too; other seeds may differ',
  'near-questions': 'among the best of these trained models; other seeds may differ',
}


@dataclasses.dataclass(frozen=True)
class Part:
  """Tests of one kind: their table and their figures."""

  name: str
  title: str
  table: Table
  plots: tuple[Plot, ...]


@dataclasses.dataclass(frozen=True)
class Content:
  """All that the page and the Markdown file show."""

  sweep: Sweep
  columns: dict[str, Column]
  parts: tuple[Part, ...]
  axes: tuple[Plot, ...]
  curves: tuple[Plot, ...]

  @property
  def plots(self) -> list[Plot]:
    return [*(plot for part in self.parts for plot in part.plots), *self.axes, *self.curves]

  @property
  def pairs(self) -> list[Table]:
    return [tables.pairs(self.sweep, column) for column in self.columns.values() if column.pairs]

  def facts(self) -> dict:
    """What the template is filled with."""
    sweep = self.sweep
    marks = {field.mark for part in self.parts for row in part.table.rows for field in row}
    name = next((run.cell['sweep'] for run in sweep.runs if run.cell.get('sweep')), None)
    flags = comparing.flags(sweep)
    sections = {
      'flags': 'Read this first' if flags else '',
      'findings': 'What was found',
      'run': 'What was run',
      'results': 'Results',
      'axes': 'Along the axes' if self.axes else '',
      'curves': 'How each learned',
      'cost': 'What it cost',
      'threats': 'Threats to validity',
      'statistics': 'Statistics',
      'configurations': 'Configurations',
    }
    return {
      'title': f'unmask report: {name}' if name else 'unmask report',
      'lead': _lead(sweep),
      'contents': [(anchor, head) for anchor, head in sections.items() if head],
      'flags': flags,
      'findings': words.findings(sweep, self.columns),
      'how': HOW,
      'facts': words.what_was_run(sweep),
      'reading': _reading(sweep),
      'legend': LEGEND,
      'symbols': tables.SYMBOLS,
      'marks': marks,
      'parts': self.parts,
      'axes': self.axes,
      'curves': self.curves,
      'costs': tables.costs(sweep),
      'realised': tables.realised(sweep),
      'threats': words.threats(sweep, self.columns),
      'statistics': STATISTICS,
      'pairs': self.pairs,
      'runs': sweep.runs,
      'version': __version__,
      'made': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d'),
    }


HOW = (
  'A cell is called best only where every other cell is told apart from it: by a paired t-test over seeds and by a '
  'bootstrap over questions, both, at 5 % after a correction over all pairs of cells of the test.'
)
STATISTICS = (
  'Intervals of a cell are Student’s t over its seeds, 95 %: they say where the mean of further trainings would lie, '
  'judged by the same questions. A cell with one seed has none; what is shown for it instead is a bootstrap over '
  'questions, which says what other questions would give of the same trained model.',
  'Two cells are compared by the difference of their primary figures. Over seeds: a paired t-test, seed by seed, since '
  f'runs of one seed read the same rows in the same order; it needs {inference.MIN_SEEDS} seeds. Over questions: '
  f'{resampling.DRAWS:,} draws of clusters of questions, the same for both cells, and of seeds where there are '
  'several, independently (Owen’s pigeonhole bootstrap); questions about one text are one cluster. The p-value of a '
  'pair is the larger of the two, so a difference is found only if neither other seeds nor other questions are likely '
  'to undo it. Intervals that do not overlap are no test: pairs share seeds and questions, and there are many pairs.',
  'P-values are adjusted by Holm’s method with Shaffer’s factors over all pairs of cells within a test, and not only '
  'over those with the best: which cell is best is read from the same figures, and comparing with it alone would find '
  'differences that are not there in up to one column in nine. Between tests nothing is corrected.',
)


def _lead(sweep: Sweep) -> str:
  cells, runs = len(sweep.cells), len(sweep.runs)
  seeds = sorted({len(cell.runs) for cell in sweep.cells})
  each = f'{seeds[0]}' if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'
  many = 'seed' if seeds[-1] == 1 else 'seeds'
  return (
    f'{cells} {"cell" if cells == 1 else "cells"} with {each} {many} each, {runs} {"run" if runs == 1 else "runs"}, '
    f'judged by {len(sweep.tests)} tests of held-out questions, the same for all.'
  )


def _reading(sweep: Sweep) -> str:
  interval = 'each figure is of one trained model, so there is no ± (see above).'
  if sweep.averaged:
    fewest = min(len(cell.runs) for cell in sweep.cells)
    alone = '' if fewest > 1 else '; a cell with one seed has none (see above)'
    interval = f'figures are means over seeds, and ± is the 95 % interval over seeds (Student t){alone}.'
  return (
    f'Losses are in nats a token, all else in per cent; ↓ lower is better, ↑ higher is better; {interval} Each '
    'model answers through its own scorer: what it may see stands in the second column.'
  )


def html(content: Content) -> str:
  """The whole page."""
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
  environment.filters['base64'] = _base64
  return environment.from_string(_file('page.html')).render(content.facts(), style=_file('page.css'))


def _base64(data: bytes) -> str:
  return base64.b64encode(data).decode()


def _file(name: str) -> str:
  return importlib.resources.files(__package__ or '').joinpath(name).read_text(encoding='utf-8')


def markdown(content: Content) -> str:
  """The same as the page, but for the configurations and the tables of all pairs."""
  facts = content.facts()
  lines = [f'# {facts["title"]}', facts['lead']]
  if facts['flags']:
    lines += ['## Read this first', _list(facts['flags'])]
  said = lambda pairs: _list([f'**{head}**: {sentence}' for head, sentence in pairs])
  lines += ['## What was found', said(facts['findings']), HOW, '## What was run', said(facts['facts'])]
  marks = '; '.join(f'{tables.SYMBOLS[mark]} {LEGEND[mark]}' for mark in LEGEND if mark in facts['marks'])
  home = '◆ the form in which the objective was trained'
  lines += ['## Results', facts['reading'], f'{marks}; {home}.' if marks else f'{home}.']
  for part in content.parts:
    lines += [f'### {part.title}', tables.markdown(part.table), *_figures(part.plots)]
  if content.axes:
    lines += ['## Along the axes of the sweep', *_figures(content.axes)]
  lines += ['## How each learned', *_figures(content.curves), '## What it cost']
  for table in (facts['costs'], facts['realised']):
    lines += [f'### {table.title}', tables.markdown(table), table.caption]
  lines += ['## Threats to validity', said(facts['threats']), '## How differences were tested', *STATISTICS]
  return '\n\n'.join(line for line in lines if line) + '\n'


def _list(sentences: Sequence[str]) -> str:
  return '\n'.join(f'- {sentence}' for sentence in sentences)


def _figures(plots: Sequence[Plot]) -> list[str]:
  return [
    part
    for plot in plots
    for part in (f'![{plot.alt.replace("]", ")")}](figures/{plot.name}.png)', f'*{plot.title}.* {plot.caption}')
  ]


def summary(content: Content) -> str:
  """The tables alone, for the terminal."""
  return '\n\n'.join(f'{part.title}\n\n{tables.markdown(part.table)}' for part in content.parts)
