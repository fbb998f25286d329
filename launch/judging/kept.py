"""What was judged before: 'evaluation/<step>.json' and '.npz' of a model directory, a test at a time."""

import io
import json
from typing import Any

import numpy as np

from .. import files

NAME = 'evaluation'
Arrays = dict[str, np.ndarray]


class Kept:
  """The results of one checkpoint.

  Arrays are written before the figures, each with the digest of what was asked, so that a process that ends in between
  leaves figures and arrays of the same questions, or none.
  """

  def __init__(self, model_dir: str, step: int):
    """Reads what there is; what cannot be read counts as not there."""
    self._folder = files.path(model_dir) / NAME
    self._step = step
    self._json, self._npz = self._folder / f'{step}.json', self._folder / f'{step}.npz'
    self.facts: dict[str, Any] = {}
    self._arrays: Arrays = {}
    try:
      if self._json.exists() and self._npz.exists():
        facts = json.loads(self._json.read_text())
        with np.load(io.BytesIO(self._npz.read_bytes())) as file:
          self._arrays = dict(file)
        self.facts = dict(facts) if isinstance(facts['tests'], dict) else {}
    except Exception:  # a torn file may be anything; it is written anew
      self.facts, self._arrays = {}, {}

  def require(self, **how: str) -> None:
    """Forgets answers that were given in another way than these texts say, by their names among the facts."""
    if any(self.facts.get(name, text) != text for name, text in how.items()):
      self.facts, self._arrays = {}, {}

  def has(self, name: str, asked: str) -> bool:
    """Whether these questions were answered under this name."""
    test = self.facts.get('tests', {}).get(name)
    digest = self._arrays.get(f'{name}/asked')
    return isinstance(test, dict) and test.get('asked') == asked and digest is not None and str(digest) == asked

  def save(self, facts: dict[str, Any], name: str, test: dict[str, Any], arrays: Arrays) -> None:
    """Adds a test, in place of one of the same name.

    Args:
      facts: what is said of the checkpoint beside its tests.
      name: of the test.
      test: what the JSON file says of it, with 'asked'.
      arrays: by name, of one length.

    Raises:
      UserError: the files cannot be written.
    """
    others = {key: value for key, value in self._arrays.items() if not key.startswith(f'{name}/')}
    mine = {f'{name}/{key}': value for key, value in arrays.items()} | {f'{name}/asked': np.array(test['asked'])}
    self._arrays = others | mine
    self.facts = facts | {'tests': self.facts.get('tests', {}) | {name: test}}
    if not files.is_remote(self._folder):
      try:
        self._folder.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise files.unwritable(str(self._folder), error) from error
    content = io.BytesIO()
    np.savez_compressed(content, **self._arrays)  # pyrefly: ignore
    files.write_atomically(self._npz, content.getvalue())
    files.write_atomically(self._json, json.dumps(self.facts, indent=2))


def newest(model_dir: str) -> int | None:
  """The newest checkpoint that was judged; None if none was."""
  folder = files.path(model_dir) / NAME
  try:
    names = [path.name for path in folder.iterdir()]
  except (FileNotFoundError, NotADirectoryError):
    return None
  steps = [int(name[: -len('.json')]) for name in names if name.endswith('.json') and name[: -len('.json')].isdigit()]
  return max(steps, default=None)
