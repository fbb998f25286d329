"""The other one of the two Pythons that unmask runs on: 3.12 beside 3.11 and the other way round."""

import os
import pathlib
import shutil
import subprocess
import sys

NAME = 'python3.12' if sys.version_info[:2] == (3, 11) else 'python3.11'


def find() -> str:
  """Its path: $UNMASK_OTHER_PYTHON, on the path, or one of pyenv's; FileNotFoundError if there is none that runs."""
  known = pathlib.Path(os.environ.get('PYENV_ROOT', pathlib.Path.home() / '.pyenv'), 'versions')
  of_pyenv = sorted(map(str, known.glob(f'{NAME[6:]}*/bin/{NAME}')), reverse=True)
  ask = ['-c', 'import ensurepip, venv']
  runs = lambda path: subprocess.run([path, *ask], capture_output=True, check=False).returncode == 0
  for path in (os.environ.get('UNMASK_OTHER_PYTHON'), shutil.which(NAME), *of_pyenv):
    if path and runs(path):
      return path
  raise FileNotFoundError(f'There is no {NAME}; UNMASK_OTHER_PYTHON may give its path.')


if __name__ == '__main__':  # what pytest is to leave out here
  try:
    find()
  except FileNotFoundError as error:
    print(f'Nothing is installed for another Python. {error}', file=sys.stderr)
    print('--ignore=tests/integration/test_other_python.py')
