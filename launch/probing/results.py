"""A checkpoint's results of probes in the judge's file, `evaluation/<step>.json` and `.npz`, beside its other tests."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from ... import UserError
from .. import files


def read(model_dir: str, step: int) -> dict:
  """What is known of a checkpoint; {'checkpoint', 'tests': {}} if nothing. UserError if the file is damaged."""
  path = _path(model_dir, step)
  if not path.exists():
    return {'checkpoint': step, 'tests': {}}
  try:
    found = json.loads(path.read_text())
    if not isinstance(found['tests'], dict):
      raise TypeError('its tests are no table')
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise UserError(f'{path} is damaged ({error}); delete it, and judge and probe that model again.') from error
  return found


def merge(
  model_dir: str, step: int, facts: Mapping[str, object], name: str, entry: dict, arrays: dict[str, np.ndarray]
) -> None:
  """Writes one test, in place of what it was; every other test stays.

  Args:
    model_dir, step: of the checkpoint.
    facts: what a new file says besides.
    name: the test's.
    entry: its figures, see `figures.test_entry`.
    arrays: its values by item.
  """
  before = read(model_dir, step)
  path = _path(model_dir, step)
  path.parent.mkdir(parents=True, exist_ok=True)
  whole: dict[str, Any] = {key: value for key, value in _arrays(path).items() if key.rpartition('/')[0] != name}
  whole |= {f'{name}/{key}': value for key, value in arrays.items()}
  data = io.BytesIO()
  np.savez_compressed(data, **whole)
  files.write_atomically(_archive(path), data.getvalue())
  tests = before['tests'] | {name: entry}
  files.write_atomically(path, json.dumps({**facts, **before, 'tests': tests}, indent=2))


def _path(model_dir: str, step: int) -> epath.Path:
  return files.path(model_dir) / 'evaluation' / f'{step}.json'


def _archive(path: epath.Path) -> epath.Path:
  return path.with_name(f'{path.stem}.npz')


def _arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """What the judge and other probes left; UserError if it cannot be read."""
  archive = _archive(path)
  if not archive.exists():
    return {}
  try:
    with np.load(io.BytesIO(archive.read_bytes()), allow_pickle=False) as stored:
      return {key: stored[key] for key in stored.files}
  except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
    raise UserError(f'{archive} is damaged ({error}); delete it, and judge and probe that model again.') from error
