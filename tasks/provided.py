"""The rows of seqio Tasks and Mixtures that somebody else registered. TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from .. import UserError
from ..objectives.base import SpecialTokens
from ..objectives.preprocessor import graph
from . import rows, vocabularies

_ORDER = 42  # seed of the order in which a mixture's tasks take turns; seqio's own where nothing is shuffled
_CORPUS = 'corpus_ids'  # of each token: 1 + the place of its task in the mixture, 0 for padding

Provider = seqio.Task | seqio.Mixture


def find(name: str) -> Provider:
  """What is registered under a name; UserError if nothing is."""
  try:
    return seqio.get_mixture_or_task(name)
  except ValueError as error:
    known = sorted([*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()])
    raise UserError(
      f'No seqio Task or Mixture is named {name!r}; registered: {", ".join(known) or "none"}. Import the module that '
      'registers it in a gin file: import their_package.tasks.'
    ) from error


def vocabulary(provider: Provider) -> seqio.Vocabulary:
  """That of 'targets'; UserError, which names the Task and the mend, unless training can read what it gives."""
  name, features = provider.name, provider.output_features
  if 'decoder_input_tokens' in features:
    raise UserError(
      f'{name} ends in an objective already: it gives decoder_input_tokens. `unmask train` and its relatives take '
      'rows, and the objective from OBJECTIVE: register it without the objective.'
    )
  if 'targets' not in features:
    raise UserError(
      f'{name} has no feature "targets"; it has {list(features)}: name its text so with seqio.preprocessors.rekey.'
    )
  feature = features['targets']
  if not tf.as_dtype(feature.dtype).is_integer or feature.rank != 1:
    raise UserError(
      f"{name} gives 'targets' as {tf.as_dtype(feature.dtype).name} of rank {feature.rank}; they must be token ids: "
      'seqio.Feature(vocabulary, dtype=tf.int32), with seqio.preprocessors.tokenize among its preprocessors.'
    )
  if isinstance(feature.vocabulary, seqio.PassThroughVocabulary):
    raise UserError(
      f"{name} has no vocabulary for 'targets', so nobody knows its reserved ids; give the feature the vocabulary that "
      'made its ids.'
    )
  try:
    vocabularies.special_tokens(feature.vocabulary)
  except UserError as error:
    raise UserError(f'{name}: {error}') from error
  return feature.vocabulary


def corpora(provider: Provider) -> tuple[str, ...]:
  """Names of a Mixture's tasks; none of a Task."""
  return tuple(task.name for task in provider.tasks) if isinstance(provider, seqio.Mixture) else ()


def corpus_tokens(rows: Mapping[str, tf.Tensor], count: int) -> tf.Tensor:
  """How many tokens of rows [batch, text_length] are of each of `count` corpora, int32 [count]."""
  ids = tf.reshape(rows[_CORPUS], [-1])
  return tf.math.bincount(ids, minlength=count + 1, maxlength=count + 1, dtype=tf.int32)[1:]


def read(
  provider: Provider,
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
    As `rows.make_rows`; of a Mixture with a unit that says which task a token is of, see `corpus_tokens`.

  Raises:
    UserError: there is no such split, or a task does not give what it says; names it.
  """
  gives_rows = 'segment_ids' in provider.output_features
  options: dict[str, Any] = {
    'sequence_length': lengths if gives_rows else None,
    'split': split,
    'shuffle': False,
    'try_in_mem_cache': False,
  }
  if isinstance(provider, seqio.Mixture):
    dataset = _mixed(provider, split, endless, use_cached, options)
    units = (*units, _CORPUS)
  else:
    _require_split(provider, [provider], split)
    dataset = _of_task(provider, 1, use_cached, options)
  if not gives_rows:
    units = tuple(name for name in units if name in dataset.element_spec)
    return rows.make_rows(dataset, lengths['targets'], special, units)
  names = [name for name in ('targets', 'segment_ids', 'example_id', *units) if name in dataset.element_spec]
  dataset = dataset.map(lambda row: {name: row[name] for name in names})
  if 'example_id' in names:
    return dataset
  # A mixture passes on its features alone: rows are numbered in the order in which it gives them.
  return dataset.enumerate().map(lambda number, row: row | {'example_id': number})


def _require_split(provider: Provider, tasks: Sequence[seqio.Task], split: str) -> None:
  if not any(split in task.splits for task in tasks):
    known = sorted({name for task in tasks for name in task.splits})
    raise UserError(
      f'{provider.name} has no split {split!r}; it has {", ".join(known) or "none"}. Training reads "train" and '
      '"validation": give its source those splits.'
    )


def _of_task(task: seqio.Task, epochs: int | None, use_cached: bool, options: Mapping[str, Any]) -> tf.data.Dataset:
  """A task's examples; UserError if what it gives is not what it was registered with."""
  cached = use_cached and task.cache_dir is not None
  try:
    return task.get_dataset(**options, num_epochs=epochs, use_cached=cached)
  except UserError:
    raise
  except (ValueError, KeyError, TypeError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(
      f'Task {task.name} cannot be read ({type(error).__name__}: {reason[:300]}); mend its preprocessors or its '
      'output_features.'
    ) from error


def _mixed(
  mixture: seqio.Mixture, split: str, endless: bool, use_cached: bool, options: Mapping[str, Any]
) -> tf.data.Dataset:
  """The tasks' examples at the mixture's rates, each token with the place of its task."""
  _require_split(mixture, mixture.tasks, split)
  mixture._check_compatible_features()
  parts, rates = [], []
  for number, task in enumerate(mixture.tasks, 1):
    if split in task.splits:
      dataset = _of_task(task, None if endless else 1, use_cached, options)
      parts.append(dataset.map(graph(_marked(mixture, number)), num_parallel_calls=tf.data.AUTOTUNE).prefetch(1))
      rates.append(mixture.get_rate(task))
  # Read once, every example comes: seqio's own would stop where the first task does.
  return tf.data.Dataset.sample_from_datasets(parts, rates, seed=_ORDER, stop_on_empty_dataset=endless)


def _marked(mixture: seqio.Mixture, number: int) -> Any:
  """An example of the mixture's features, with the number of its task on every token."""

  def mark(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    features = {name: value for name, value in example.items() if name in mixture.output_features}
    real = features.get('segment_ids', tf.ones_like(features['targets'])) > 0
    return features | {_CORPUS: tf.where(real, number, 0)}

  return mark
