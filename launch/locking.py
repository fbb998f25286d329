"""One run a model directory: a lock that dies with its process."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator

from .. import UserError


@contextlib.contextmanager
def alone(model_dir: str) -> Iterator[None]:
  """Inside, no other process is in here; UserError that names who is, if somebody is.

  The kernel gives the lock back when its process ends, however it ends: one that a dead process left is no hindrance.
  """
  path = os.path.join(model_dir, '.lock')
  try:
    file = open(path, 'a+')  # noqa: SIM115  held, and closed below
  except OSError as error:
    raise UserError(f'MODEL_DIR {model_dir!r} cannot be written: {error.strerror}.') from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise UserError(
        f'{model_dir} is in use by {_holder(file)}: one run at a time writes into a MODEL_DIR. '
        'Stop it first, or use another MODEL_DIR.'
      ) from error
    with contextlib.suppress(OSError):  # on a full disk nobody learns who is in here
      file.truncate(0)
      holder = {'host': socket.gethostname(), 'process': os.getpid(), 'since': time.strftime('%Y-%m-%d %H:%M:%S')}
      file.write(json.dumps(holder))
      file.flush()
    yield


def _holder(file) -> str:
  """Who wrote into the lock."""
  try:
    file.seek(0)
    found = json.load(file)
    return f'process {found["process"]} on {found["host"]} since {found["since"]}'
  except (OSError, ValueError, KeyError, TypeError):
    return 'another process'
