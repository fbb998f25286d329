"""Tests that ask for vectors: the rows of the texts, and from their vectors to answers by cosine similarity."""

from collections.abc import Sequence

import numpy as np

from ...objectives.embedding import Embedding
from ...tasks.questions.test import Test
from . import answers as answers_lib
from .answers import Asked
from .kept import Arrays

_BEFORE = -1  # in a candidate's place: the text before the gap, which all candidates of an item share


def ask(test: Test, embedding: Embedding) -> list[Asked]:
  """All rows that answer a test: of each item the text before the gap, then each candidate's filling, behind `bos`."""
  rows = []
  for number, item in enumerate(test.items):
    query = item.candidates[0]
    rows.append(Asked(number, _BEFORE, embedding.row(query.tokens[: query.gaps[0][0]])))
    for place, query in enumerate(item.candidates):
      ((start, end),) = query.gaps
      rows.append(Asked(number, place, embedding.row(np.concatenate([query.tokens[:1], query.tokens[start:end]]))))
  return rows


def answers(test: Test, asked: Sequence[Asked], vectors: Sequence[np.ndarray]) -> Arrays:
  """What a model answered, an entry an item: 'cluster', 'right' and 'reciprocal_rank', as `answers.answers` has them.

  Args:
    test: with n items.
    asked: its rows.
    vectors: of the rows, [width] each.
  """
  before: dict[int, np.ndarray] = {}
  similar: list[list[float]] = [[] for _ in test.items]
  for (number, place, _), vector in zip(asked, vectors, strict=True):
    if place == _BEFORE:
      before[number] = vector
    else:
      similar[number].append(cosine(before[number], vector))
  ranked = np.array([answers_lib.rank(np.array(one)) for one in similar])
  clusters = np.array([item.cluster for item in test.items], np.int64)
  return {'cluster': clusters, 'right': ranked[:, 0], 'reciprocal_rank': ranked[:, 1]}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
  """The cosine of two vectors' angle; 0 where one of them has no length."""
  one, other = (np.asarray(vector, np.float64) for vector in (one, other))
  length = np.linalg.norm(one) * np.linalg.norm(other)
  return float(one @ other / length) if length else 0.0
