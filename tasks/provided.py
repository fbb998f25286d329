"""The rows of seqio Tasks and Mixtures that somebody else registered. TensorFlow."""

from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from ..objectives.base import SpecialTokens
from . import rows

_ORDER = 42  # seed of the order in which a mixture's tasks take turns; seqio's own where nothing is shuffled


def read(
  provider: seqio.Task | seqio.Mixture,
  split: str,
  lengths: Mapping[str, int],
  special: SpecialTokens,
  units: Sequence[str],
  *,
  use_cached: bool,
  endless: bool,
) -> tf.data.Dataset:
  """The rows of a Task or Mixture; plain documents are made to rows.

  Args:
    provider: what was registered.
    split: its name.
    lengths: {'targets': tokens of a row}.
    special: the vocabulary's reserved ids.
    units: unit features to carry along where there are any.
    use_cached: whether to read seqio's offline cache where every task has one.
    endless: a Mixture's tasks are repeated, each in its own time, so that its rates hold for ever and all of a large
      task is read. Else every example comes once, at these rates until the first task has no more. A Task is read once.

  Returns:
    As `rows.make_rows`.
  """
  gives_rows = 'segment_ids' in provider.output_features
  tasks = getattr(provider, 'tasks', [provider])
  options = {
    'sequence_length': lengths if gives_rows else None,
    'split': split,
    'shuffle': False,
    'use_cached': use_cached and all(task.cache_dir is not None for task in tasks),
  }
  if not isinstance(provider, seqio.Mixture):
    dataset = provider.get_dataset(**options, num_epochs=1, try_in_mem_cache=False)
  elif endless:
    dataset = provider.get_dataset(**options, num_epochs=None, seed=_ORDER, try_in_mem_cache=False)
  else:
    dataset = _each_once(provider, options)
  if not gives_rows:
    units = tuple(name for name in units if name in dataset.element_spec)
    return rows.make_rows(dataset, lengths['targets'], special, units)
  names = [name for name in ('targets', 'segment_ids', 'example_id', *units) if name in dataset.element_spec]
  dataset = dataset.map(lambda row: {name: row[name] for name in names})
  if 'example_id' in names:
    return dataset
  # A mixture passes on its features alone: rows are numbered in the order in which it gives them.
  return dataset.enumerate().map(lambda number, row: row | {'example_id': number})


def _each_once(mixture: seqio.Mixture, options: Mapping) -> tf.data.Dataset:
  """Every example of a mixture's tasks; seqio would stop where the first of them does."""
  tasks = [task for task in mixture.tasks if options['split'] in task.splits]
  names = set(mixture.output_features)
  parts = [
    mixture.get_task_dataset(task, names, **options, num_epochs=1, try_in_mem_cache=False).prefetch(1) for task in tasks
  ]
  rates = [mixture.get_rate(task) for task in tasks]
  return tf.data.Dataset.sample_from_datasets(parts, rates, seed=_ORDER, stop_on_empty_dataset=False)
