"""The lines of 'metrics.jsonl': whole lines only, in order, whatever becomes of the disk.

An object in a bucket cannot be appended to, only replaced. There the lines go on in 'metrics.1.jsonl',
'metrics.2.jsonl' and so on, so that a line never costs more than one small object.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

from etils import epath

from . import files

PART_BYTES = 1 << 18
"""An object of so many bytes is followed by another."""


def _part(folder: epath.Path, number: int) -> epath.Path:
  return folder / (f'metrics.{number}.jsonl' if number else 'metrics.jsonl')


def _parts(folder: epath.Path) -> Iterator[str]:
  """The texts of the parts there are."""
  number = 0
  while True:
    try:
      yield _part(folder, number).read_text()
    except FileNotFoundError:
      return
    number += 1


def read(folder: epath.Path) -> list[str]:
  """All whole lines, in order; one that was cut off by a crash is left out."""
  return [line for text in _parts(folder) for line in text.split('\n')[:-1]]


class Lines:
  """Adds lines to those that are in a folder."""

  def __init__(self, folder: epath.Path, keep: Callable[[str], bool]):
    """Takes back the lines there that `keep` is not true of; they are the last ones.

    Raises:
      UserError: the folder cannot be written.
    """
    self._folder = folder
    texts = list(_parts(folder))
    kept = [''.join(f'{line}\n' for line in text.split('\n')[:-1] if keep(line)) for text in texts] or ['']
    # From the last to the first: were this to stop in between, what is left would be a beginning.
    for number in reversed(range(len(kept))):
      if number and not kept[number]:
        _part(folder, number).unlink()
      elif number >= len(texts) or kept[number] != texts[number]:
        files.write_atomically(_part(folder, number), kept[number])
    self._number = max((number for number, text in enumerate(kept) if text), default=0)
    self._text = kept[self._number]  # what the last part holds; of a local one only the size is needed
    self._size = len(self._text.encode())

  def append(self, text: str) -> None:
    """Adds whole lines; if that fails, none of them count as there, and the same call may be tried again.

    Raises:
      OSError: of a local disk.
      Exception: whatever gcsfs raises, after it has tried several times.
    """
    if files.is_remote(self._folder):
      full = len(self._text) >= PART_BYTES
      number, whole = (self._number + 1, text) if full else (self._number, self._text + text)
      _part(self._folder, number).write_text(whole)
      self._number, self._text = number, whole
    else:
      self._append_locally(text.encode())

  def _append_locally(self, data: bytes) -> None:
    # Opened for each call: nothing is held that a disk which went away and came back would make stale.
    descriptor = os.open(_part(self._folder, self._number), os.O_WRONLY | os.O_CREAT, 0o666)
    with open(descriptor, 'wb', buffering=0) as file:
      start = min(self._size, file.seek(0, os.SEEK_END))
      file.truncate(start)  # what an earlier call began and could not cut back
      file.seek(start)
      try:
        rest = memoryview(data)
        while rest:  # a disk that fills up takes a part first
          rest = rest[file.write(rest) :]
      except OSError:
        with contextlib.suppress(OSError):
          file.truncate(start)
        raise
      self._size = start + len(data)
