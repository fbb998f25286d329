"""Whether a position learns of its own target: looked up in real rows, where their levels and groups decide it.

An objective that predicts the next token and reads it too is refused if any layer is open; where rows bring levels, or
attention has a table of groups, only rows can tell.
"""

import numpy as np
import tensorflow as tf

from .. import UserError
from ..objectives import preprocessor
from ..objectives.attention import AttentionSpec
from ..objectives.base import Objective
from ..tasks.pipeline import Source

_ROWS = 64
_NOWHERE, _ANYWHERE = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def check(objective: Objective, source: Source) -> None:
  """Looks at the first rows of training; at each part's own, of a mixture or stages, however few those may be.

  Raises:
    UserError: a scored position learns of its target through the layers.
  """
  for name, part in objective.by_part.items():
    if not _may_leak(part):
      continue
    rows = preprocessor.keep_rows(part, source.special)(source.rows('train', part.units)).take(_ROWS).batch(_ROWS)
    for block in rows:  # one, or none
      known = {'step': tf.zeros_like(block['example_id']), 'place': -tf.ones_like(block['example_id'], tf.float64)}
      made = preprocessor.corrupt_block(part, source.special, source.config.seed)(block | known)
      features = {key: value.numpy() for key, value in made.items()}
      require_hidden(part, features, block['example_id'].numpy(), f'{name}: ' if name else '')


def _may_leak(objective: Objective) -> bool:
  rule = objective.attention
  return bool(objective.shift and objective.reads_targets and (rule.levels or rule.table is not None))


def require_hidden(
  objective: Objective, features: dict[str, np.ndarray], numbers: np.ndarray | None = None, name: str = ''
) -> None:
  """Raises UserError naming the first row and position that is scored and learns of its target.

  Args:
    objective: who reads the rows; one that predicts the next token and reads it.
    features: of `objectives.base`, [rows, model_length] each.
    numbers: int [rows], of the rows in the corpus; None counts them.
    name: what stands before the objective's.
  """
  inputs, targets = features['decoder_input_tokens'], features['decoder_target_tokens']
  follows = np.pad(inputs[:, 1:] == targets[:, :-1], [[0, 0], [0, 1]])  # a masked or replaced one says nothing
  scored = follows & (features['decoder_loss_weights'] != 0)
  for row in np.flatnonzero(scored.any(axis=1)):
    here = {key: value[row] for key, value in features.items()}
    seen = scored[row] & next_is_seen(objective.attention, here)
    if seen.any():
      place, number = int(seen.argmax()), int(row if numbers is None else numbers[row])
      raise UserError(
        f'{name}{type(objective).__name__} trains on its own targets: in row {number}, position {place} is scored '
        f'against the token of position {place + 1} and learns of it by {_told(objective.attention, here, place)}. '
        'Give what is to be predicted a higher level in decoder_levels, as features.levels does, or a group that '
        'AttentionSpec.table does not show; or give the position before it weight 0.'
      )


def _told(spec: AttentionSpec, row: dict[str, np.ndarray], place: int) -> str:
  """The rule, and what the position and the next one have of it."""
  brought = (('levels', spec.levels), ('groups', spec.table is not None))
  has = [
    f'{name} {" and ".join(map(str, row[f"decoder_{name}"][place : place + 2]))}' for name, does in brought if does
  ]
  return f'{spec} (their {", ".join(has)})'


def next_is_seen(spec: AttentionSpec, row: dict[str, np.ndarray]) -> np.ndarray:
  """Whether each position learns of the token of the next one, through any number of layers: bool [length].

  Args:
    spec: the rule.
    row: 'decoder_segment_ids'; 'decoder_levels', 'decoder_groups' and 'decoder_positions' where the rule has levels, a
      table or blocks; int [length] each.
  """
  segments = row['decoder_segment_ids']
  places = row['decoder_positions'] // spec.block if spec.block > 1 else np.arange(len(segments))
  levels = row['decoder_levels'] if spec.levels else places
  groups = row['decoder_groups'] if spec.table is not None else np.zeros_like(segments)
  seen = np.zeros(len(segments), bool)
  for number in np.unique(segments[segments > 0]):
    (at,) = np.nonzero(segments == number)
    looks = _looks(spec, levels[at].astype(np.int64), groups[at])
    following = (at[1:] == at[:-1] + 1).nonzero()[0]
    seen[at[following]] = looks[following, groups[at[following + 1]]] >= levels[at[following + 1]]
  return seen


def _looks(spec: AttentionSpec, levels: np.ndarray, groups: np.ndarray) -> np.ndarray:
  """Up to which level each token of a segment learns of the others, int64 [tokens, groups]; far below all for none.

  Of a group, whoever is seen with the highest level sees, and passes on, all that the others of it do. So who learns of
  whom is told by one level a group, and no [tokens, tokens] products are needed.

  Args:
    spec: the rule.
    levels: int64 [tokens].
    groups: int [tokens].
  """
  table = np.array(spec.table if spec.table is not None else [[True]])
  each = [np.sort(levels[groups == group]) for group in range(len(table))]
  known = np.full((len(levels), len(table)), _NOWHERE)  # the highest level of each group that a token knows
  known[np.arange(len(levels)), groups] = levels  # itself
  looks = np.full_like(known, _NOWHERE)
  ordered = (spec.ordered,) if isinstance(spec.ordered, bool) else spec.ordered
  for is_ordered in reversed(ordered):  # what the upper layers ask for, the lower ones have gathered
    for _ in range(len(table) + 1):  # a longer way comes back to a group, and no higher
      for group in range(len(table)):
        bound = known[:, table[:, group]].max(axis=1, initial=_NOWHERE)
        bound = bound if is_ordered else np.where(bound > _NOWHERE, _ANYWHERE, _NOWHERE)
        looks[:, group] = np.maximum(looks[:, group], bound)
      for group, of in enumerate(each):
        if len(of):
          last = np.searchsorted(of, looks[:, group], side='right') - 1
          known[:, group] = np.maximum(known[:, group], np.where(last < 0, _NOWHERE, of[np.maximum(last, 0)]))
  return looks
