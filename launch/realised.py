"""What an objective really does to rows, counted, against what it was told to do."""

import collections
from typing import Any

import numpy as np

from .. import UserError
from ..objectives.base import Objective
from ..tasks.pipeline import Source


def shares(source: Source, objective: Objective, num_rows: int = 1000, split: str = 'train') -> dict[str, float]:
  """Counts over the first rows that training (or evaluation) reads; UserError if none of them holds an example.

  Returns:
    'rows' looked at and 'rows_dropped', the share that holds no example;
    'corrupted' and 'supervised', shares of the kept rows' text tokens;
    'masked', 'randomised' and 'kept', shares of the corrupted positions, where inputs stay in place;
    'untouched', the share of segments in which nothing is corrupted;
    'padding', a share of the model's positions, and 'positions_per_token', what a text token takes.
  """
  rows = sum(1 for _ in source.stream(split).take(num_rows).as_numpy_iterator())
  dropped = _dropped(source, objective, split, rows)
  if dropped == rows:
    raise UserError(
      f'None of the first {rows} rows of the {split} split holds an example of {type(objective).__name__}: '
      'the text has no unit it could mask. Use another corpus or objective.'
    )
  counts: collections.Counter[str] = collections.Counter()
  for row in source.corrupted(objective, split).take(rows - dropped).as_numpy_iterator():
    counts.update(_count(row, source.special.mask))
  share = lambda name, of: counts[name] / max(1, counts[of])
  result = {
    'rows': rows,
    'rows_dropped': dropped / rows,
    'corrupted': share('corrupted', 'text'),
    'supervised': share('supervised', 'text'),
    'untouched': share('untouched', 'segments'),
    'padding': 1 - share('real', 'positions'),
    'positions_per_token': share('positions', 'text'),
  }
  in_place = counts['in_place'] == counts['kept_rows'] and counts['corrupted']
  return result | ({name: share(name, 'corrupted') for name in ('masked', 'randomised', 'kept')} if in_place else {})


def _dropped(source: Source, objective: Objective, split: str, rows: int) -> int:
  """How many of the first rows hold no example."""
  if type(objective).keep is Objective.keep:
    return 0
  kept = source.stream(split).take(rows).batch(64).map(lambda row: objective.keep(row, source.special))
  return rows - sum(int(block.sum()) for block in kept.as_numpy_iterator())


def _count(row: dict[str, np.ndarray], mask: int) -> dict[str, Any]:
  corrupted, inputs = row['corrupted'] > 0, row['decoder_input_tokens']
  segments = row['decoder_segment_ids']
  counts = {
    'kept_rows': 1,
    'text': np.count_nonzero(row['segment_ids']),
    'corrupted': int(np.count_nonzero(corrupted)),
    'supervised': np.count_nonzero(row['decoder_loss_weights']),
    'positions': inputs.size,
    'real': np.count_nonzero(segments),
    'segments': int(segments.max()),
    'untouched': len(set(segments[segments > 0]) - set(segments[corrupted])),
  }
  if inputs.size != row['targets'].size:
    return counts
  masked, same = inputs[corrupted] == mask, inputs[corrupted] == row['targets'][corrupted]
  actions = {'masked': masked.sum(), 'kept': same.sum(), 'randomised': (~masked & ~same).sum(), 'in_place': 1}
  return counts | {name: int(value) for name, value in actions.items()}
