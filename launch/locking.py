"""One run a model directory: a lock that dies with its process."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TextIO

import jax

from .. import UserError
from . import files
from .checkpoints import all_agree

_NAME = '.lock'
BEAT = 20.0
"""Seconds between signs of life in a bucket."""

STALE = 3 * BEAT
"""Seconds without one after which the lock of a bucket is taken over."""


@contextlib.contextmanager
def alone(model_dir: str) -> Iterator[None]:
  """Inside, no other run is in here; of several processes of one run, the first holds the lock for all.

  Raises:
    UserError: somebody is; names who, as far as is known.
  """
  with contextlib.ExitStack() as held:
    refused = None
    if jax.process_index() == 0:
      try:
        held.enter_context(_in_bucket(model_dir) if files.is_remote(model_dir) else _on_disk(model_dir))
      except UserError as error:
        refused = error
    if not all_agree(refused is None):
      raise refused or UserError(f'{model_dir} is in use by another run; see what the first process says.')
    yield


@contextlib.contextmanager
def _on_disk(model_dir: str) -> Iterator[None]:
  """The kernel gives the lock back when its process ends, however it ends: a dead process leaves no hindrance."""
  path = os.path.join(model_dir, _NAME)
  while True:
    with open(path, 'a+') as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError as error:
        file.seek(0)
        raise _refusal(model_dir, file.read()) from error
      if not _is(file, path):  # its last owner has removed it meanwhile, and another may be there
        continue
      with contextlib.suppress(OSError):  # on a full disk nobody learns who is in here
        file.truncate(0)
        file.write(_me())
        file.flush()
      try:
        yield
      finally:
        with contextlib.suppress(OSError):
          os.remove(path)
      return


def _is(file: TextIO, path: str) -> bool:
  """Whether an open file is the one of that name."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def _in_bucket(model_dir: str) -> Iterator[None]:
  """An object with signs of life. Two runs that begin in the same second may both find it stale: the later one wins."""
  lock, me, end = files.path(model_dir) / _NAME, _me(), threading.Event()
  read = lambda: lock.read_text() if lock.exists() else ''
  before = read()
  if before and not _is_dead(before):
    print(f'unmask: {model_dir} is locked; waiting {STALE:.0f} s for a sign of life.', flush=True)
    time.sleep(STALE)
    if read() != before:
      raise _refusal(model_dir, read())

  def live() -> None:
    while not end.wait(BEAT):
      with contextlib.suppress(Exception):  # a bucket that cannot be reached now is reached the next time
        lock.write_text(json.dumps(json.loads(me) | {'sign_of_life': time.time()}))

  lock.write_text(me)
  thread = threading.Thread(target=live, name='lock', daemon=True)
  thread.start()
  try:
    yield
  finally:
    end.set()
    thread.join()
    with contextlib.suppress(Exception):
      lock.unlink()


def _me() -> str:
  since = time.strftime('%Y-%m-%d %H:%M:%S')
  return json.dumps({'host': socket.gethostname(), 'process': os.getpid(), 'since': since, 'id': uuid.uuid4().hex})


def _is_dead(holder: str) -> bool:
  """Whether the holder was a process of this host, and is no more."""
  try:
    found = json.loads(holder)
    if found['host'] != socket.gethostname():
      return False
    os.kill(int(found['process']), 0)
  except ProcessLookupError:
    return True
  except (ValueError, KeyError, TypeError, OSError):
    return False
  return False


def _refusal(model_dir: str, holder: str) -> UserError:
  try:
    found = json.loads(holder)
    who = f'process {found["process"]} on {found["host"]} since {found["since"]}'
  except (ValueError, KeyError, TypeError):
    who = 'another process'
  return UserError(
    f'{model_dir} is in use by {who}: one run at a time writes into a MODEL_DIR. Stop it first, or take another one.'
  )
