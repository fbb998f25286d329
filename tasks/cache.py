"""seqio's offline cache, written in this process: the layout that `seqio.Task` reads with `use_cached=True`."""

import json
import os
from collections.abc import Iterable

import numpy as np
import seqio
import tensorflow as tf

_SHARDS = 8  # files a split; hosts that shard by file need no more than this


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
  """Marks a task's cache as whole; seqio reads no other."""
  with open(os.path.join(folder, 'COMPLETED'), 'w') as file:
    file.write('')


def _write_json(path: str, value: dict) -> None:
  with open(path, 'w') as file:
    json.dump(value, file)
