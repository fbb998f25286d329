"""A test: a named list of items that every model is asked, and how its answers are counted. NumPy only.

kind 'gaps'     an item is a text with gaps: the loss of what fills them, and whether greedy decoding fills them exactly
kind 'choices'  an item is several texts of which the first is right: is its score the highest, and what is its rank
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ... import UserError
from ...objectives.scoring import Query

PARTS = ('held_out', 'infill', 'cloze', 'retrieval', 'grammar', 'tracking', 'prompts', 'vectors', 'probes')
_VERSION = 1  # of what is made of questions and answers; another one asks everything again
_BETTER = {'loss': 'lower', 'accuracy': 'higher', 'exact': 'higher', 'mrr': 'higher'}


class Item(NamedTuple):
  """One question.

  Attributes:
    candidates: of kind 'gaps' one query, of kind 'choices' several, the right one first. Those of one item have all
      gaps or none.
    labels: what group the item is in, one label for each of the test's groupings.
  """

  candidates: tuple[Query, ...]
  labels: tuple[str, ...] = ()

  @property
  def cluster(self) -> int:
    return self.candidates[0].cluster


@dataclasses.dataclass(frozen=True, kw_only=True)
class Test:
  """What is asked under one name.

  Attributes:
    name, title: for files, and for people.
    part: of the suite, one of PARTS.
    kind: 'gaps' or 'choices'.
    primary: the figure that stands for the test: 'loss' (nats a token), 'exact', 'accuracy' or 'mrr' (shares).
    items: the questions.
    groupings: names of the items' labels.
    settings: how the items were drawn, as plain values.
    causal: asked only of models that have a left-to-right scorer beside their own, through that one.
    embedded: asked of vectors: which candidate's one gap is filled by the text whose vector is nearest to that of the
      text before the gap, alike in all candidates. Needs no scorer.
    overlap: share of the items that have text in common with the training text; None if nobody looked.
  """

  __test__ = False  # no test of pytest's

  name: str
  title: str
  part: str
  kind: Literal['gaps', 'choices']
  primary: str
  items: Sequence[Item]
  groupings: tuple[str, ...] = ()
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)
  causal: bool = False
  embedded: bool = False
  overlap: float | None = None

  def digest(self) -> str:
    """Tells whether two models were asked the same under this name."""
    how = [_VERSION, self.name, self.kind, self.causal, self.groupings, *['embedded'] * self.embedded]
    result = hashlib.sha1(json.dumps(how).encode())
    for item in self.items:
      result.update(repr((item.labels, len(item.candidates))).encode())
      for query in item.candidates:
        result.update(repr((query.gaps, query.cluster, len(query.tokens))).encode())
        result.update(np.ascontiguousarray(query.tokens, np.int32).tobytes())
    return result.hexdigest()

  def described_primary(self, figures: dict[str, float]) -> dict[str, Any]:
    """The primary figure in words, with what a model that knows nothing gets."""
    if self.kind == 'choices':
      baseline, name = self.chance(), 'chance'
    else:
      baseline, name = (figures.get('unigram_loss'), 'unigram') if self.primary == 'loss' else (None, None)
    return {
      'figure': self.primary,
      'better': _BETTER[self.primary],
      'unit': 'nats a token' if self.primary == 'loss' else 'share',
      'baseline': baseline,
      'baseline_is': name,
    }

  def chance(self) -> float:
    """What random choices get: the mean of 1 / candidates, and for 'mrr' of the mean reciprocal of all ranks."""
    counts = np.array([len(item.candidates) for item in self.items])
    if self.primary == 'mrr':
      return float(np.mean([(1.0 / np.arange(1, count + 1)).mean() for count in counts]))
    return float((1.0 / counts).mean())


class Questions(Protocol):
  """Draws tests from what there is to ask about."""

  def draw(self, material: Any) -> list[Test]:
    """The tests, none of those that there is no material for; UserError if settings or files are wrong.

    Args:
      material: a `material.Material`.
    """


def require_counts(owner: object, *names: str) -> None:
  """Raises UserError naming the first of these attributes that is no whole number of at least 1."""
  for name in names:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise UserError(f'{type(owner).__name__}.{name} is {value!r}; it is a whole number of at least 1.')


def require_choice(owner: object, candidates: int) -> None:
  """Raises UserError unless so many candidates make a choice."""
  if candidates < 2:
    raise UserError(f'{type(owner).__name__}.candidates is {candidates}; a choice needs 2 or more.')


def settings_of(of: object) -> dict:
  """A question's settings as plain values."""
  values = dataclasses.asdict(of)  # pyrefly: ignore
  return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
