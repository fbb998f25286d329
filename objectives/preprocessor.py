"""An objective as seqio preprocessors: rows in, decoder features out. TensorFlow.

A row is a dictionary of int32 [text_length] features ('targets', 'segment_ids' and the objective's units) with int64
scalars 'example_id' and 'epoch'. What happens to it depends on (seed, epoch, example_id) and the row alone, and on
'step' and 'place' (see `base.Objective.corrupt`) where the reader gives them and the objective uses them.
"""

from collections.abc import Callable, Iterable

import tensorflow as tf

from . import base, random, schedules

Preprocessor = Callable[[tf.data.Dataset], tf.data.Dataset]
Block = Callable[[base.Features], base.Features]
# Graph functions here and in `tasks` are written in TensorFlow's own operations; AutoGraph, which would rewrite their
# Python, takes seconds at every start for nothing.
graph = tf.autograph.experimental.do_not_convert
_ROWS_PER_CALL = 64  # one graph call a block: many rows share the cost of an op, and no result depends on it


def corrupt_rows(objective: base.Objective, special: base.SpecialTokens, seed: int) -> Preprocessor:
  """Rows to rows with the features of `objective` beside them; rows that hold no example of it are dropped.

  Args:
    objective: what to do to the rows.
    special: the reserved ids of the rows' vocabulary.
    seed: the run's seed.
  """
  return corrupt_rows_by(corrupt_block(objective, special, seed), objective, special)


def corrupt_rows_by(block: Block, objective: base.Objective, special: base.SpecialTokens) -> Preprocessor:
  """`corrupt_rows` by what `corrupt_block` made of the same objective."""

  def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    if schedules.needs_step(objective) and 'step' not in dataset.element_spec:
      raise base.UserError(
        f'{type(objective).__name__} changes with the step of training (a rate, or a stage), which these rows do not '
        'know; take a constant rate and one stage, or train with `unmask train`.'
      )
    dataset = keep_rows(objective, special)(dataset).batch(_ROWS_PER_CALL)
    return dataset.map(graph(lambda rows: rows | block(rows))).unbatch()

  return apply


def require_units(objective: base.Objective, names: Iterable[str]) -> None:
  """Raises UserError unless rows with the features `names` carry the units that `objective` masks."""
  missing = [name for name in objective.units if name not in names]
  if missing:
    raise base.UserError(
      f'{type(objective).__name__} reads what these rows do not carry: {", ".join(missing)}. Units come with tasks of '
      'unmask.tasks.TextTask, answers with unmask.tasks.answers; or choose an objective that masks tokens.'
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
    return dataset.batch(_ROWS_PER_CALL).map(graph(keep)).unbatch()

  return apply


def corrupt_block(objective: base.Objective, special: base.SpecialTokens, seed: int) -> Block:
  """A graph function from a batch of rows to the features of `objective`, [batch, model_length].

  In a graph it is traced, which takes a second, once for all batches with the same features, however many rows they
  have.

  Raises:
    UserError: the vocabulary lacks what the objective needs.
  """
  objective.check_vocabulary(special)

  def at_once(rows: base.Features) -> base.Features:
    known = {
      'seed': tf.fill(tf.shape(rows['example_id']), tf.constant(seed, tf.int64)),
      'epoch': _epoch(objective, rows),
    }
    return objective.corrupt(rows | known, seeds_of_rows(objective, rows, seed), special)

  traced = tf.function(at_once, autograph=False)

  def block(rows: base.Features) -> base.Features:
    if tf.executing_eagerly():
      return at_once(rows)
    any_rows = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in rows.items()}
    return traced.get_concrete_function(any_rows)(rows)

  return block


def seeds_of_rows(objective: base.Objective, rows: base.Features, seed: int) -> tf.Tensor:
  """uint32 [batch, 2], from the run's seed, the rows' epochs and numbers; static masking repeats its first epochs."""
  return random.row_seeds(seed, _epoch(objective, rows), rows['example_id'])


def _epoch(objective: base.Objective, rows: base.Features) -> tf.Tensor:
  epoch = rows.get('epoch', tf.zeros_like(rows['example_id']))
  return epoch % objective.static_copies if objective.static_copies else epoch
