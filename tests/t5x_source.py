"""t5x, which is on no package index: where it is, and how to get it."""

import importlib.machinery
import os
import sys

NEEDED = ('t5x', 'airio', 'jestimator', 'fiddle', 'chex', 'cached_property')  # what its train.py imports beside ours
HOW = 'docs/t5x.md says how to get it; UNMASK_T5X may name the folders, with : between them, that hold it'


def find() -> list[str]:
  """Folders to put on the path so that t5x can be imported, none if it can be already; FileNotFoundError if it cannot.

  Nothing is imported: t5x takes ten seconds.
  """
  folders = [path for path in os.environ.get('UNMASK_T5X', '').split(os.pathsep) if path]
  spec = importlib.machinery.PathFinder.find_spec
  missing = [name for name in NEEDED if spec(name, [*folders, *sys.path]) is None]
  if missing:
    raise FileNotFoundError(f'There is no {", ".join(missing)}: {HOW}.')
  return folders


if __name__ == '__main__':  # what pytest is to leave out here
  try:
    find()
  except FileNotFoundError as error:
    print(f'Nothing is run under t5x itself. {error}', file=sys.stderr)
    print('--ignore=tests/integration/test_t5x.py')
