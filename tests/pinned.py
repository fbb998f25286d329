"""Virtual environments, made once under data/: for libraries whose pins contradict ours, and for another Python."""

import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def python(name: str, requirements: str, *options: str, of: str = sys.executable) -> pathlib.Path:
  """The Python of an environment in which a file of requirements is installed.

  Args:
    name: of the environment; a change of the file makes another.
    requirements: the file's name, in the root.
    options: more of `pip install`.
    of: the Python that it is made with.
  """
  pins = (ROOT / requirements).read_text()
  ask = [of, '-c', 'import sys; print("%d.%d" % sys.version_info[:2])']
  version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
  folder = ROOT / 'data' / f'{name}-{version}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}'
  folder.parent.mkdir(exist_ok=True)
  with open(ROOT / 'data' / f'.{name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # workers share it
    if not (folder / 'whole').exists():
      subprocess.run([of, '-m', 'venv', '--clear', str(folder)], check=True)
      # What is imported is compiled then.
      pip = [folder / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile', *options]
      subprocess.run([*pip, '-r', ROOT / requirements], check=True)
      (folder / 'whole').touch()
  return folder / 'bin' / 'python'


def source(folder: pathlib.Path) -> pathlib.Path:
  """A copy of what the wheel is made of, for building writes beside it."""
  made = {'build', 'data', 'runs', 'tests', 'docs', '__pycache__'} | {path.name for path in ROOT.glob('*.egg-info')}
  ignored = lambda at, names: [name for name in names if at == str(ROOT) and (name in made or name[0] == '.')]
  return shutil.copytree(ROOT, folder / 'unmask-source', ignore=ignored)
