"""Probes of TFDS: any dataset that is a classification or a span extraction, such as 'glue/sst2' or 'squad'.

What a dataset is, its features say: a ClassLabel with one or two texts beside it is a classification; 'context',
'question' and 'answers' are SQuAD's. The labelled split that is not for training is the test; dev is taken from the
training split by clusters.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from ... import UserError
from .. import corpora
from . import examples
from .examples import Example
from .material import Material

_TESTS = ('validation', 'validation_matched', 'test')  # GLUE's and SQuAD's tests have no public labels
_NO_TEXTS = ('id', 'idx', 'title')
_MOST = 20_000  # examples read of a split


def tfds(name: str, material: Material) -> examples.ProbeTask:
  """The probe 'tfds:NAME'.

  Raises:
    UserError: TFDS does not know it or cannot give it (no network, of which it is sure after ten tries in three
      minutes), or it is of neither kind.
  """
  import tensorflow_datasets

  try:
    builder = tensorflow_datasets.builder(name, data_dir=material.tfds_data_dir)
    builder.download_and_prepare()
    train, test = _splits(name, list(builder.info.splits))
    read = {split: builder.as_dataset(split=split, shuffle_files=False) for split in (train, test)}
  except UserError:
    raise
  except Exception as error:  # TFDS raises many kinds: an unknown name, no network, no room
    reason = str(error).strip().split('\n')[0][:300]
    raise UserError(f'TFDS cannot give the probe {name!r}: {reason}') from error
  features = builder.info.features
  is_span = {'context', 'question', 'answers'} <= set(features)
  label, texts = ('', []) if is_span else _fields(name, features)

  def rows(split: str) -> Iterator[Example]:
    for number, record in enumerate(itertools.islice(read[split].as_numpy_iterator(), _MOST)):
      identity = f'{name}:{split}:{number}'
      if is_span:
        yield from _question(identity, record, material)
      elif record[label] >= 0:
        words = tuple(corpora.decode(record[field], identity) for field in texts)
        yield Example(identity, _cluster(words[0]), words, int(record[label]))

  training = list(rows(train))
  parts = {'test': rows(test)} | {
    split: [one for one in training if examples.is_dev(one.cluster) == (split == 'dev')] for split in ('train', 'dev')
  }
  classes = () if is_span else features[label].names
  kind = 'span' if is_span else 'classification'
  return examples.build(f'tfds:{name}', name, kind, parts, material.sizes, classes)


def _splits(name: str, splits: list[str]) -> tuple[str, str]:
  test = next((split for split in _TESTS if split in splits), None)
  if 'train' not in splits or test is None:
    raise UserError(f'The probe {name!r} needs a split "train" and one of {_TESTS}; it has {", ".join(splits)}.')
  return 'train', test


def _fields(name: str, features: Any) -> tuple[str, list[str]]:
  """The label's name and those of the texts, in alphabetical order: TFDS keeps them in no order of their own."""
  from tensorflow_datasets import features as kinds

  labels = [field for field in features if isinstance(features[field], kinds.ClassLabel)]
  texts = [field for field in sorted(features) if isinstance(features[field], kinds.Text) and field not in _NO_TEXTS]
  if len(labels) != 1 or not 1 <= len(texts) <= 2:
    raise UserError(
      f'The probe {name!r} is neither a classification (one ClassLabel, one or two texts) nor a span extraction '
      f'(context, question, answers); it has {", ".join(features)}.'
    )
  return labels[0], texts


def _cluster(text: str) -> str:
  """Examples about one text are of one cluster."""
  return f'{examples.place(text):016x}'


def _question(identity: str, record: dict[str, Any], material: Material) -> Iterator[Example]:
  """A question of SQuAD's form; none where no answer stands where it is said to stand."""
  passage, question = (corpora.decode(record[field], identity) for field in ('context', 'question'))
  answers = []
  for text, start in zip(record['answers']['text'], record['answers']['answer_start'], strict=True):
    end = int(start) + len(corpora.decode(text, identity))
    if passage[int(start) : end] == corpora.decode(text, identity):
      answers.append((int(start), end))
  if not answers:
    return
  (spans,) = material.tagger.tag([passage])
  candidates = tuple((one.start, one.end) for one in spans)
  yield Example(identity, _cluster(passage), (question, passage), answers=tuple(answers), candidates=candidates)
