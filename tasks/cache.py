"""seqio's offline cache, written in this process: the layout that `seqio.Task` reads with `use_cached=True`.

seqio reads an example at a time, which costs more than everything that happens to it later. `read_documents` reads the
same files in the same order, many documents a call.
"""

import json
import os
from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf

from .. import UserError
from ..objectives.preprocessor import graph
from . import rows

_COMPLETED = 'COMPLETED'  # seqio's name


class Writer:
  """Writes the file of one shard of a split. A context manager: the file is whole when it is left.

  Attributes:
    stats: 'examples' and 'targets_tokens' written so far.
    specs: what seqio's reader needs to know of each feature; empty before the first example.
  """

  def __init__(self, folder: str, split: str, shard: int, shards: int):
    """
    Args:
      folder: the task's folder inside a cache directory.
      split: its name.
      shard: number of the file.
      shards: of the split.
    """
    os.makedirs(folder, exist_ok=True)
    self._file = tf.io.TFRecordWriter(_path(folder, split, shard, shards))
    self.stats = {'examples': 0, 'targets_tokens': 0}
    self.specs: dict[str, dict] = {}

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *exception) -> None:
    self._file.close()

  def write(self, example: dict[str, np.ndarray | str]) -> None:
    """Adds one document of int32 [n] and text features; equal documents give equal bytes."""
    self.specs = self.specs or {name: _spec(example[name]) for name in sorted(example)}
    features = {name: _feature(example[name]) for name in self.specs}
    record = tf.train.Example(features=tf.train.Features(feature=features))
    self._file.write(record.SerializeToString(deterministic=True))
    self.stats['examples'] += 1
    self.stats['targets_tokens'] += len(example['targets'])


def describe(folder: str, split: str, shards: int, specs: dict[str, dict], stats: dict[str, int]) -> None:
  """Writes what seqio wants to know of a split: the number of its files, its features and its statistics."""
  info = {'num_shards': shards, 'features': specs, 'seqio_version': seqio.__version__}
  _write_json(seqio.utils.get_cached_info_path(folder, split), info)
  _write_json(seqio.utils.get_cached_stats_path(folder, split), stats)


def _path(folder: str, split: str, shard: int, shards: int) -> str:
  return f'{seqio.utils.get_cached_tfrecord_prefix(folder, split)}-{shard:05d}-of-{shards:05d}'


def _feature(value: np.ndarray | str) -> tf.train.Feature:
  if isinstance(value, str):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=value.tolist()))


def _spec(value: np.ndarray | str) -> dict:
  """What seqio's reader needs to know of a feature."""
  return {'shape': [], 'dtype': 'string'} if isinstance(value, str) else {'shape': [None], 'dtype': 'int32'}


def complete(folder: str) -> None:
  """Marks a task's cache as whole, which seqio asks for, and notes the size of its files."""
  sizes = {name: os.path.getsize(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
  _write_json(os.path.join(folder, _COMPLETED), sizes)


def check(folder: str) -> None:
  """Raises UserError if a file of a finished cache is missing or has another size."""
  try:
    with open(os.path.join(folder, _COMPLETED)) as file:
      sizes = json.load(file)
  except (OSError, ValueError) as error:
    raise UserError(f'The cache {folder} is not whole ({error}); delete that folder, it is made again.') from error
  for name, size in sizes.items():
    path = os.path.join(folder, name)
    found = os.path.getsize(path) if os.path.exists(path) else 0
    if found != size:
      raise UserError(f'{path} is damaged: {found:,} bytes of {size:,}; delete {folder}, it is made again.')


def read_documents(folder: str, split: str, names: Sequence[str]) -> tf.data.Dataset:
  """The documents of a split, some at a time, in the order in which seqio reads them.

  Args:
    folder: the task's folder inside a cache directory.
    split: its name.
    names: features to read; the others cost nothing.

  Returns:
    A dataset of ragged int64 [documents, tokens] features.
  """
  with open(seqio.utils.get_cached_info_path(folder, split)) as file:
    shards = json.load(file)['num_shards']
  files = [_path(folder, split, shard, shards) for shard in range(shards)]
  spec = {name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in names}
  records = tf.data.Dataset.from_tensor_slices(files)
  # seqio's TFExampleDataSource takes turns in the same way.
  records = records.interleave(tf.data.TFRecordDataset, cycle_length=16, block_length=16)
  return records.batch(rows.DOCUMENTS_PER_BLOCK).map(
    graph(lambda block: tf.io.parse_example(block, spec)), num_parallel_calls=tf.data.AUTOTUNE
  )


def _write_json(path: str, value: dict) -> None:
  with open(path, 'w') as file:
    json.dump(value, file)
