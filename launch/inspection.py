"""Showing what an objective does to real rows: one row in colour, and counts over a thousand."""

import re

import numpy as np
import rich.console
import rich.table
import rich.terminal_theme
import rich.text

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives import preprocessor
from ..objectives.attention import AttentionSpec
from ..objectives.base import Objective
from ..tasks import vocabularies
from ..tasks.pipeline import Pipeline, Source
from ..tasks.units import annotate
from . import config, frozen, leaks, program, realised

_READS = {
  'masked': 'bold white on dark_red',
  'other': 'bold black on yellow',
  'kept': 'bold black on green',
  'moved': 'bold white on dark_blue',
}
_PREDICTS = 'bold black on cyan'
_FIGURES = {
  'corrupted': 'input positions masked, replaced, kept on purpose or moved, a text token',
  'supervised': 'positions with weight, a text token',
  'masked': 'corrupted positions that hold [MASK]',
  'randomised': 'corrupted positions that hold a random token',
  'kept': 'corrupted positions that hold their own token',
  'untouched': 'documents of a row in which nothing is corrupted',
  'rows_dropped': 'rows without an example of this objective',
  'padding': "share of the model's positions",
  'positions_per_token': 'model positions a text token takes',
}


def inspect(
  *,
  objective: Objective,
  model: DecoderConfig,
  pipeline: Pipeline,
  row: int = 0,
  num_rows: int = 1000,
  split: str = 'train',
  svg: str | None = None,
) -> None:
  """Prints one row under an objective, and the realised shares over `num_rows` rows.

  Args:
    objective: what to show.
    model: of which FLOPs are counted; its vocab_size None takes the vocabulary's.
    pipeline: where the rows come from.
    row: which of the rows that hold an example.
    num_rows: rows to count; 0 leaves the shares out.
    split: 'train' or 'validation'.
    svg: a file into which the same is drawn.
  """
  config.refuse_unused()
  objective.check(pipeline.text_length)
  source = pipeline.open(say=lambda line: None)
  leaks.check(objective, source)
  shown = next(iter(source.corrupted(objective, split).skip(row).take(1).as_numpy_iterator()), None)
  if shown is None:
    raise UserError(f'The {split} split has no row number {row} that holds an example of {type(objective).__name__}.')
  console = rich.console.Console(highlight=False, record=bool(svg))
  reader = objective.reader(shown)
  name, task = type(reader).__name__, source.config.mixture_or_task_name
  of = '' if reader is objective else f', a part of {type(objective).__name__},'
  predicted = 'i + 1' if reader.shift else 'i'
  console.print(f'[bold]{name}[/]{of} on row {int(shown["example_id"])} of {task} ({split})')
  console.print(f'attention: {reader.attention.kind} inside segments; output i predicts token {predicted}')
  if reader.on_the_device:
    console.print(f'on the device {reader.on_the_device}')
  for part in (
    _text(source, reader, shown),
    reads(source, shown),
    predicts(source, shown),
    _sees(reader, shown),
    *([_shares(source, objective, model, num_rows, split)] if num_rows else []),
  ):
    console.print()
    console.print(part)
  if svg:
    draw(console, name, svg)


def draw(console: rich.console.Console, title: str, path: str) -> None:
  """Writes what a recording console has printed as an SVG file that needs no network for its letters."""
  drawn = console.export_svg(title=title, theme=rich.terminal_theme.SVG_EXPORT_THEME)
  with open(path, 'w', encoding='utf-8') as file:
    file.write(re.sub(r'@font-face \{.*?\}\s*', '', drawn, flags=re.DOTALL))


def _text(source: Source, objective: Objective, row: dict[str, np.ndarray]) -> rich.text.Text:
  """The clean text, its units underlined where the objective masks units."""
  text = rich.text.Text('text     ', style='bold')
  ids = _unit_ids(source, objective, row)
  for i, token in enumerate(row['targets']):
    if row['segment_ids'][i]:
      if ids[i] and i and ids[i] != ids[i - 1]:
        text.append('\u00b7', style='dim')
      text.append(
        vocabularies.token_name(source.vocabulary, int(token)), style='underline not bold' if ids[i] else 'not bold'
      )
  if objective.units:
    text.append('\n         underlined: what may be masked together, divided by dots', style='dim')
  return text


def _unit_ids(source: Source, objective: Objective, row: dict[str, np.ndarray]) -> np.ndarray:
  """The units of this row in this epoch, int32 [text_length]; 0 where there is none, or the objective knows none."""
  if not objective.units:
    return np.zeros_like(row['targets'])
  rows = {name: np.asarray(value)[None] for name, value in row.items()}
  seeds = preprocessor.seeds_of_rows(objective, rows, source.config.seed)
  starts = objective.unit_starts(rows, seeds, source.special)
  return np.zeros_like(row['targets']) if starts is None else 1 + np.asarray(starts)[0]


def reads(source: Source, row: dict[str, np.ndarray]) -> rich.text.Text:
  """What the model reads, coloured by what was done to it."""
  text = rich.text.Text('reads    ', style='bold')
  special = source.special
  inputs, same_length = row['decoder_input_tokens'], len(row['decoder_input_tokens']) == len(row['targets'])
  for i, token in enumerate(inputs):
    if not row['decoder_segment_ids'][i]:
      continue
    style = 'not bold'
    if row['corrupted'][i]:
      if token == special.mask or token in special.sentinels or token == special.end_of_span:
        style = _READS['masked']
      elif not same_length:
        style = _READS['moved']
      else:
        style = _READS['kept'] if token == row['targets'][i] else _READS['other']
    text.append(vocabularies.token_name(source.vocabulary, int(token)), style=style)
  text.append('\n         ')
  for name, style in _READS.items():
    text.append(f' {name} ', style=style)
    text.append(' ')
  return text


def predicts(source: Source, row: dict[str, np.ndarray]) -> rich.text.Text:
  """What the model must predict: targets with weight in colour, the others dim."""
  text = rich.text.Text('predicts ', style='bold')
  for i, token in enumerate(row['decoder_target_tokens']):
    if not row['decoder_segment_ids'][i]:
      continue
    weight = row['decoder_loss_weights'][i]
    name = vocabularies.token_name(source.vocabulary, int(token)) if weight or token else ' '
    text.append(name if weight else '\u00b7', style=_PREDICTS if weight else 'dim')
  text.append('\n         ')
  text.append(' weight > 0 ', style=_PREDICTS)
  text.append(' \u00b7 weight 0', style='dim')
  return text


def _sees(objective: Objective, row: dict[str, np.ndarray], size: int = 16) -> rich.text.Text:
  """Who may see whom among some positions, around the first prefix's or group's end if there is one."""
  first = 0
  if objective.attention.levels:
    first = max(0, int((row['decoder_causal_attention'] == 0).argmax()) - size // 2)
  elif objective.attention.table is not None:
    first = max(0, int((row['decoder_groups'] > 0).argmax()) - size // 2)
  here = slice(first, first + size)
  segments = row['decoder_segment_ids'][here]
  which = f'positions {first} to {first + len(segments) - 1}'
  text = rich.text.Text(f'sees     ({which}; a line is what one position may look at)\n', style='bold')
  if said := _by_layer(objective.attention):
    text.append(f'         {said}\n', style='not bold')
  ordered = (
    objective.attention.ordered_in(0, 1)
    if isinstance(objective.attention.ordered, bool)
    else objective.attention.always_ordered
  )
  levels = row['decoder_positions'][here] // objective.attention.block
  if objective.attention.levels:
    levels = row['decoder_levels'][here]
  allowed = (segments[:, None] == segments[None]) & (segments > 0)[:, None]
  allowed &= (levels[None] <= levels[:, None]) | (not ordered)
  if objective.attention.table is not None:
    groups = row['decoder_groups'][here]
    allowed &= np.array(objective.attention.table)[groups[:, None], groups[None]]
  allowed |= np.eye(len(segments), dtype=bool) & (segments > 0)
  for line in allowed:
    text.append('         ' + ''.join('\u2588' if seen else '\u00b7' for seen in line) + '\n', style='not bold')
  return text


def _by_layer(rule: AttentionSpec) -> str:
  """In words, where layers differ; '' where they do not."""
  if isinstance(rule.ordered, bool) or len(set(rule.ordered)) == 1:
    return ''
  groups = ', '.join('causal' if ordered else 'both sides' for ordered in rule.ordered)
  return f'by layer, in groups from the bottom up: {groups}; shown is what those of both sides see'


def _shares(source: Source, objective: Objective, model: DecoderConfig, num_rows: int, split: str) -> rich.table.Table:
  """Realised against configured, and what a token costs."""
  shares = realised.shares(source, objective, num_rows, split)
  told = objective.configured()
  table = rich.table.Table(title=f'over {shares["rows"]} rows of {source.config.text_length} tokens')
  for column in ('figure', 'realised', 'configured'):
    table.add_column(column, justify='left' if column == 'figure' else 'right')
  table.add_column('what it is')
  for name, meaning in _FIGURES.items():
    if name in shares:
      configured = f'{told[name]:.4f}' if name in told else ''
      table.add_row(name.replace('_', ' '), f'{shares[name]:.4f}', configured, meaning)
  decoder = f'{model.num_layers} layers of {model.embed_dim}'
  cost = _token_flops(source, objective, model)
  table.add_row('training FLOPs per token', '', cost, f'model FLOPs of an update, a text token; {decoder}')
  if objective.units:
    table.caption = f'units: {", ".join(objective.units)} of {", ".join(annotate.UNIT_FEATURES)}'
  return table


def _token_flops(source: Source, objective: Objective, model: DecoderConfig) -> str:
  """In millions; '?' where the shape of a network that another run trains is not known."""
  try:
    objective = frozen.settled(objective)
  except UserError:
    return '?'
  model = model.with_vocabulary(source.vocabulary.vocab_size)
  return f'{program.token_flops(model, objective, source.config.text_length) / 1e6:.3f} M'
