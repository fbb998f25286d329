"""Whether a checkpoint is what was saved: the size and the digest of each of its files, written once it is whole.

Orbax makes a checkpoint appear all at once, so that one cut off by a crash is never taken for whole. What happens to
its bytes afterwards nobody tells: a flipped one inside compressed floats reads as other floats.
"""

import hashlib
import json
from concurrent import futures

from etils import epath

from . import files

NAME = 'integrity.json'
_CHUNK = 1 << 22


def record(folder: epath.Path) -> None:
  """Writes the sizes and digests of the files of a checkpoint beside them.

  Raises:
    OSError: a file cannot be read.
    UserError: the record cannot be written.
  """
  files.write_atomically(folder / NAME, json.dumps(_measure(folder)))


def is_recorded(folder: epath.Path) -> bool:
  """Whether `record` was done."""
  return (folder / NAME).exists()


def problem(folder: epath.Path) -> str | None:
  """What is wrong with the files of a checkpoint, in words that name the first; None if nothing is known to be."""
  if not is_recorded(folder):  # the process ended between the checkpoint and its record
    return None
  try:
    before = json.loads((folder / NAME).read_text())
    now = _measure(folder, {name: kept[1] is not None for name, kept in before.items()})
  except (ValueError, TypeError, LookupError):
    return f'{NAME} is damaged'
  except OSError as error:
    return f'it cannot be read: {error.strerror or error}'
  for name, (size, digest) in before.items():
    if name not in now:
      return f'{name} is missing'
    if now[name][0] != size:
      return f'{name} has {now[name][0]:,} bytes instead of {size:,}'
    if digest is not None and now[name][1] != digest:
      return f'{name} holds other bytes than were written'
  return None


def _measure(folder: epath.Path, digested: dict[str, bool] | None = None) -> dict[str, list]:
  """[size, digest] by the name of each file.

  Object stores keep and check digests of their own: there sizes will do, and nothing is read again.
  """
  local = '://' not in str(folder)
  found = {}
  pending = [folder]
  while pending:
    for path in pending.pop().iterdir():
      if path.is_dir():
        pending.append(path)
      elif NAME not in path.name:  # nor what a crash left of writing it
        found[str(path.relative_to(folder))] = path
  wanted = lambda name: local and (digested is None or digested.get(name, False))
  with futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix='digest') as pool:  # hashing frees Python's lock
    digests = pool.map(lambda pair: _digest(pair[1]) if wanted(pair[0]) else None, found.items())
    return {name: [path.stat().length, digest] for (name, path), digest in zip(found.items(), digests, strict=True)}


def _digest(path: epath.Path) -> str:
  digest = hashlib.blake2b(digest_size=16)
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()
