"""Documents to rows of one length, as a seqio preprocessor of graph functions. TensorFlow.

Documents are laid end to end and cut every `length - 1` tokens; a row is `bos` and one such cut, or the cut alone
where it begins with a document (then with one position of padding). So every token of the corpus is in exactly one
row, every segment starts with `bos`, and the rows are the same for every objective.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from .. import UserError
from ..objectives.base import SpecialTokens

_DOCUMENTS_PER_BLOCK = 256  # laid end to end at a time; the last row of a block is filled up with padding
WHOLE_UNITS = ('salient_ids',)  # a salient span that a row's edge would cut is none


def to_rows(
  special: SpecialTokens, units: tuple[str, ...] = ()
) -> Callable[[tf.data.Dataset, Mapping[str, int] | None], tf.data.Dataset]:
  """`make_rows` as a seqio preprocessor, to be the last of a task: rows of `sequence_length['targets']` tokens."""

  def rows(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None) -> tf.data.Dataset:
    if not sequence_length or not sequence_length.get('targets'):
      raise UserError("Rows need a length: give sequence_length={'targets': N}.")
    return make_rows(dataset, sequence_length['targets'], special, units)

  return rows


def make_rows(dataset: tf.data.Dataset, length: int, special: SpecialTokens, units: tuple[str, ...]) -> tf.data.Dataset:
  """Rows with their number in the corpus.

  Args:
    dataset: documents with int32 [tokens] features: 'targets' and those named in `units`. A missing `bos` or `eos` is
      added.
    length: tokens of a row.
    special: the reserved ids.
    units: names of unit features to carry along.

  Returns:
    A dataset of int32 [length] features 'targets', 'segment_ids' and the units, with a scalar int64 'example_id'.
  """
  names = ('targets', *units)

  def close(document: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    tokens = tf.cast(document['targets'], tf.int32)
    front = tf.cast(tf.not_equal(tokens[:1], special.bos), tf.int32)
    back = tf.cast(tf.not_equal(tokens[-1:], special.eos), tf.int32)
    ends = [[tf.reduce_sum(front), tf.reduce_sum(back)]]
    result = {name: tf.pad(tf.cast(document[name], tf.int32), ends) for name in names}
    first = tf.range(tf.shape(result['targets'])[0]) == 0
    tokens = tf.where(first, special.bos, result['targets'])
    last = tf.range(tf.shape(tokens)[0]) == tf.shape(tokens)[0] - 1
    return result | {'targets': tf.where(last, special.eos, tokens)}

  dataset = dataset.map(lambda document: {name: document[name] for name in names})
  dataset = dataset.filter(lambda document: tf.size(document['targets']) > 0).map(close)
  dataset = dataset.ragged_batch(_DOCUMENTS_PER_BLOCK)
  dataset = dataset.map(lambda block: _cut(block, length, special)).unbatch()
  return dataset.enumerate().map(lambda number, row: row | {'example_id': number})


def _cut(block: dict[str, tf.RaggedTensor], length: int, special: SpecialTokens) -> dict[str, tf.Tensor]:
  """A block of documents, laid end to end, as rows [rows, length]."""
  width = length - 1
  flat = {name: value.flat_values for name, value in block.items()}
  document = tf.cast(block['targets'].value_rowids(), tf.int32) + 1
  total = tf.size(document)
  rows = (total + width - 1) // width
  cut = {name: _fold(value, rows, width) for name, value in (flat | {'document': document}).items()}
  starts = cut['targets'][:, :1] == special.bos  # then the cut brings its own bos
  zero = tf.zeros_like(cut['targets'][:, :1])

  def row(value: tf.Tensor, front: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.where(starts, tf.concat([value, zero], 1), tf.concat([front, value], 1)), [None, length])

  for name in WHOLE_UNITS:
    if name in cut:
      cut[name] = _drop_cut_runs(cut[name], cut['document'])
  result = {name: row(value, zero) for name, value in cut.items() if name not in ('targets', 'document')}
  result['targets'] = row(cut['targets'], zero + special.bos)
  documents = row(cut['document'], cut['document'][:, :1])
  changes = tf.cast(documents[:, 1:] != documents[:, :-1], tf.int32)
  segments = 1 + tf.pad(tf.cumsum(changes, axis=1), [[0, 0], [1, 0]])
  result['segment_ids'] = tf.where(documents > 0, segments, 0)
  return result


def _fold(values: tf.Tensor, rows: tf.Tensor, width: int) -> tf.Tensor:
  return tf.reshape(tf.pad(values, [[0, rows * width - tf.size(values)]]), [rows, width])


def _drop_cut_runs(ids: tf.Tensor, document: tf.Tensor) -> tf.Tensor:
  """Zeroes runs of one id that go over from one row to the next, on both sides; int32 [rows, width]."""
  crosses = (ids[1:, 0] == ids[:-1, -1]) & (ids[1:, 0] > 0) & (document[1:, 0] == document[:-1, -1])
  from_left = tf.pad(crosses, [[1, 0]])[:, tf.newaxis]
  to_right = tf.pad(crosses, [[0, 1]])[:, tf.newaxis]
  same_document = (document == document[:, :1], document == document[:, -1:])
  head = tf.math.cumprod(tf.cast((ids == ids[:, :1]) & same_document[0], tf.int32), axis=1) > 0
  tail = tf.math.cumprod(tf.cast((ids == ids[:, -1:]) & same_document[1], tf.int32), axis=1, reverse=True) > 0
  return tf.where((head & from_left) | (tail & to_right), 0, ids)
