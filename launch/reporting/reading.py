"""What a trained and judged model directory says of itself, read strictly: what is damaged is named, not guessed."""

import dataclasses
import io
import json
import math
import os
import re
import zipfile
from typing import Any

import numpy as np
from etils import epath

from ... import UserError
from .. import files, metrics
from ..judging import kept

ARRAYS = {
  'gaps': ('nll', 'tokens', 'exact', 'gaps', 'cluster'),
  'choices': ('right', 'reciprocal_rank', 'cluster'),
  'probe': ('right', 'cluster'),
}
"""Arrays over items that a test of each kind has; float64 or int64 [items], of a probe [seeds of tuning x items]."""


@dataclasses.dataclass(frozen=True)
class Primary:
  """The figure by which a test is reported: its name, which way is better, its unit, and what knowing nothing gives."""

  figure: str
  better: str
  unit: str
  baseline: float | None
  baseline_is: str | None

  @property
  def sign(self) -> int:
    """1 where higher is better, -1 where lower is."""
    return 1 if self.better == 'higher' else -1


@dataclasses.dataclass(frozen=True)
class Test:
  """One model's answers to one set of questions.

  Attributes:
    figures: figure -> value; 'NAME_se' is the standard error over questions of 'NAME'.
    groups: grouping -> label -> figure -> value.
    arrays: see `ARRAYS`.
    overlap: the share of items that share long n-grams with the training text; None where nobody looked.
  """

  name: str
  title: str
  part: str
  kind: str
  asked: str
  questions: dict
  items: int
  primary: Primary
  figures: dict[str, float]
  groups: dict[str, dict[str, dict[str, float]]]
  arrays: dict[str, np.ndarray]
  overlap: float | None

  @property
  def value(self) -> float:
    """The primary figure."""
    return self.figures[self.primary.figure]


@dataclasses.dataclass(frozen=True)
class Run:
  """A model directory. `axes` are those of its sweep without the seed; `cell` is its 'cell.json', or {}.

  `broken` are titles of tests in which the model gave no number, as one that diverged does.
  """

  name: str
  axes: dict[str, str]
  seed: int
  model_dir: str
  checkpoint: int
  sees: str
  home: str
  tests: dict[str, Test]
  broken: tuple[str, ...]
  done: dict
  realised: dict
  model: dict
  cell: dict
  environment: dict
  rows: list[dict]
  operative: str

  def is_home(self, test: str) -> bool:
    """Whether the test asks in the form in which the objective was trained."""
    return self.home == test or test.startswith(f'{self.home}_') or test.endswith(f'_{self.home}')

  def binding(self, name: str) -> str | None:
    """The value that the run's configuration gives a macro or a parameter, as it is written there."""
    found = re.search(rf'^(?:\S*[./])?{re.escape(name)} = (.+)$', self.operative, re.MULTILINE)
    return found[1] if found else None


def read(model_dir: str) -> Run:
  """Reads a directory.

  Raises:
    UserError: it is not trained, not judged, or a file in it is damaged or missing; names the file and the mend.
  """
  folder = files.path(model_dir)
  done = _object(folder, 'done.json', 'train')
  step = _newest_judged(folder, model_dir)
  evaluation = _object(folder, f'evaluation/{step}.json', 'evaluate')
  cell = _object(folder, 'cell.json', 'sweep') if _exists(folder / 'cell.json') else {}
  model = _object(folder, 'model.json', 'train')
  axes = {str(axis): label for axis, label in cell.get('axes', {}).items()}
  base = os.path.basename(os.path.normpath(model_dir))
  seed = axes.pop('seed', model.get('seed', 0))
  path = folder / 'cell.json'
  if not isinstance(seed, int):
    raise _damaged(path, f'the seed is {seed!r}, which is no whole number', 'sweep')
  try:
    tests, broken = _tests(folder / 'evaluation' / f'{step}', evaluation)
  except UserError:
    raise
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(folder / 'evaluation' / f'{step}.json', _wrong(error), 'evaluate') from error
  return Run(
    name=str(cell.get('name', base)),
    axes={axis: str(label) for axis, label in axes.items()},
    seed=seed,
    model_dir=str(model_dir),
    checkpoint=step,
    sees=str(evaluation.get('sees', '?')),
    home=str(evaluation.get('home', '')),
    tests=tests,
    broken=broken,
    done=done,
    realised=_object(folder, 'realised.json', 'train'),
    model=model,
    cell=cell,
    environment=_object(folder, 'environment.json', 'train') if _exists(folder / 'environment.json') else {},
    rows=_rows(folder, model_dir),
    operative=_text(folder / 'operative_config.gin', 'train'),
  )


def _newest_judged(folder: epath.Path, model_dir: str) -> int:
  """The newest update whose checkpoint was judged."""
  try:
    step = kept.newest(model_dir)
  except Exception as error:
    raise UserError(f'{folder / "evaluation"} cannot be read: {files.reason(error)}.') from error
  if step is None:
    judges = 'run unmask evaluate on it first, or unmask probe if it has no scorer'
    raise UserError(f'{model_dir!r} has no evaluation/STEP.json; {judges}.')
  return step


def _tests(stem: epath.Path, evaluation: dict) -> tuple[dict[str, Test], tuple[str, ...]]:
  """The tests of one evaluation, in its order; and the titles of those without a number."""
  arrays = _arrays(stem.with_name(f'{stem.name}.npz'))
  tests: dict[str, Test] = {}
  broken = []
  for name, said in evaluation['tests'].items():
    mine = {key[len(name) + 1 :]: value for key, value in arrays.items() if key.startswith(f'{name}/')}
    items = int(said['items'])
    for array in ARRAYS[said['kind']]:
      if not _fits(mine, array, items, said['kind']):
        have = f'{len(mine[array])} values' if array in mine else 'nothing'
        found = f'{name} has {items} items and {name}/{array} {have}'
        raise _damaged(stem.with_name(f'{stem.name}.npz'), found, 'evaluate')
    primary = Primary(**{field.name: said['primary'].get(field.name) for field in dataclasses.fields(Primary)})
    if primary.better not in ('lower', 'higher') or not isinstance(said['figures'].get(primary.figure), int | float):
      raise ValueError(f'{name} has no primary figure')
    if not math.isfinite(said['figures'][primary.figure]):
      broken.append(str(said['title']))
      continue
    tests[name] = Test(
      name=name,
      title=str(said['title']),
      part=str(said['part']),
      kind=said['kind'],
      asked=str(said['asked']),
      questions=dict(said.get('questions', {})),
      items=items,
      primary=primary,
      figures={key: value for key, value in said['figures'].items() if isinstance(value, int | float)},
      groups=said.get('groups', {}),
      arrays=mine,
      overlap=said.get('overlap'),
    )
  if not tests:
    raise ValueError(f'it holds no test{" with a number: the model has diverged" if broken else ""}')
  return tests, tuple(broken)


def _fits(arrays: dict[str, np.ndarray], name: str, items: int, kind: str) -> bool:
  """Whether there is a value for each item; of a probe, for each item and seed of tuning, one seed after another."""
  if name not in arrays:
    return False
  count = len(arrays[name])
  return count == items or (kind == 'probe' and count == len(arrays['right']) and items > 0 and count % items == 0)


def _arrays(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
      return dict(file)
  except FileNotFoundError as error:
    raise UserError(f'{path} is missing; run unmask evaluate again.') from error
  except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
    raise _damaged(path, _wrong(error), 'evaluate') from error
  except Exception as error:  # zlib's own, and a bucket's
    raise _damaged(path, _wrong(error), 'evaluate') from error


def _object(folder: epath.Path, name: str, command: str) -> dict[str, Any]:
  """A JSON object; UserError that says which command makes it."""
  path = folder / name
  if not _exists(path):
    raise UserError(f'{str(folder)!r} has no {name}; run unmask {command} on it first.')
  try:
    value = json.loads(_text(path, command))
  except ValueError as error:
    raise _damaged(path, _wrong(error), command) from error
  if not isinstance(value, dict):
    raise _damaged(path, 'it holds no JSON object', command)
  return value


def _rows(folder: epath.Path, model_dir: str) -> list[dict]:
  try:
    return metrics.read(model_dir)
  except (ValueError, OSError) as error:
    raise _damaged(folder / 'metrics.jsonl', _wrong(error), 'train') from error


def _text(path: epath.Path, command: str) -> str:
  try:
    return path.read_text()
  except FileNotFoundError as error:
    raise UserError(f'{path} is missing; run unmask {command} again.') from error
  except Exception as error:
    raise _damaged(path, _wrong(error), command) from error


def _exists(path: epath.Path) -> bool:
  try:
    return path.exists()
  except Exception as error:  # of a bucket: gcsfs has errors of many kinds
    raise UserError(f'{path} cannot be read: {files.reason(error)}.') from error


def _wrong(error: Exception) -> str:
  return f'no {error}' if isinstance(error, KeyError) else files.reason(error)


def _damaged(path: epath.Path, what: str, command: str) -> UserError:
  return UserError(f'{path} is damaged ({what}); bring it back from a copy, or run unmask {command} again.')
