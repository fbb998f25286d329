"""What an objective really does to rows, counted, against what it was told to do."""

import collections
from typing import Any

import numpy as np

from .. import UserError
from ..objectives.base import Objective
from ..objectives.parts import PARTS
from ..objectives.preprocessor import graph
from ..tasks.pipeline import Source


def shares(source: Source, objective: Objective, num_rows: int = 1000, split: str = 'train') -> dict[str, Any]:
  """Counts over the first rows that training (or evaluation) reads; UserError if none of them holds an example.

  Returns:
    'rows' looked at and 'rows_dropped', the share that holds no example;
    'corrupted' and 'supervised', shares of the kept rows' text tokens;
    'masked', 'randomised' and 'kept', shares of the corrupted positions, where inputs stay in place;
    'untouched', the share of segments in which nothing is corrupted;
    'padding', a share of the model's positions, and 'positions_per_token', what a text token takes;
    of a mixture 'parts', by name the same of the rows that each part read, without 'rows_dropped'.
  """
  keeps_all = type(objective).keep is Objective.keep
  rows, dropped = (num_rows, 0) if keeps_all else _rows_and_dropped(source, objective, split, num_rows)
  if dropped == rows:
    raise UserError(
      f'None of the first {rows} rows of the {split} split holds an example of {type(objective).__name__}: '
      'the text has no unit it could mask. Use another corpus or objective.'
    )
  counts: collections.Counter[str] = collections.Counter()
  names = [name for name in objective.by_part if name]
  parts = {name: collections.Counter() for name in names}
  for block in source.corrupted(objective, split).take(rows - dropped).batch(64).as_numpy_iterator():
    counts.update(_count(block, source.special.mask))
    for number, name in enumerate(names):
      mine = block[PARTS][:, 0] == number
      parts[name].update(_count({key: value[mine] for key, value in block.items()}, source.special.mask))
  rows = dropped + counts['kept_rows']
  found = {'rows': rows, 'rows_dropped': dropped / rows} | _shares(counts)
  read = {name: {'rows': one['kept_rows']} | _shares(one) for name, one in parts.items() if one['kept_rows']}
  return found | ({'parts': read} if read else {})


def _shares(counts: collections.Counter[str]) -> dict[str, float]:
  share = lambda name, of: counts[name] / max(1, counts[of])
  result = {
    'corrupted': share('corrupted', 'text'),
    'supervised': share('supervised', 'text'),
    'untouched': share('untouched', 'segments'),
    'padding': 1 - share('real', 'positions'),
    'positions_per_token': share('positions', 'text'),
  }
  in_place = counts['in_place'] == counts['kept_rows'] and counts['corrupted']
  return result | ({name: share(name, 'corrupted') for name in ('masked', 'randomised', 'kept')} if in_place else {})


def surprises(shares: dict[str, Any], objective: Objective) -> list[str]:
  """A line for each realised figure that is far from what the objective was told: by 0.02 and a tenth of it."""
  told = objective.configured()
  return [
    f'note: {name} is {shares[name]:.3f} of what {type(objective).__name__} reads here, configured {value:.3f}'
    for name, value in told.items()
    if name in shares and abs(shares[name] - value) > max(0.02, 0.1 * value)
  ]


def _rows_and_dropped(source: Source, objective: Objective, split: str, num_rows: int) -> tuple[int, int]:
  """How many rows there are, up to `num_rows`, and how many of them hold no example."""
  stream = source.stream(split, objective, drop=False).take(num_rows).batch(64)
  blocks = stream.map(graph(lambda block: objective.keep(block, source.special)))
  kept = [keep for block in blocks.as_numpy_iterator() for keep in block]
  return len(kept), len(kept) - int(sum(kept))


def _count(block: dict[str, np.ndarray], mask: int) -> dict[str, int]:
  """Of a block of rows, features [rows, length] each."""
  corrupted, inputs = block['corrupted'] > 0, block['decoder_input_tokens']
  segments = block['decoder_segment_ids']
  number = np.arange(len(segments))[:, None] * (1 + segments.max(initial=0)) + segments  # another in every row
  counts = {
    'kept_rows': len(segments),
    'text': np.count_nonzero(block['segment_ids']),
    'corrupted': np.count_nonzero(corrupted),
    'supervised': np.count_nonzero(block['decoder_loss_weights']),
    'positions': inputs.size,
    'real': np.count_nonzero(segments),
    'segments': segments.max(axis=1, initial=0).sum(),
    'untouched': np.setdiff1d(number[segments > 0], number[corrupted]).size,
  }
  if np.array_equal(segments, block['segment_ids']):
    masked, same = inputs[corrupted] == mask, inputs[corrupted] == block['targets'][corrupted]
    counts |= {'masked': masked.sum(), 'kept': same.sum(), 'randomised': (~masked & ~same).sum()}
    counts |= {'in_place': len(segments)}
  return {name: int(value) for name, value in counts.items()}
