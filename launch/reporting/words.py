"""What the report says in sentences: what was run, what was found, and what stands against believing it."""

from collections.abc import Sequence

from . import plots, tables
from .comparing import Cell, Sweep
from .inference import MIN_SEEDS, Column, smallest_found

PARTS = {
  'held_out': 'Held-out text',
  'infill': 'Infilling',
  'cloze': 'Entities and collocations',
  'retrieval': 'Retrieval',
  'grammar': 'Grammar',
  'tracking': 'Entity tracking',
  'prompts': 'Held-out prompts',
  'vectors': 'Vectors of texts',
  'probes': 'Fine-tuning probes',
}
_GENERATED = ('retrieval', 'tracking')
_SMALL_PARAMETERS = 100e6


def part(name: str) -> str:
  return PARTS.get(name, plots.label(name).capitalize())


def _join(names: Sequence[str]) -> str:
  return f'{", ".join(names[:-1])} and {names[-1]}' if len(names) > 1 else ''.join(names)


def _each(sweep: Sweep, value, show=str) -> str:
  """A value if all runs have the same, else who has which; '' if nobody knows."""
  groups: dict[str, list[str]] = {}
  for run in sweep.runs:
    if (found := value(run)) is not None:
      groups.setdefault(show(found), []).append(run.name)
  if len(groups) < 2:
    return ''.join(groups)
  return '; '.join(f'{said} ({", ".join(dict.fromkeys(names))})' for said, names in groups.items())


def what_was_run(sweep: Sweep) -> list[tuple[str, str]]:
  """Heads and facts; facts that nobody knows are left out."""
  shape = lambda run: (
    f'{run.model["num_layers"]} layers of {run.model["embed_dim"]}, {run.model["num_heads"]} heads, '
    f'MLP {run.model["mlp_dim"]}, {run.done.get("parameters", 0):,} parameters'
    if {'num_layers', 'embed_dim', 'num_heads', 'mlp_dim'} <= run.model.keys()
    else None
  )
  vocabulary = lambda run: f'{run.model["vocab_size"]:,} ids' if run.model.get('vocab_size') else None
  print_of = lambda run: str(run.model['vocabulary'])[:16] if run.model.get('vocabulary') else None
  length, batch = (lambda run: run.model.get('text_length')), (lambda run: run.model.get('batch_size'))
  budget = lambda run: _budget(run.cell.get('budget'))
  read = [run.done.get('tokens_read', 0) for run in sweep.runs]
  seeds = {cell.seeds for cell in sweep.cells}
  print_ids = _each(sweep, print_of)
  facts = {
    'Sweep': _each(sweep, lambda run: run.cell.get('sweep')),
    'Cells': f'{len(sweep.cells)}, {len(sweep.runs)} runs; axes: {_axes(sweep)}',
    'Seeds': _join([str(seed) for seed in next(iter(seeds))]) if len(seeds) == 1 else 'differ, see below',
    'Corpus': _each(sweep, lambda run: run.model.get('corpus') or run.model.get('task')),
    'Vocabulary': _each(sweep, vocabulary) + (f', fingerprint {print_ids}' if print_ids else ''),
    'Model': _each(sweep, shape),
    'Rows': _each(sweep, length, lambda n: f'{n:,} tokens') + _prefixed(', batches of ', _each(sweep, batch)),
    'Budget': _each(sweep, budget) or 'no budget was stated',
    'Tokens read': f'{min(read):,.0f}' if min(read) == max(read) else f'{min(read):,.0f} to {max(read):,.0f}',
    'Learning rate': _each(sweep, learning_rate),
    'Trained on': _each(sweep, _devices),
    'Versions': _each(sweep, lambda run: _versions(run.environment)),
    'Begun': _dates(sweep),
    'Judged': _each(sweep, lambda run: run.checkpoint, lambda step: f'checkpoint of update {step:,}'),
    'Questions': '; '.join(f'{test.title} {test.items:,}' for test in sweep.tests.values()),
  }
  return [(head, fact) for head, fact in facts.items() if fact]


def _prefixed(prefix: str, text: str) -> str:
  return prefix + text if text else ''


def _axes(sweep: Sweep) -> str:
  labels: dict[str, list[str]] = {}
  for cell in sweep.cells:
    for axis, label in cell.first.axes.items():
      if label not in labels.setdefault(axis, []):
        labels[axis].append(label)
  return '; '.join(f'{plots.label(axis)} ({", ".join(found)})' for axis, found in labels.items()) or 'none'


def _budget(budget: dict | None) -> str | None:
  if not budget:
    return None
  amount = f'{budget.get("amount", 0):,.4g}' if budget.get('unit') == 'flops' else f'{budget.get("amount", 0):,.0f}'
  return f'{amount} {"FLOPs" if budget.get("unit") == "flops" else budget.get("unit")} a run'


def learning_rate(run) -> str | None:
  """Its value and how it was found."""
  said = run.cell.get('learning_rate')
  if not said:
    value = run.binding('LEARNING_RATE')
    return f'{value}, set by hand' if value else None
  if said.get('how') != 'tuned':
    return f'{said.get("value")}, shared by choice'
  tried = ', '.join(str(rate) for rate in said.get('over', {}))
  edge = said.get('over') and str(said.get('value')) in (min(said['over'], key=float), max(said['over'], key=float))
  at = ', the edge of what was tried' if edge else ''
  return f'{said.get("value")}, tuned by {said.get("by", "held-out loss")} over {tried}{at}'


def _devices(run) -> str | None:
  facts = run.environment
  if not facts:
    return None
  many = f' by {facts["processes"]} processes' if facts.get('processes', 1) > 1 else ''
  return f'{facts.get("devices")} × {facts.get("device")}{many} ({facts.get("host")})'


def _versions(environment: dict) -> str | None:
  if not environment:
    return None
  packages = ', '.join(f'{name} {version}' for name, version in environment.get('versions', {}).items())
  return f'Python {environment.get("python")}, {packages}'


def _dates(sweep: Sweep) -> str:
  dates = sorted(run.environment['date'] for run in sweep.runs if 'date' in run.environment)
  return '' if not dates else dates[0] if dates[0] == dates[-1] else f'{dates[0]} to {dates[-1]}'


def findings(sweep: Sweep, columns: dict[str, Column]) -> list[tuple[str, str]]:
  """For each test, who is best, by how much, and who cannot be told from it."""
  said = []
  for column in columns.values():
    factor = plots.scale(column.test)
    unit = ' %' if factor != 1 else f' {column.test.primary.unit}'
    figure = tables.spoken(column.intervals[column.leader], factor)[0] + unit
    others = [cell for cell in column.intervals if cell != column.leader]
    if not others:
      sentence = f'{figure} ({column.leader}, the only cell that was asked).'
    elif column.over is None:
      sentence = f'{column.leader} comes out first with {figure}; there are too few seeds or questions to test that.'
    elif not column.near:
      second = max(others, key=lambda cell: column.test.primary.sign * column.intervals[cell].mean)
      gap = abs(column.intervals[second].mean - column.intervals[column.leader].mean) * factor
      points = ' points' if factor != 1 else ''
      best = (
        f'The model of {column.leader} is best with {figure}, told apart from every other model over questions alone; '
        if column.over == 'questions'
        else f'{column.leader} is best with {figure}, told apart from every other cell; '
      )
      sentence = f'{best}{second} follows {tables.number(gap, 1 if factor != 1 else 3)}{points} behind.'
    elif len(column.near) == len(others):
      sentence = f'{column.leader} comes out first with {figure}, but no other cell is told apart from it.'
    else:
      sentence = f'{column.leader} comes out first with {figure}; not told apart from it: {_join(list(column.near))}.'
    if column.over == 'questions' and column.near:
      sentence += ' Tested over questions alone.'
    elif column.over == 'seeds' and others:
      sentence += ' Tested over seeds alone: there are too few questions, or the figure is no mean over them.'
    said.append((column.test.title, sentence + _floor(column)))
  return said


def _floor(column: Column) -> str:
  """A warning where the best model is no better than its baseline."""
  base, best = column.test.primary.baseline, column.intervals[column.leader]
  if base is None:
    return ''
  sign = column.test.primary.sign
  edge = (best.low if sign > 0 else best.high) if best.over else best.mean
  if sign * (edge - base) > 0:
    return ''
  return f' Nobody is shown to do better than {column.test.primary.baseline_is or "the baseline"} here.'


def threats(sweep: Sweep, columns: dict[str, Column]) -> list[tuple[str, str]]:
  """What stands against believing the figures or carrying them further, made from the facts of these runs."""
  said = [('Seeds', _seeds(sweep)), ('Scale', _scale(sweep)), ('Budget', _budget_threat(sweep))]
  said += [('Learning rate', _rates(sweep)), ('What a model may see', _sees(sweep)), ('Home tests', _homes(sweep))]
  overlaps = [test.overlap for run in sweep.runs for test in run.tests.values()]
  if all(overlap is None for overlap in overlaps):
    said.append(('Overlap', 'Nobody looked whether the questions share text with the training rows.'))
  elif any(overlaps):
    said.append(('Overlap', 'Some questions share long n-grams with the training text; the shares are stated above.'))
  generated = [sweep.tests[name].title for one in _GENERATED for name in sweep.parts.get(one, [])]
  if generated:
    said.append(
      (
        'Generated tests',
        f'{_join(generated)} {"is" if len(generated) == 1 else "are"} made by generators of this project after '
        'published forms; the figures cannot be held against those of the published sets.',
      )
    )
  if dropped := [cell for cell in sweep.cells if cell.first.realised.get('rows_dropped', 0) > 0.001]:
    each = _join([f'{cell.name} ({cell.first.realised["rows_dropped"]:.0%})' for cell in dropped])
    said.append(('Rows', f'Rows that hold no example of an objective are left out for it: {each}.'))
  if len(columns) > 1:
    said.append(
      (
        'Many tests',
        f'P-values are corrected within a test, over all pairs of cells, and not over the {len(columns)} tests: among '
        'twenty tests without any difference, about one shows one.',
      )
    )
  if len({_devices(run) for run in sweep.runs if run.environment}) > 1:
    said.append(('Speed', 'The runs were trained on different devices: seconds, tokens/s and MFU do not compare.'))
  return [(head, sentence) for head, sentence in said if sentence]


def _seeds(sweep: Sweep) -> str:
  fewest = min(len(cell.runs) for cell in sweep.cells)
  if fewest == 1:
    return (
      'At least one cell was trained once, so how much a figure changes from one training to the next is not known: '
      'intervals over seeds are not shown for it. Intervals over questions say what other questions would give of the '
      'same trained model, which is less.'
    )
  if fewest < MIN_SEEDS:
    return (
      'Two seeds: an interval has one degree of freedom and is 12.7 standard errors wide to each side, and no '
      'difference is tested or marked. Three seeds are the least.'
    )
  least = smallest_found(fewest, len(sweep.cells)) if len(sweep.cells) > 1 else 0.0
  few = (
    f' With {fewest} seeds and {len(sweep.cells)} cells, the first difference that is found must be {least:.1f} times '
    'the standard deviation of the differences over seeds: what is not told apart may well differ.'
    if least
    else ''
  )
  return (
    f'{fewest} seeds a cell. A seed sets initial weights, order of rows and corruption together; corpus, split and '
    f'vocabulary are the same in all, so intervals say nothing about other corpora.{few}'
  )


def _scale(sweep: Sweep) -> str:
  most = max(run.done.get('parameters', 0) for run in sweep.runs)
  read = max(run.done.get('tokens_read', 0) for run in sweep.runs)
  if not most or most >= _SMALL_PARAMETERS:
    return ''
  return (
    f'The models are small ({most / 1e6:,.1f} million parameters) and read little ({read / 1e6:,.1f} million tokens). '
    'Which objective is ahead can change with size and with training; the papers’ results are of models of 100 million '
    'parameters and more.'
  )


def _budget_threat(sweep: Sweep) -> str:
  flops = [run.done['train_flops'] for run in sweep.runs if run.done.get('train_flops')]
  share = lambda cell: (cell.mean('tokens_supervised') or 0) / max(1.0, cell.mean('tokens_read') or 0)
  low, high = (pick(sweep.cells, key=share) for pick in (min, max))
  sentence = ''
  if share(high) > 1.2 * share(low):
    sentence = (
      f'Of the tokens read, {low.name} is taught {share(low):.0%} and {high.name} {share(high):.0%}: an equal number '
      'of tokens is not an equal number of lessons. '
    )
  if flops and max(flops) > 1.05 * min(flops):
    sentence += f'Model FLOPs differ by a factor of {max(flops) / min(flops):.2f} between runs.'
  return sentence.strip()


def _rates(sweep: Sweep) -> str:
  how = {run.cell.get('learning_rate', {}).get('how') for run in sweep.runs}
  if how == {'tuned'}:
    return (
      'Tuned for each objective by a small search on a short run; the best rate of a longer run may be another. '
      'The other settings of the optimizer are shared.'
    )
  if 'tuned' in how:
    return 'Tuned for some cells and not for others, which favours the tuned.'
  return (
    'One for all cells, not tuned for each: objectives differ in the rate that suits them, so a part of a difference '
    'may be the rate’s.'
  )


def _sees(sweep: Sweep) -> str:
  groups: dict[str, list[Cell]] = {}
  for cell in sweep.cells:
    groups.setdefault(cell.first.sees, []).append(cell)
  if len(groups) < 2:
    return ''
  each = '; '.join(f'{sees}: {_join([cell.name for cell in cells])}' for sees, cells in groups.items())
  return (
    f'Each objective answers through its own scorer ({each}). Who sees both sides of a gap has the easier question, '
    'and a scorer that is told how long the gap is has an easier one than a scorer that must also end it. So a row '
    'says what a model can do, and not only what it knows.'
  )


def _homes(sweep: Sweep) -> str:
  homes = {
    cell.name: [sweep.tests[name].title for name in sweep.tests if cell.first.is_home(name)] for cell in sweep.cells
  }
  each = '; '.join(f'{name}: {", ".join(titles)}' for name, titles in homes.items() if titles)
  return f'A test in the form of the training favours who was trained so ({each}).' if each else ''
