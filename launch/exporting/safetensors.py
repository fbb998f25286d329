"""Files of safetensors, read and written a tensor at a time: https://huggingface.co/docs/safetensors#format.

A file is the length of its header (uint64, little end first), the header as JSON ({name: {dtype, shape,
data_offsets}}), and the tensors' bytes, rows first. The library of that name writes a file from tensors that are all in
memory, and its NumPy side knows no bfloat16; here a file is made at its full size first, and filled in any order.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ... import UserError

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
_TYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(jnp.bfloat16),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LONGEST_HEADER = 100_000_000  # as in the library
_SIZE = re.compile(r'(\d+(?:\.\d+)?) ?([KMGT]?)B\Z')


def parse_size(text: str) -> int:
  """Bytes of a size such as '5GB' or '200MB' (powers of 1000, as `transformers` reads it); UserError if it is none."""
  found = _SIZE.match(text.strip().upper())
  size = int(float(found[1]) * 1000 ** ' KMGT'.index(found[2] or ' ')) if found else 0
  if size < 1:
    raise UserError(f'{text!r} is no size; write it as 5GB or 200MB.')
  return size


class Writer:
  """The files of one model, filled tensor by tensor."""

  def __init__(self, folder: str, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype, shard_bytes: int):
    """Makes the files, whole in size, and the index where there are several.

    Args:
      folder: an empty one.
      shapes: by name, in the order they are laid out in.
      dtype: of all tensors.
      shard_bytes: tensors of a file, at most, where it holds more than one.

    Raises:
      OSError: there is no room for them.
    """
    self._folder, self._dtype, self._shapes = folder, np.dtype(dtype), dict(shapes)
    self._places: dict[str, tuple[str, int]] = {}  # file and first byte
    shards = self._shards(shard_bytes)
    total = sum(map(self._bytes, self._shapes))
    for number, names in enumerate(shards, 1):
      file = SINGLE if len(shards) == 1 else f'model-{number:05d}-of-{len(shards):05d}.safetensors'
      self._begin(file, names)
    if len(shards) > 1:
      index = {'metadata': {'total_size': total}, 'weight_map': {name: self._places[name][0] for name in self._shapes}}
      with open(os.path.join(folder, INDEX), 'w') as file:
        json.dump(index, file, indent=2)

  def _bytes(self, name: str) -> int:
    return math.prod(self._shapes[name]) * self._dtype.itemsize

  def _shards(self, most: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = most
    for name in self._shapes:
      if shards[-1] and self._bytes(name) > room:
        shards.append([])
        room = most
      shards[-1].append(name)
      room -= self._bytes(name)
    return shards

  def _begin(self, file: str, names: Sequence[str]) -> None:
    header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
    end = 0
    for name in names:
      begin, end = end, end + self._bytes(name)
      header[name] = {'dtype': _NAMES[self._dtype], 'shape': list(self._shapes[name]), 'data_offsets': [begin, end]}
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # so that tensors lie at multiples of their items
    with open(os.path.join(self._folder, file), 'wb') as out:
      out.write(len(text).to_bytes(8, 'little') + text)
      out.flush()
      if end:
        # A full disk is found out here; found by a mapped page it would be a signal that ends the process.
        os.posix_fallocate(out.fileno(), 8 + len(text), end)
    for name in names:
      self._places[name] = file, 8 + len(text) + header[name]['data_offsets'][0]

  @contextlib.contextmanager
  def open(self, name: str) -> Iterator[np.ndarray]:
    """The tensor in its file, to be assigned to."""
    file, begin = self._places[name]
    path = os.path.join(self._folder, file)
    mapped = np.memmap(path, self._dtype, 'r+', offset=begin, shape=self._shapes[name])
    yield mapped
    mapped.flush()


class Reader:
  """The tensors of a folder, by name.

  Attributes:
    shapes, dtypes: by name.
  """

  def __init__(self, folder: str):
    """UserError if there are no files of safetensors, or damaged ones."""
    self._folder = folder
    self._places: dict[str, tuple[str, int]] = {}
    self.shapes: dict[str, tuple[int, ...]] = {}
    self.dtypes: dict[str, np.dtype] = {}
    for file in self._files():
      try:
        self._add(file)
      except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f'{os.path.join(folder, file)} is no whole file of safetensors ({error}).') from error

  def _files(self) -> list[str]:
    index = os.path.join(self._folder, INDEX)
    if os.path.exists(index):
      try:
        with open(index) as file:
          named = {str(name) for name in json.load(file)['weight_map'].values()}
      except (OSError, ValueError, LookupError, AttributeError) as error:
        raise UserError(f'{index} is damaged ({error}).') from error
      if stray := [name for name in named if os.path.basename(name) != name]:
        raise UserError(f'{index} names {stray[0]!r}, which is not a file beside it.')
      return sorted(named)
    if os.path.exists(os.path.join(self._folder, SINGLE)):
      return [SINGLE]
    raise UserError(
      f'{self._folder!r} has no {SINGLE} and no {INDEX}; weights in other formats are not read: save them with '
      "transformers' save_pretrained."
    )

  def _add(self, file: str) -> None:
    path = os.path.join(self._folder, file)
    with open(path, 'rb') as opened:
      size = int.from_bytes(opened.read(8), 'little')
      if size > _LONGEST_HEADER:
        raise ValueError(f'its header would have {size:,} bytes')
      header = json.loads(opened.read(size))
    room = os.path.getsize(path) - 8 - size
    for name, entry in header.items():
      if name == '__metadata__':
        continue
      if entry['dtype'] not in _TYPES:
        raise ValueError(f'{name} is of type {entry["dtype"]}; {", ".join(_TYPES)} can be read')
      dtype, shape = _TYPES[entry['dtype']], tuple(int(n) for n in entry['shape'])
      begin, end = entry['data_offsets']
      if min((*shape, begin)) < 0 or end - begin != math.prod(shape) * dtype.itemsize or end > room:
        raise ValueError(f'{name} does not lie inside it')
      self._places[name], self.shapes[name], self.dtypes[name] = (file, 8 + size + begin), shape, dtype

  def read(self, name: str) -> np.ndarray:
    """The tensor, mapped from its file: pages are read as they are used."""
    file, begin = self._places[name]
    path = os.path.join(self._folder, file)
    if not math.prod(self.shapes[name]):
      return np.zeros(self.shapes[name], self.dtypes[name])
    return np.memmap(path, self.dtypes[name], 'r', offset=begin, shape=self.shapes[name])
