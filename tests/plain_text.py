"""A source of rows for tests that need no corpus: texts of bytes, as a seqio Task that holds them."""

import contextlib
from collections.abc import Iterator, Sequence

import seqio
import tensorflow as tf
from unmask.tasks import pipeline, rows, vocabularies


@contextlib.contextmanager
def task(name: str, texts: Sequence[str], rows_ready: bool = False) -> Iterator[str]:
  """Registers a Task whose splits 'train' and 'validation' both hold `texts`, perhaps made to rows; its name."""
  vocabulary = vocabularies.byte_vocabulary()
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
      {'targets': tf.constant(texts, tf.string)}
    ),
    splits=('train', 'validation'),
  )
  features = {'targets': seqio.Feature(vocabulary, add_eos=False)}
  preprocessors = [seqio.preprocessors.tokenize]
  if rows_ready:
    preprocessors.append(rows.to_rows(vocabularies.special_tokens(vocabulary)))
    features['segment_ids'] = seqio.Feature(seqio.PassThroughVocabulary(2**31 - 1), add_eos=False)
  seqio.TaskRegistry.add(name, source=source, preprocessors=preprocessors, output_features=features)
  try:
    yield name
  finally:
    seqio.TaskRegistry.remove(name)


@contextlib.contextmanager
def source(texts: Sequence[str], length: int) -> Iterator[pipeline.Source]:
  """Rows of `length` tokens of the texts."""
  with task('plain_text', texts) as name:
    yield pipeline.Pipeline(mixture_or_task_name=name, task_feature_lengths={'targets': length}).open()
