"""The parameters of a checkpoint, read in the pieces that it was written in.

Orbax stores an array as zarr, in the parts that the devices of its run held. Read a part at a time, no more than one of
them is in memory, and each is decompressed once, however many layers lie in it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from ... import UserError
from .. import files


class Stored:
  """The parameters of one checkpoint."""

  def __init__(self, folder: epath.Path):
    """
    Args:
      folder: of the checkpoint, whose bytes have been checked.
    """
    self._folder = folder / 'state'
    self._context = tensorstore.Context({'cache_pool': {'total_bytes_limit': 0}})

  def open(self, leaf: tuple[str, ...]) -> 'Leaf':
    """One parameter by its path; UserError if it cannot be read."""
    spec = {'driver': 'zarr', 'kvstore': self._store(f'params.{".".join(leaf)}/')}
    try:
      store = tensorstore.open(spec, open=True, read=True, context=self._context).result()
    except ValueError as error:
      reason = files.reason(error)
      raise UserError(f'The checkpoint {self._folder.parent} has no parameter {".".join(leaf)} ({reason}).') from error
    return Leaf(store)

  def _store(self, name: str) -> dict[str, Any]:
    remote = files.is_remote(self._folder)
    place = str(self._folder) + '/'
    base: Any = place if remote else {'driver': 'file', 'path': place}
    return {'driver': 'ocdbt', 'base': base, 'path': name}


class Leaf:
  """One stored parameter.

  Attributes:
    shape, dtype: as it was saved.
  """

  def __init__(self, store: Any):
    self._store = store
    self.shape: tuple[int, ...] = tuple(store.shape)
    self.dtype: np.dtype = store.dtype.numpy_dtype

  def parts(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Where each stored part lies, and its values."""
    step = self._store.chunk_layout.read_chunk.shape or self.shape
    counts = [-(-size // part) for size, part in zip(self.shape, step, strict=True)]
    for number in np.ndindex(*counts):
      where = tuple(
        slice(n * part, min(size, (n + 1) * part)) for n, part, size in zip(number, step, self.shape, strict=True)
      )
      yield where, self._store[where].read().result()
