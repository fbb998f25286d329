"""What probes are made of: the documents of a corpus with their split, the vocabulary, the tagger."""

import dataclasses
import functools
import itertools
import os

from ... import UserError
from .. import corpora, spill
from ..corpora import Document
from ..pipeline import Source
from ..units import rule_tagger, salience, words
from ..vocabularies import Encoder
from . import examples


@dataclasses.dataclass(frozen=True)
class Material:
  """A model's corpus, read for probes.

  Attributes:
    source: the opened pipeline of the model.
    corpus: documents; None if the model's task has none and no other was given.
    sizes: of every probe.
    validation_one_in: one document in so many is a test, those that pretraining held out if it had the same number.
    most_documents: how many documents are read; a corpus may have no end.
    tfds_data_dir: where TFDS keeps prepared datasets; None is its own default.
  """

  source: Source
  corpus: corpora.Corpus | None
  sizes: examples.Sizes
  validation_one_in: int = 20
  most_documents: int = 200_000
  tfds_data_dir: str | None = None

  @functools.cached_property
  def encoder(self) -> Encoder:
    """Text to ids."""
    return Encoder(self.source.vocabulary)

  def tokens(self, kind: str) -> int:
    """What a row of a 'classification' or 'span' probe may have: no more than a row of pretraining."""
    wanted = self.sizes.span_tokens if kind == 'span' else self.sizes.classification_tokens
    return min(wanted, self.source.config.text_length)

  @functools.cached_property
  def documents(self) -> dict[str, list[Document]]:
    """Documents by split, in the order of a hash of their ids; UserError without a corpus.

    'test' are those that pretraining held out, by the same rule; 'dev' are one in six of the others.
    """
    if self.corpus is None:
      raise UserError(
        'There is no corpus to make a probe of: the model was trained on a task without its text. Bind one, for '
        'example probe.corpus = @default_text.DefaultText(), or take a probe of TFDS.'
      )
    found: dict[str, list[Document]] = {split: [] for split in examples.SPLITS}
    seen: set[str] = set()
    for document in itertools.islice(self.corpus.documents(), self.most_documents):
      if document['id'] in seen:  # its other text would have another split's number, and one id names one text here
        continue
      seen.add(document['id'])
      held_out = spill.is_held_out(document, self.validation_one_in)
      split = 'test' if held_out else 'dev' if examples.is_dev(document['id']) else 'train'
      found[split].append(document)
    return {split: sorted(part, key=lambda one: examples.place(one['id'])) for split, part in found.items()}

  @functools.cached_property
  def tagger(self) -> salience.LabelFilter:
    """Finds salient spans as they were found for pretraining; where that is not known, by the rules."""
    task, folder = self.source.config.task, self.source.folder
    labels = getattr(task, 'salient_labels', salience.SALIENT)
    if (given := getattr(task, 'tagger', None)) is not None:
      return salience.LabelFilter(given, labels)
    path = os.path.join(folder, 'gazetteer.json') if folder else ''
    if os.path.exists(path):
      gazetteer = salience.Gazetteer.load(path)
    else:
      training = self.documents['train'] if self.corpus is not None else []
      gazetteer = salience.Gazetteer.build(words.split(document['text']) for document in training)
    return salience.LabelFilter(rule_tagger.RuleTagger(gazetteer), labels)
