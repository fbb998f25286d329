"""What trained and judged runs say of themselves, and of each other: figures, intervals, who is best."""

import collections
import dataclasses
import io
import json
import os
import statistics
from collections.abc import Sequence

import numpy as np

from .. import UserError
from . import files, metrics

TEST_TITLES = {
  'left_to_right': 'Left to right',
  'masked': 'Masked, 15 %',
  'infill': 'Infill the middle',
  'salient': 'Salient spans',
}


@dataclasses.dataclass(frozen=True)
class Run:
  """What a model directory says of itself."""

  name: str
  seed: int
  model_dir: str
  done: dict
  realised: dict
  evaluation: dict
  model: dict
  rows: list[dict]
  operative: str
  by_cluster: dict[str, np.ndarray]

  @classmethod
  def read(cls, model_dir: str) -> 'Run':
    """Reads a trained and judged model directory; UserError naming the file that is missing."""

    folder = files.path(model_dir)

    def load(name: str, command: str) -> dict:
      path = folder / name
      if not path.exists():
        raise UserError(f'{model_dir!r} has no {name}; run unmask {command} on it first.')
      return json.loads(path.read_text())

    done, evaluation = load('done.json', 'train'), load('evaluation.json', 'evaluate')
    alone: dict = {'name': os.path.basename(os.path.normpath(model_dir)), 'axes': {'seed': 0}}
    cell = load('cell.json', 'sweep') if (folder / 'cell.json').exists() else alone
    name = 'operative_config.gin'
    try:
      operative = (folder / name).read_text()
      name = 'evaluation.npz'
      with np.load(io.BytesIO((folder / name).read_bytes())) as file:
        arrays = dict(file)
    except OSError as error:
      raise UserError(f'{folder / name} cannot be read ({files.reason(error)}); run unmask evaluate again.') from error
    return cls(
      cell['name'],
      cell['axes']['seed'],
      model_dir,
      done,
      load('realised.json', 'train'),
      evaluation,
      load('model.json', 'train'),
      metrics.read(model_dir),
      operative,
      arrays,
    )


@dataclasses.dataclass(frozen=True)
class Figure:
  """A mean with the half-width of its 95% interval, and how that was found."""

  mean: float
  half: float

  def text(self, scale: float = 1.0, digits: int = 2) -> str:
    return f'{self.mean * scale:.{digits}f} ± {self.half * scale:.{digits}f}'


# Two-sided 97.5% points of Student's t by degrees of freedom: few seeds need wide intervals.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def _interval(values: Sequence[float]) -> Figure:
  """Mean and 95% interval of two or more independent values."""
  freedom = len(values) - 1
  t = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.7 / freedom
  return Figure(statistics.fmean(values), t * statistics.stdev(values) / len(values) ** 0.5)


def figure(runs: Sequence[Run], test: str, key: str) -> Figure:
  """Over seeds where there are several, over questions where there is one."""
  values = [run.evaluation['tests'][test][key] for run in runs]
  if len(values) == 1:
    error = runs[0].evaluation['tests'][test].get(f'{key}_se', 0.0)
    return Figure(values[0], 1.96 * error)
  return _interval(values)


def difference(runs: Sequence[Run], others: Sequence[Run], test: str) -> Figure:
  """Loss of `runs` minus loss of `others`, paired: by seed where they share several, else by question on their first.

  All models answer the same questions, so most of the spread over questions cancels in the difference.
  """
  mine, theirs = ({run.seed: run for run in group} for group in (runs, others))
  shared = sorted(mine.keys() & theirs.keys())
  if len(shared) > 1:
    loss = lambda run: run.evaluation['tests'][test]['loss']
    return _interval([loss(mine[seed]) - loss(theirs[seed]) for seed in shared])
  (nll, tokens), (other, _) = runs[0].by_cluster[test], others[0].by_cluster[test]
  mean = (nll - other).sum() / tokens.sum()
  error = np.sqrt(((nll - other - mean * tokens) ** 2).sum()) / tokens.sum()
  return Figure(float(mean), 1.96 * float(error))


def best(groups: dict[str, list[Run]], test: str) -> tuple[str, set[str]]:
  """The objective of the lowest loss, and all that the paired intervals do not tell from it (itself included)."""
  first = min(groups, key=lambda name: figure(groups[name], test, 'loss').mean)
  gaps = {name: difference(runs, groups[first], test) for name, runs in groups.items()}
  return first, {name for name, gap in gaps.items() if name == first or gap.mean - gap.half <= 0}


def titles(groups: dict[str, list[Run]]) -> dict[str, str]:
  """Tests that these models were asked, with their titles."""
  asked = next(iter(groups.values()))[0].evaluation['tests']
  return {name: title for name, title in TEST_TITLES.items() if name in asked}


def group(runs: Sequence[Run]) -> dict[str, list[Run]]:
  """Runs by objective, in the order given."""
  groups: dict[str, list[Run]] = collections.defaultdict(list)
  for run in runs:
    groups[run.name].append(run)
  return dict(groups)
