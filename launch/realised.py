"""What an objective really does to rows, counted, against what it was told to do."""

import itertools

import numpy as np

from ..objectives.base import Objective
from ..tasks.pipeline import Source


def shares(source: Source, objective: Objective, num_rows: int = 1000, split: str = 'train') -> dict[str, float]:
  """Counts over the first rows of a split.

  Returns:
    'rows' looked at; 'rows_dropped', the share that holds no example; as shares of the kept rows' text tokens
    'corrupted' and 'supervised'; 'padding', a share of the model's positions; 'positions_per_token', positions a text token takes.
  """
  rows = sum(1 for _ in itertools.islice(source.rows(split).as_numpy_iterator(), num_rows))
  kept = text = corrupted = supervised = positions = real = 0
  for row in source.corrupted(objective, split).as_numpy_iterator():
    if row['example_id'] >= rows:
      break
    kept += 1
    text += np.count_nonzero(row['segment_ids'])
    corrupted += int(row['corrupted'].sum())
    supervised += np.count_nonzero(row['decoder_loss_weights'])
    positions += row['decoder_input_tokens'].size
    real += np.count_nonzero(row['decoder_segment_ids'])
  return {
    'rows': rows,
    'rows_dropped': 1 - kept / max(1, rows),
    'corrupted': corrupted / max(1, text),
    'supervised': supervised / max(1, text),
    'padding': 1 - real / max(1, positions),
    'positions_per_token': positions / max(1, text),
  }
