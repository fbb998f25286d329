"""What the processes of one run tell each other where one of them fails.

A process that waits for another's part of a sum learns of its end by what broke, or not at all: Gloo tells those that
are connected to the one that is gone, a TPU nobody, and JAX's coordinator aborts whoever is left when it ends itself.
"""

import contextlib
import os
import sys
import threading
from typing import Any

from . import exits

_KEY = 'unmask/failed'
_EVERY = 1.0  # seconds between two looks
_GRACE = 3.0  # in which a process may notice by itself, and say what it saw
_GRACE_OF_FIRST = 10.0  # it coordinates: those that it leaves behind are aborted
_leaving = threading.Event()
_listeners: list[threading.Thread] = []


def message(reason: str) -> str:
  """What a process says that ends because another did."""
  return (
    f'another process of this run was lost ({reason}). The same command, started again on every host, goes on from the '
    'last checkpoint.'
  )


def listen(process: int) -> None:
  """Begins to look whether another process has told that it ends; this one then does so too, with `exits.LOST`.

  In a thread of its own, for the one that trains may wait inside XLA for ever.
  """
  client = _client()
  if client is not None:
    grace = _GRACE if process else _GRACE_OF_FIRST
    _listeners.append(threading.Thread(target=_listen, args=(client, grace), name='peers', daemon=True))
    _listeners[-1].start()


def hush() -> None:
  """Ends the listening: a thread that is inside JAX's client when Python ends would abort the process."""
  _leaving.set()
  while _listeners:
    _listeners.pop().join(_EVERY)


def tell(process: int, status: int) -> None:
  """Tells the others that this process ends with a status. Never fails."""
  client = _client()
  if client is not None:
    with contextlib.suppress(Exception):  # the coordinator is gone
      client.key_value_set(_KEY, f'process {process} ended with status {status}', allow_overwrite=True)


def _client() -> Any:
  from jax._src import distributed  # Orbax takes it from there too: JAX has no other store that processes share

  return distributed.global_state.client


def _listen(client: Any, grace: float) -> None:
  while not _leaving.wait(_EVERY):
    try:
      reason = client.key_value_try_get(_KEY)
    except Exception as error:
      if 'NOT_FOUND' in str(error):
        continue
      return  # the run is over, or its coordinator is: others tell of that
    if not _leaving.wait(grace):
      print(f'unmask: {message(reason)}', file=sys.stderr, flush=True)
      os._exit(exits.LOST)
