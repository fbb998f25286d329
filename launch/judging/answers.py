"""From the scores of rows to answers to items, and from those to figures with standard errors."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...objectives.scoring import Query, Scorer, ScoringRow
from ...tasks.questions.test import Test
from .kept import Arrays
from .runner import RowScores


class Asked(NamedTuple):
  """A row with where it comes from: the item's number and the candidate's in it."""

  item: int
  candidate: int
  row: ScoringRow


def ask(test: Test, scorer: Scorer) -> list[Asked]:
  """All rows that answer a test."""
  render: Callable[[Query], list[ScoringRow]] = scorer.rows if test.kind == 'gaps' else scorer.candidate
  return [
    Asked(number, place, row)
    for number, item in enumerate(test.items)
    for place, query in enumerate(item.candidates)
    for row in (render(query) if query.gaps else scorer.whole(query.tokens))
  ]


def answers(test: Test, asked: Sequence[Asked], scores: Sequence[RowScores], log_unigram: np.ndarray) -> Arrays:
  """What a model answered, an entry an item.

  Args:
    test: with n items.
    asked: its rows.
    scores: of the rows.
    log_unigram: float64 [vocabulary], of the baseline.

  Returns:
    'cluster' int64 [n]. For 'choices': 'right', 1 where the first candidate has the highest score, 0 where another has,
    1 / m where m have it; and 'reciprocal_rank', ties counted half. Where there are gaps, of the first candidate's:
    'nll' and 'unigram' (nats), 'tokens', 'hits' (tokens that are the model's best), 'gaps', 'exact' (gaps of which all
    tokens are). Of a scorer that gives several samples, their means. All float64 [n].
  """
  items = test.items
  result: Arrays = {'cluster': np.array([item.cluster for item in items], np.int64)}
  if test.kind == 'choices':
    totals = [np.zeros(len(item.candidates)) for item in items]
    for (number, place, _), score in zip(asked, scores, strict=True):
      totals[number][place] += score.log_probs.sum()
    ranked = np.array([rank(total) for total in totals])
    result |= {'right': ranked[:, 0], 'reciprocal_rank': ranked[:, 1]}
  if not all(item.candidates[0].gaps for item in items):
    return result
  count = np.array([len(item.candidates[0].gaps) for item in items], np.float64)
  nll, base, tokens, hits = sums = np.zeros((4, len(items)))
  samples = np.ones(len(items))
  missed: list[set[tuple[int, int]]] = [set() for _ in items]
  for (number, place, row), score in zip(asked, scores, strict=True):
    inside = row.gaps < count[number]
    if place or not inside.any():
      continue
    nll[number] -= score.log_probs[inside].sum()
    base[number] -= log_unigram[row.targets[inside]].sum()
    tokens[number] += inside.sum()
    hit = score.best == row.targets
    hits[number] += (hit & inside).sum()
    missed[number].update((row.sample, gap) for gap in row.gaps[inside & ~hit].tolist())
    samples[number] = row.samples
  sums /= samples
  exact = count - np.array([len(gaps) for gaps in missed]) / samples
  return result | {'nll': nll, 'unigram': base, 'tokens': tokens, 'hits': hits, 'gaps': count, 'exact': exact}


def rank(totals: np.ndarray) -> tuple[float, float]:
  """Whether the first score is the highest, 1 / m where m are, and its reciprocal rank, ties counted half."""
  above, level = (totals[1:] > totals[0]).sum(), (totals[1:] == totals[0]).sum()
  return (0.0 if above else 1.0 / (1 + level)), 1.0 / (1 + above + level / 2)


# What a figure is: which array over which other one.
_RATIOS = {
  'loss': ('nll', 'tokens'),
  'unigram_loss': ('unigram', 'tokens'),
  'exact': ('exact', 'gaps'),
  'token_top1': ('hits', 'tokens'),
  'accuracy': ('right', None),
  'mrr': ('reciprocal_rank', None),
}


def figures(arrays: Arrays, inside: np.ndarray | None = None) -> dict[str, float]:
  """Figures of the items where `inside`, bool [items], is true (default: all), each with its standard error '_se'.

  Items of one cluster are one piece of evidence.
  """
  part = {name: value if inside is None else value[inside] for name, value in arrays.items()}
  clusters = np.unique(part['cluster'], return_inverse=True)[1]
  result = {}
  for name, (top, bottom) in _RATIOS.items():
    if top not in part:
      continue
    bottoms = part[bottom] if bottom else np.ones(len(clusters))
    sums = (np.bincount(clusters, weights=values) for values in (part[top], bottoms))
    result[name], error = ratio(*sums)
    if name != 'unigram_loss':
      result[f'{name}_se'] = error
  return result


def groups(test: Test, arrays: Arrays) -> dict[str, dict[str, dict[str, float]]]:
  """{grouping: {label: figures and 'items'}}, labels in the order of their first items."""
  result = {}
  for place, grouping in enumerate(test.groupings):
    labels = np.array([item.labels[place] for item in test.items])
    result[grouping] = {
      label: figures(arrays, labels == label) | {'items': int((labels == label).sum())} for label in _first(labels)
    }
  return result


def _first(labels: np.ndarray) -> Iterator[str]:
  return iter(dict.fromkeys(labels.tolist()))


def ratio(tops: np.ndarray, bottoms: np.ndarray) -> tuple[float, float]:
  """sum(tops) / sum(bottoms) and its standard error, the pairs being independent (linearised ratio estimator)."""
  if not bottoms.sum():
    return float('nan'), float('nan')
  value = tops.sum() / bottoms.sum()
  residual = tops - value * bottoms
  return float(value), float(np.sqrt((residual**2).sum()) / bottoms.sum())
