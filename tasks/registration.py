"""Corpora and mixtures of other people's making as seqio Tasks and Mixtures: the helpers, over plain seqio.

A Task ends in one of two ways.
  rows               `to_rows` is its last preprocessor. Whoever reads it says which objective: `OBJECTIVE` of a gin
                     file for `unmask train`, `ObjectiveConverter` for seqio and t5x. One Task serves all objectives.
  decoder features   an objective follows behind `to_rows`. Every reader of the Task gets that objective's batch, with
                     seqio's own pass-through converter; `unmask train`, which must know the objective, refuses it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from .. import UserError
from ..objectives import preprocessor
from ..objectives.base import MODEL_FEATURES, Objective
from . import corpora, rows, vocabularies

_NAME = re.compile(r'[\w.:#]+\Z')
_LARGEST_ID = 2**31 - 1


def register(
  name: str,
  source: seqio.DataSource | corpora.Corpus,
  *,
  vocabulary: seqio.Vocabulary | None = None,
  preprocessors: Sequence[Callable[..., Any]] = (),
  objective: Objective | None = None,
  seed: int = 0,
  validation_one_in: int = 20,
) -> seqio.Task:
  """Registers a corpus as a seqio Task that gives rows, or an objective's decoder features.

  Its rows carry no words, collocations or salient spans: for objectives that mask those, prepare the corpus with
  `TextTask(name=..., corpus=..., data_dir=...).prepare()`, which registers it too.

  Args:
    name: of the Task; letters, digits and the marks . : _ #.
    source: documents. A seqio DataSource whose examples hold 'targets' or 'text', strings or int token ids [tokens]; or
      a corpus such as `LocalText`.
    vocabulary: with our reserved ids (`special_tokens`); None takes bytes.
    preprocessors: of seqio, applied to the documents first.
    objective: what to do to the rows; None leaves that to the reader of the Task, as `unmask train` wants it.
    seed: decides the corruption, if there is an objective.
    validation_one_in: of a corpus, one document in this many is the split 'validation', chosen by a hash of its id; a
      DataSource brings its own splits.

  Returns:
    The Task.

  Raises:
    UserError: the name is taken or malformed, or the Task could not be read; names it and the mend.
  """
  refuse_taken(name)
  vocabulary = vocabulary or vocabularies.byte_vocabulary()
  try:
    special = vocabularies.special_tokens(vocabulary)
  except UserError as error:
    raise UserError(f'Task {name}: {error}') from error
  if not isinstance(source, seqio.DataSource):
    source = _source_of(name, source, validation_one_in)
  last: list[Callable[..., Any]] = [rows.to_rows(special)]
  if objective is not None:
    _require_objective(name, objective)
    last.append(preprocessor.corrupt_rows(objective, special, seed))
  return seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[*preprocessors, _tokens(name, vocabulary), seqio.CacheDatasetPlaceholder(), *last],
    output_features=output_features(vocabulary, objective),
  )


def register_mixture(name: str, rates: Mapping[str, float]) -> seqio.Mixture:
  """Registers a seqio Mixture of Tasks (or of other Mixtures).

  Args:
    name: of the Mixture.
    rates: by name of a registered Task or Mixture, how many examples to take of it in proportion to the others: rows
      where its Tasks give rows, else documents.

  Returns:
    The Mixture.

  Raises:
    UserError: the name is taken, a Task is not registered, a rate is not above 0, or the Tasks cannot be mixed.
  """
  refuse_taken(name)
  known = sorted([*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()])
  for part, rate in rates.items():
    if part not in known:
      raise UserError(
        f'Mixture {name} names {part!r}, which is not registered; there are {", ".join(known) or "none"}.'
      )
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float('inf'):
      raise UserError(f'Mixture {name} gives {part} the rate {rate!r}; it is a number above 0.')
  if not rates:
    raise UserError(f'Mixture {name} has no Task: give it {{name: rate}}.')
  tasks = {task.name: task for part in rates for task in getattr(seqio.get_mixture_or_task(part), 'tasks', [])}
  tasks |= {part: seqio.TaskRegistry.get(part) for part in rates if part in seqio.TaskRegistry.names()}
  _require_alike(name, list(tasks.values()))
  return seqio.MixtureRegistry.add(name, list(rates.items()))


def output_features(vocabulary: seqio.Vocabulary, objective: Objective | None = None) -> dict[str, seqio.Feature]:
  """The output features of a seqio Task that ends in `to_rows`, or in an objective behind it.

  Args:
    vocabulary: of its 'targets'.
    objective: what the Task ends in; None where it ends in rows.

  Returns:
    'targets' and 'segment_ids', int32; and with an objective its decoder features, of which the loss weights are
    float32.
  """
  ids = lambda dtype=tf.int32: seqio.Feature(seqio.PassThroughVocabulary(_LARGEST_ID), add_eos=False, dtype=dtype)
  features = {'targets': seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32), 'segment_ids': ids()}
  for feature in (*MODEL_FEATURES, *objective.more_features) if objective else ():
    features[feature] = ids(tf.float32 if feature == 'decoder_loss_weights' else tf.int32)
  return features


def refuse_taken(name: str) -> None:
  if not isinstance(name, str) or not _NAME.match(name):
    raise UserError(f'The name of a Task or Mixture is {name!r}; it is of letters, digits and the marks . : _ #.')
  for kind, registry in (('Task', seqio.TaskRegistry), ('Mixture', seqio.MixtureRegistry)):
    if name in registry.names():
      raise UserError(
        f'A seqio {kind} named {name!r} is registered already: take another name, or call '
        f'seqio.{kind}Registry.remove({name!r}) first.'
      )


def _require_objective(name: str, objective: Any) -> None:
  if not isinstance(objective, Objective):
    kind = objective.__name__ if isinstance(objective, type) else repr(objective)
    mend = f'make one: {kind}()' if isinstance(objective, type) else 'give one of unmask.objectives, such as MEAP()'
    raise UserError(f'Task {name}: objective={kind} is no objective; {mend}.')
  if objective.units:
    raise UserError(
      f'Task {name}: {type(objective).__name__} reads {", ".join(objective.units)}, which these rows do not carry; '
      'prepare the corpus with unmask.tasks.TextTask(...).prepare(), or choose an objective that masks tokens.'
    )


def _require_alike(name: str, tasks: Sequence[seqio.Task]) -> None:
  """Raises UserError unless all Tasks give the same features of the same vocabularies and dtypes."""
  first = tasks[0]
  for task in tasks[1:]:
    if tuple(task.output_features) != tuple(first.output_features):
      raise UserError(
        f'Mixture {name}: {first.name} gives {", ".join(first.output_features)} and {task.name} '
        f'{", ".join(task.output_features)}; register both in the same way.'
      )
    for feature, spec in first.output_features.items():
      other = task.output_features[feature]
      for what in ('vocabulary', 'dtype'):
        if getattr(other, what) != getattr(spec, what):
          raise UserError(f'Mixture {name}: {first.name} and {task.name} differ in the {what} of {feature!r}.')


def _source_of(name: str, corpus: corpora.Corpus, validation_one_in: int) -> seqio.DataSource:
  """The documents of a corpus, read anew in every epoch."""
  if not callable(getattr(corpus, 'documents', None)):
    raise UserError(
      f'Task {name}: source={corpus!r} is neither a seqio DataSource nor a corpus of unmask.tasks, such as '
      "LocalText(pattern='texts/*.txt')."
    )
  if validation_one_in < 2:
    raise UserError(f'Task {name}: validation_one_in is {validation_one_in}; it is 2 or more: some text must be left.')

  def dataset(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
    del shuffle_files, seed  # rows are shuffled where they are read

    def texts() -> Iterator[str]:
      for document in corpus.documents():
        if corpora.is_validation(document['id'], validation_one_in) == (split == 'validation'):
          yield document['text']

    return tf.data.Dataset.from_generator(texts, output_signature=tf.TensorSpec([], tf.string))

  return seqio.FunctionDataSource(dataset, splits=('train', 'validation'))


def _tokens(name: str, vocabulary: seqio.Vocabulary) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
  """Examples of text or ids to {'targets': int32 ids}."""

  def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    spec = dataset.element_spec
    key = next((key for key in ('targets', 'text') if key in spec), None) if isinstance(spec, dict) else ''
    if key is None:
      raise UserError(
        f"Task {name}: its examples hold {', '.join(spec)}; one of them must be called 'targets' or 'text': rename it "
        'with seqio.preprocessors.rekey.'
      )
    what = spec[key] if key else spec
    if not (what.dtype == tf.string and what.shape.rank == 0) and not (what.dtype.is_integer and what.shape.rank == 1):
      raise UserError(
        f"Task {name}: 'targets' is {what.dtype.name} of rank {what.shape.rank}; it must be a string, or token ids, "
        'int32 of rank 1.'
      )
    value = lambda example: example[key] if key else example
    ids = lambda one: tf.cast(vocabulary.encode_tf(one) if what.dtype == tf.string else one, tf.int32)
    return dataset.map(preprocessor.graph(lambda example: {'targets': ids(value(example))}))

  return apply
