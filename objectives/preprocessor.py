"""An objective as seqio preprocessors: rows in, decoder features out. TensorFlow.

A row is a dictionary of int32 [text_length] features ('targets', 'segment_ids' and the objective's units) with int64
scalars 'example_id' and 'epoch'. What happens to it depends on (seed, epoch, example_id) and the row alone.
"""

from collections.abc import Callable, Iterable

import tensorflow as tf

from . import base, random

Preprocessor = Callable[[tf.data.Dataset], tf.data.Dataset]
_ROWS_PER_CALL = 64  # one graph call a block: many rows share the cost of an op, and no result depends on it


def corrupt_rows(objective: base.Objective, special: base.SpecialTokens, seed: int) -> Preprocessor:
  """Rows to rows with the features of `objective` beside them; rows that hold no example of it are dropped.

  Args:
    objective: what to do to the rows.
    special: the reserved ids of the rows' vocabulary.
    seed: the run's seed.
  """
  block = corrupt_block(objective, special, seed)

  def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    dataset = keep_rows(objective, special)(dataset).batch(_ROWS_PER_CALL)
    return dataset.map(lambda rows: rows | block(rows)).unbatch()

  return apply


def require_units(objective: base.Objective, names: Iterable[str]) -> None:
  """Raises UserError unless rows with the features `names` carry the units that `objective` masks."""
  missing = [name for name in objective.units if name not in names]
  if missing:
    raise base.UserError(
      f'{type(objective).__name__} masks units that these rows do not carry: {", ".join(missing)}. '
      'Build the task with units (unmask.tasks.register), or choose an objective that masks tokens.'
    )


def keep_rows(objective: base.Objective, special: base.SpecialTokens) -> Preprocessor:
  """Drops the rows that hold no example of `objective`; UserError if the rows lack the units it masks."""

  def keep(rows: base.Features) -> base.Features:
    kept = objective.keep(rows, special)
    return {name: tf.boolean_mask(value, kept) for name, value in rows.items()}

  def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    require_units(objective, dataset.element_spec)
    if type(objective).keep is base.Objective.keep:
      return dataset
    return dataset.batch(_ROWS_PER_CALL).map(keep).unbatch()

  return apply


def corrupt_block(
  objective: base.Objective, special: base.SpecialTokens, seed: int
) -> Callable[[base.Features], base.Features]:
  """A graph function from a batch of rows to the features of `objective`, [batch, model_length]."""

  def block(rows: base.Features) -> base.Features:
    return objective.corrupt(
      rows, random.row_seeds(seed, rows.get('epoch', tf.zeros_like(rows['example_id'])), rows['example_id']), special
    )

  return block
