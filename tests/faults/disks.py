"""Real small disks, which tests fill up and make read-only: a tmpfs of a few megabytes."""

import contextlib
import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def small_disk(path: str | os.PathLike, megabytes: int = 1) -> Iterator[pathlib.Path]:
  """Mounts an empty disk of so many megabytes at `path`, which is made if need be; always unmounts it.

  Only root may mount: give a test that uses this the decorator `mounts`.

  Raises:
    subprocess.CalledProcessError: this user may not mount.
  """
  folder = pathlib.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)], check=True)
  try:
    yield folder
  finally:
    # Lazily, so that a file which a failed test left open does not keep the disk.
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(folder: str | os.PathLike, leave: int = 0) -> pathlib.Path:
  """Fills the disk that `folder` is on with one file, but for about `leave` bytes; removing the file frees it."""
  filler = pathlib.Path(folder) / 'filler'
  with contextlib.suppress(OSError), open(filler, 'ab', buffering=0) as file:
    while file.write(bytes(4096)):  # a full disk takes a part, then raises
      pass
  if leave:
    os.truncate(filler, max(0, filler.stat().st_size - leave))
  return filler


@contextlib.contextmanager
def read_only(disk: str | os.PathLike) -> Iterator[None]:
  """The disk mounted at `disk` takes no writes inside; no file may be open for writing when this begins."""
  subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
  try:
    yield
  finally:
    subprocess.run(['mount', '-o', 'remount,rw', str(disk)], check=True)


def mounts(test: Callable) -> Callable:
  """A test that mounts: not run by root, it runs again in a user namespace of its own, where mounting is allowed."""

  @functools.wraps(test)
  def run(*args, **kwargs):
    if os.geteuid() == 0:
      return test(*args, **kwargs)
    name = os.environ['PYTEST_CURRENT_TEST'].rsplit(' (', 1)[0]
    command = ['unshare', '--map-root-user', '--mount', sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
    done = subprocess.run([*command, name], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
      pytest.fail(f'{done.stdout}\n{done.stderr}'[-4000:], pytrace=False)
    return None

  return run
