"""The examples of a probe, by split.

A probe is a small supervised task on which a trained decoder is tuned. Two kinds:
  classification  one or two texts, one of several classes
  span            a question and a passage, the answer is a span of the passage

Splits: 'train' is tuned on, 'dev' chooses the learning rate, 'test' is reported and chooses nothing. Test examples of a
corpus come from the documents that pretraining held out; train and dev share the others.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from ... import UserError
from .. import corpora
from ..units import words

SPLITS = ('train', 'dev', 'test')
OVERLAP = 13  # words: the n-gram by which GPT-3's evaluations were cleaned (arXiv 2005.14165, appendix C)


class Example(NamedTuple):
  """One question.

  Attributes:
    id: unique in the probe.
    cluster: the text it is about; examples of one cluster are not independent.
    texts: what the model reads, in order; of a span probe the question and the passage.
    label: number of the class; -1 in a span probe.
    answers: half-open character ranges of the last text, each of which is right; empty in a classification.
    gap: a character range of the first text in whose place the model reads one mask; None for none.
    candidates: character ranges of the last text that might be answers, for the baseline.
  """

  id: str
  cluster: str
  texts: tuple[str, ...]
  label: int = -1
  answers: tuple[tuple[int, int], ...] = ()
  gap: tuple[int, int] | None = None
  candidates: tuple[tuple[int, int], ...] = ()

  def golds(self) -> tuple[str, ...]:
    """The texts of the answers, each once."""
    return tuple(dict.fromkeys(self.texts[-1][start:end] for start, end in self.answers))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """How much of everything, at most. The defaults are for a small decoder on two cores.

  Attributes:
    train, dev, test: examples of each split; which ones is decided by a hash of their ids.
    classification_tokens: of a row; what is longer is cut.
    span_tokens: of a row, question and passage together; no row is longer than those of pretraining.
  """

  train: int = 2048
  dev: int = 256
  test: int = 512
  classification_tokens: int = 64
  span_tokens: int = 96

  def __post_init__(self) -> None:
    for name in SPLITS:
      if getattr(self, name) < 1:
        raise UserError(f'Sizes.{name} is {getattr(self, name)}; a probe needs 1 example or more of each split.')
    for name in ('classification_tokens', 'span_tokens'):
      if getattr(self, name) < 16:
        raise UserError(f'Sizes.{name} is {getattr(self, name)}; give 16 or more.')


@dataclasses.dataclass(frozen=True)
class ProbeTask:
  """A probe with its examples.

  Attributes:
    name: the test's name in results, such as 'probe_topic'.
    title: for people.
    kind: 'classification' or 'span'.
    classes: their names; empty in a span probe.
    splits: examples by split, each at random places by the hash of its id.
    facts: what else a reader should know, such as how many examples were left out and why.
  """

  name: str
  title: str
  kind: Literal['classification', 'span']
  classes: tuple[str, ...]
  splits: dict[str, list[Example]]
  facts: dict[str, int]

  def digest(self) -> str:
    """Changes with any example, its split or the classes."""
    content = (self.kind, self.classes, [(split, self.splits[split]) for split in SPLITS])
    return hashlib.sha1(repr(content).encode()).hexdigest()


def place(text: str) -> int:
  """A number by which things are put in a random order that never changes."""
  return int.from_bytes(hashlib.sha1(f'probe {text}'.encode()).digest()[:8], 'big')


def is_dev(cluster: str) -> bool:
  """Whether a text that is not for testing serves the choice of settings: one in six, by a hash of its own."""
  return corpora.is_validation(f'dev {cluster}', 6)


def build(
  name: str,
  title: str,
  kind: Literal['classification', 'span'],
  examples: Mapping[str, Iterable[Example]],
  sizes: Sizes,
  classes: Sequence[str] = (),
) -> ProbeTask:
  """A probe of at most so many examples of each split, of which no training example repeats a test example.

  Args:
    name, title, kind, classes: as in `ProbeTask`.
    examples: by split, all there are.
    sizes: how many to take.

  Raises:
    UserError: a split is empty, or the training examples are all of one class.
  """
  chosen: dict[str, list[Example]] = {}
  dropped: list[Example] = []
  for split in reversed(SPLITS):
    found: Iterable[Example] = sorted(examples[split], key=lambda example: place(example.id))
    if split != 'test':
      found = without_overlap(found, chosen['test'], dropped)
    chosen[split] = list(itertools.islice(found, getattr(sizes, split)))
    if not chosen[split]:
      raise UserError(f'The probe {name} has no example for its {split} split; give it more text or other settings.')
  if kind == 'classification' and len({example.label for example in chosen['train']}) < 2:
    raise UserError(
      f'The training examples of the probe {name} are all of one class, {classes[chosen["train"][0].label]!r}; '
      'a classification needs two or more.'
    )
  facts = {split: len(chosen[split]) for split in SPLITS} | {'left_out_for_overlap_with_test': len(dropped)}
  return ProbeTask(name, title, kind, tuple(classes), {split: chosen[split] for split in SPLITS}, facts)


def without_overlap(examples: Iterable[Example], tests: Sequence[Example], dropped: list[Example]) -> Iterator[Example]:
  """The examples that share neither their cluster nor an n-gram of `OVERLAP` words with a test.

  The others are added to `dropped`.
  """
  clusters = {example.cluster for example in tests}
  seen = {ngram for example in tests for ngram in _ngrams(example)}
  for example in examples:
    if example.cluster not in clusters and seen.isdisjoint(_ngrams(example)):
      yield example
    else:
      dropped.append(example)


def _ngrams(example: Example) -> set[tuple[str, ...]]:
  """Runs of `OVERLAP` words of an example's texts, in lower case, without marks."""
  found = set()
  for text in example.texts:
    split = [word.lower() for word in words.texts(text) if word[0].isalnum()]
    found |= {tuple(split[i : i + OVERLAP]) for i in range(len(split) - OVERLAP + 1)}
  return found
