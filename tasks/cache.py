"""seqio's offline cache, written in this process: the layout that `seqio.Task` reads with `use_cached=True`."""

# seqio reads an example at a time, which costs more than everything that happens to it later. `read_documents` reads
# the same files in the same order, many documents a call.

import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from .. import UserError
from . import rows

_SHARDS = 8  # files a split; hosts that shard by file need no more than this
_COMPLETED = 'COMPLETED'  # seqio's name


def write_split(folder: str, split: str, examples: Iterable[dict[str, np.ndarray | str]]) -> dict[str, int]:
  """Writes one split of int32 [n] and text features; returns its statistics, 'examples' and 'targets_tokens'.

  Args:
    folder: the task's folder inside a cache directory.
    split: its name.
    examples: example i goes to file i % 8.
  """
  os.makedirs(folder, exist_ok=True)
  prefix = seqio.utils.get_cached_tfrecord_prefix(folder, split)
  writers = [tf.io.TFRecordWriter(f'{prefix}-{i:05d}-of-{_SHARDS:05d}') for i in range(_SHARDS)]
  stats = {'examples': 0, 'targets_tokens': 0}
  names: list[str] = []
  specs: dict[str, dict] = {}
  for number, example in enumerate(examples):
    names = names or sorted(example)
    features = {name: _feature(example[name]) for name in names}
    specs = {name: _spec(example[name]) for name in names}
    record = tf.train.Example(features=tf.train.Features(feature=features))
    writers[number % _SHARDS].write(record.SerializeToString())
    stats['examples'] += 1
    stats['targets_tokens'] += len(example['targets'])
  for writer in writers:
    writer.close()
  info = {
    'num_shards': _SHARDS,
    'features': specs,
    'seqio_version': seqio.__version__,
  }
  _write_json(seqio.utils.get_cached_info_path(folder, split), info)
  _write_json(seqio.utils.get_cached_stats_path(folder, split), stats)
  return stats


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
  prefix = seqio.utils.get_cached_tfrecord_prefix(folder, split)
  files = [f'{prefix}-{i:05d}-of-{_SHARDS:05d}' for i in range(_SHARDS)]
  spec = {name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in names}
  records = tf.data.Dataset.from_tensor_slices(files)
  # seqio's TFExampleDataSource takes turns in the same way.
  records = records.interleave(tf.data.TFRecordDataset, cycle_length=16, block_length=16)
  return records.batch(rows.DOCUMENTS_PER_BLOCK).map(
    lambda block: tf.io.parse_example(block, spec), num_parallel_calls=tf.data.AUTOTUNE
  )


def _write_json(path: str, value: dict) -> None:
  with open(path, 'w') as file:
    json.dump(value, file)
