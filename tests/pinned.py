"""Virtual environments of their own for libraries whose pins contradict ours, made once under data/."""

import fcntl
import hashlib
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def python(name: str, requirements: str, *options: str) -> pathlib.Path:
  """The Python of an environment in which a file of requirements is installed.

  Args:
    name: of the environment; a change of the file makes another.
    requirements: the file's name, in the root.
    options: more of `pip install`.
  """
  pins = (ROOT / requirements).read_text()
  version = f'{sys.version_info.major}.{sys.version_info.minor}'
  folder = ROOT / 'data' / f'{name}-{version}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}'
  folder.parent.mkdir(exist_ok=True)
  with open(ROOT / 'data' / f'.{name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # workers share it
    if not (folder / 'whole').exists():
      subprocess.run([sys.executable, '-m', 'venv', '--clear', str(folder)], check=True)
      # What is imported is compiled then.
      pip = [folder / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile', *options]
      subprocess.run([*pip, '-r', ROOT / requirements], check=True)
      (folder / 'whole').touch()
  return folder / 'bin' / 'python'
