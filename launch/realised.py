"""What an objective really does to rows, counted, against what it was told to do."""

import itertools

import numpy as np

from ..objectives.base import Objective
from ..tasks.pipeline import Source


def shares(source: Source, objective: Objective, num_rows: int = 1000, split: str = 'train') -> dict[str, float]:
  """Counts over the first rows of a split.

  Returns:
    'rows' looked at, 'rows_dropped' (share that holds no example), and as shares of the text's tokens: 'corrupted',
    'supervised'; 'padding' is a share of the model's positions, 'positions_per_token' how many of them a text token takes.
  """
  read = dropped = 0
  text = corrupted = supervised = positions = real = 0
  wanted = list(itertools.islice(source.rows(split).as_numpy_iterator(), num_rows))
  kept = {int(row['example_id']): row for row in wanted}
  read = len(wanted)
  seen = set()
  for row in source.corrupted(objective, split).as_numpy_iterator():
    if int(row['example_id']) not in kept:
      break
    seen.add(int(row['example_id']))
    text += int((row['segment_ids'] > 0).sum())
    corrupted += int(row['corrupted'].sum())
    supervised += int(np.count_nonzero(row['decoder_loss_weights']))
    positions += row['decoder_input_tokens'].size
    real += int((row['decoder_segment_ids'] > 0).sum())
  dropped = read - len(seen)
  return {
    'rows': read,
    'rows_dropped': dropped / max(1, read),
    'corrupted': corrupted / max(1, text),
    'supervised': supervised / max(1, text),
    'padding': 1 - real / max(1, positions),
    'positions_per_token': positions / max(1, text),
  }
