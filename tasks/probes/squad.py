"""Exact match and token F1 of extracted answers, as SQuAD defines them (arXiv 1606.05250, section 6.1)."""

import collections
import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalise(answer: str) -> str:
  """Lower case, without punctuation, articles and superfluous spaces, in this order."""
  return ' '.join(_ARTICLES.sub(' ', answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Iterable[str]) -> float:
  """1.0 if the answer is one of the right ones after `normalise`, else 0.0."""
  return float(normalise(answer) in {normalise(gold) for gold in golds})


def f1(answer: str, golds: Iterable[str]) -> float:
  """The best harmonic mean of precision and recall of words over the right answers; 0.0 where there is none."""
  return max((_f1(answer, gold) for gold in golds), default=0.0)


def _f1(answer: str, gold: str) -> float:
  given, wanted = normalise(answer).split(), normalise(gold).split()
  common = sum((collections.Counter(given) & collections.Counter(wanted)).values())
  if not common:
    return 0.0
  precision, recall = common / len(given), common / len(wanted)
  return 2 * precision * recall / (precision + recall)
