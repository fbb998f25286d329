"""A corpus whose documents are asked about: a seqio Mixture of prompted Tasks beside the Task of its text."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import seqio
import tensorflow as tf

from ... import UserError
from .. import registration, spill, text_task
from ..corpora import Corpus, Document
from ..preparation import builder, stages
from .of_documents import DATA_SETS, DataSet, Example
from .registering import register_prompts

_SPLITS = ('train', 'validation')


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedText(text_task.TextTask):
  """A `TextTask` with the same folder, vocabulary and held-out documents, and a mixture of prompts over its documents.

  Attributes:
    mixture: the seqio Mixture's name; its Tasks are 'MIXTURE.DATA_SET.PROMPT'.
    data_sets: which of `of_documents.DATA_SETS`; one that the corpus has no example of is left out.
  """

  mixture: str = 'prompted'
  data_sets: Sequence[str] = tuple(DATA_SETS)

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in self.data_sets:
      if name not in DATA_SETS:
        raise UserError(f'PromptedText.data_sets names {name!r}; there are {", ".join(DATA_SETS)}.')

  def prepare(self, say: Callable[[str], None] = print, engine: builder.Engine | None = None) -> str:
    """As `TextTask.prepare`; registers the mixture too, in place of one of that name. UserError without examples."""
    folder = super().prepare(say, engine)
    _remove(self.mixture)
    documents = by_split(self.corpus, self.validation_one_in)
    rates: dict[str, float] = {}
    for name in self.data_sets:
      examples = {split: DATA_SETS[name].examples(documents[split]) for split in _SPLITS}
      if all(examples.values()):
        rates |= self._registered(name, DATA_SETS[name], examples, stages.load_vocabulary(folder))
    if not rates:
      raise UserError(
        f'The corpus of {self.name} gives no example of {", ".join(self.data_sets)}: its documents have no titles and '
        'no labels. Give JSON lines a label (LocalText.label_field), or register prompts of your own (docs/tasks.md).'
      )
    registration.register_mixture(self.mixture, rates)
    return folder

  def _registered(
    self, name: str, data_set: DataSet, examples: Mapping[str, list[Example]], vocabulary: seqio.Vocabulary
  ) -> dict[str, float]:
    source = seqio.FunctionDataSource(_reader(examples), splits=_SPLITS)
    count = len(examples['train'])
    task = f'{self.mixture}.{name}'
    return register_prompts(task, source, data_set.prompts, examples=count, vocabulary=vocabulary)


def by_split(corpus: Corpus, validation_one_in: int) -> dict[str, list[Document]]:
  """Documents by split, in the corpus's order; held out are those that pretraining holds out."""
  found: dict[str, list[Document]] = {split: [] for split in _SPLITS}
  for document in corpus.documents():
    found['validation' if spill.is_held_out(document, validation_one_in) else 'train'].append(document)
  return found


def _reader(examples: Mapping[str, list[Example]]) -> Callable[..., tf.data.Dataset]:
  def read(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
    del shuffle_files, seed  # rows are shuffled where they are read
    mine = examples[split]
    return tf.data.Dataset.from_tensor_slices({name: [one[name] for one in mine] for name in mine[0]})

  return read


def _remove(mixture: str) -> None:
  """Takes a mixture that was registered before out of seqio's registries, with its Tasks."""
  if mixture in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.remove(mixture)
  for name in [name for name in seqio.TaskRegistry.names() if name.startswith(f'{mixture}.')]:
    seqio.TaskRegistry.remove(name)
