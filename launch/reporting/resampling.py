"""Drawing questions and seeds again: what a figure would have been by other questions, and by other trainings."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from .reading import Test

DRAWS = 10_000
MIN_CLUSTERS = 10
"""With fewer clusters of questions a bootstrap finds too much: nothing is drawn."""

_CHUNK = 1 << 23


def ratio_arrays(test: Test) -> tuple[np.ndarray, np.ndarray] | None:
  """Of each item, what the primary figure sums above and below the line: float64 [items] each.

  None where the figure is no such ratio, as of a mean of means: then there is nothing to draw from.
  """
  arrays, figure = test.arrays, test.primary.figure
  above = {'loss': 'nll', 'accuracy': 'right', 'mrr': 'reciprocal_rank'}.get(figure, figure)
  below = {'loss': 'tokens', 'exact': 'gaps'}.get(figure) if test.kind == 'gaps' else None
  if test.kind != 'gaps' and above not in arrays:
    above = 'right'
  if above not in arrays or len(arrays[above]) == 0:
    return None
  tops = arrays[above].astype(float)
  bottoms = arrays[below].astype(float) if below else np.ones(len(tops))
  if not bottoms.sum() or not np.isclose(tops.sum() / bottoms.sum(), test.value, rtol=1e-5, atol=1e-7):
    return None
  return tops, bottoms


def draw(tests: Mapping[tuple[str, int], Test], name: str) -> tuple[dict[tuple[str, int], np.ndarray], int]:
  """The primary figure of each run on the same `DRAWS` draws of clusters of questions; and how many clusters there are.

  Drawn are as many clusters as there are, with replacement.
  """
  ratios = {key: ratio_arrays(test) for key, test in tests.items()}
  if not ratios or any(ratio is None for ratio in ratios.values()):
    return {}, 0
  clusters = np.unique(next(iter(tests.values())).arrays['cluster'], return_inverse=True)[1]
  count = int(clusters.max()) + 1
  if count < MIN_CLUSTERS:
    return {}, count
  summed = [np.bincount(clusters, part, count) for ratio in ratios.values() if ratio for part in ratio]
  sums = np.stack(summed, axis=1)  # [clusters, 2 x runs]
  random = np.random.default_rng([zlib.crc32(name.encode()), count])
  drawn = []
  size = max(1, _CHUNK // count)
  for start in range(0, DRAWS, size):
    many = min(size, DRAWS - start)
    picked = random.integers(count, size=(many, count)) + count * np.arange(many)[:, None]
    drawn.append(np.bincount(picked.ravel(), minlength=many * count).reshape(many, count) @ sums)
  totals = np.concatenate(drawn)
  with np.errstate(invalid='ignore', divide='ignore'):
    values = totals[:, 0::2] / totals[:, 1::2]  # of a draw without a token: nan, and left out below
  return {key: values[:, place] for place, key in enumerate(ratios)}, count


def draw_seeds(drawn: Sequence[np.ndarray], name: str) -> np.ndarray:
  """The mean over seeds, which are drawn with replacement for each draw of questions: [DRAWS]."""
  stacked, count = np.stack(drawn), len(drawn)
  if count == 1:
    return stacked[0]
  random = np.random.default_rng([zlib.crc32(name.encode()), count, 1])
  return np.take_along_axis(stacked, random.integers(count, size=(count, stacked.shape[1])), axis=0).mean(0)


def crossing(drawn: np.ndarray) -> float:
  """Two-sided p-value: how often draws of a difference come to lie on the other side of zero, or on it."""
  drawn = drawn[~np.isnan(drawn)]
  tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
  return min(1.0, float(2 * (tail + 1) / (len(drawn) + 1)))
