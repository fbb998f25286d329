"""Hugging Face's libraries in a virtual environment of their own, asked for what they make of our files."""

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pinned

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SIDE = ROOT / 'tests' / 'transformers_side.py'


def python() -> pathlib.Path:
  """The Python of the environment: 2 to 3 minutes and 1.8 GB with a CPU build of torch."""
  return pinned.python('hugging-face', 'requirements-hf.txt', '--retries=1', '--timeout=15')


class Transformers:
  """A process of that Python, which answers one question after the other; see `transformers_side.py`."""

  def __init__(self, home: pathlib.Path):
    outside = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    offline = {'HF_HOME': str(home), 'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false', 'HOME': str(home)}
    self._log = home / 'transformers.log'
    with open(self._log, 'w') as log:
      self._process = subprocess.Popen(
        [python(), str(_SIDE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=outside | offline,
        cwd=home,
      )

  def ask(self, what: str, **arguments):
    """What the function `what` of the other side gives; AssertionError with its log if it fails."""
    self._process.stdin.write(json.dumps({'what': what, 'arguments': arguments}, default=str) + '\n')
    self._process.stdin.flush()
    line = self._process.stdout.readline()
    assert line, self._log.read_text()[-3000:]
    return json.loads(line)

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait(60)
    self._process.stdout.close()


@contextlib.contextmanager
def transformers(home: pathlib.Path) -> Iterator[Transformers]:
  home.mkdir(parents=True, exist_ok=True)
  made = Transformers(home)
  try:
    yield made
  finally:
    made.close()
