"""Prompted tasks as a test: rank classification of answer choices, on prompts and documents that no training saw."""

import dataclasses

import numpy as np

from ...objectives.scoring import Query
from .. import text_task
from ..prompts.of_documents import DATA_SETS
from ..prompts.prompted_text import by_split
from .material import Material
from .test import Item, Test, require_counts, settings_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompted:
  """Which of an example's choices is the answer to a held-out prompt, by the score of each.

  T0's evaluation (arXiv 2110.08207, section 5: the choice of the highest log-likelihood, lengths aside); its data
  sets are held out as a whole, here prompts and documents are. Questions too long for a row are left out.

  Attributes:
    each: questions of each prompt at most.
    seed: decides which.
  """

  each: int = 60
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'each')

  def draw(self, material: Material) -> list[Test]:
    task = material.source.config.task
    is_text = isinstance(task, text_task.TextTask)
    held_out = by_split(task.corpus, task.validation_one_in)['validation'] if is_text else []
    random, items = material.random('prompted', self.seed), []
    for name, data_set in DATA_SETS.items():
      examples = data_set.examples(held_out)
      order = random.permutation(len(examples))
      for label, prompt in data_set.prompts.items():
        if not prompt.held_out or not prompt.choices:
          continue
        found: list[Item] = []
        for i in order:
          if len(found) == self.each:
            break
          question, answer, others = prompt.asked(examples[i])
          item = _item(material, question, [answer, *others], (name, label), len(items) + len(found))
          found += [item] if item is not None and others else []
        items += found
    return material.test(
      items,
      'the corpus of the task cannot be read, or its documents have neither titles nor labels.',
      'prompted',
      title='Prompts, choice of the answer',
      part='prompts',
      kind='choices',
      primary='accuracy',
      groupings=('data set', 'prompt'),
      settings=settings_of(self),
    )


def _item(material: Material, question: str, answers: list[str], labels: tuple[str, str], cluster: int) -> Item | None:
  """The question with each answer and `eos` behind it, as rows of training have them; None if one does not fit.

  `eos` is right context, so whoever predicts how a text ends is asked for it too, and an answer that only begins
  another one pays for its end. Masked models, of whom none hides `eos` in training, see it.
  """
  asked, vocabulary = material.encode(question), material.source.vocabulary
  queries = []
  for answer in answers:
    tokens = np.array([*asked, *vocabulary.encode(answer), material.special.eos], np.int32)
    end = len(tokens) - 1
    if len(tokens) > material.text_length or end == len(asked):
      return None
    queries.append(Query(tokens, ((len(asked), end),), cluster))
  return Item(tuple(queries), labels)
