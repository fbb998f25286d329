"""Documents to rows of one length, as a seqio preprocessor of graph functions. TensorFlow.

Documents are laid end to end and cut every `length - 1` tokens; a row is `bos` and one such cut, or the cut alone
where it begins with a document (then with one position of padding). So every token of the corpus is in exactly one
row, every segment starts with `bos`, and the rows are the same for every objective and however documents are read.

Everything happens to many documents at a time: a block is a dictionary of features of several documents, laid end to
end, later of several rows.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from .. import UserError
from ..objectives.base import SpecialTokens
from ..objectives.preprocessor import graph

Block = dict[str, tf.Tensor]
DOCUMENTS_PER_BLOCK = 32
WHOLE_UNITS = ('salient_ids',)  # a salient span that a row's edge would cut is none


def to_rows(
  special: SpecialTokens, units: tuple[str, ...] = ()
) -> Callable[[tf.data.Dataset, Mapping[str, int] | None], tf.data.Dataset]:
  """`make_rows` as a seqio preprocessor, to be the last of a task: rows of `sequence_length['targets']` tokens."""

  def rows(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None) -> tf.data.Dataset:
    return make_rows(dataset, row_length(sequence_length), special, units)

  return rows


def row_length(sequence_length: Mapping[str, int] | None) -> int:
  """The 'targets' of seqio's sequence lengths; UserError if there is none."""
  if not sequence_length or not sequence_length.get('targets'):
    raise UserError("Rows need a length: give sequence_length={'targets': N}.")
  return sequence_length['targets']


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

  def close(document: Block) -> Block:
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
  dataset = dataset.ragged_batch(DOCUMENTS_PER_BLOCK)
  return row_blocks(dataset, length, special, units).unbatch()


def row_blocks(
  documents: tf.data.Dataset, length: int, special: SpecialTokens, units: tuple[str, ...]
) -> tf.data.Dataset:
  """The rows of `make_rows`, some at a time.

  Args:
    documents: batches of whole documents that begin with `bos` and end with `eos`; ragged int32 or int64 features
      [documents, tokens].
    length, special, units: as for `make_rows`.

  Returns:
    Blocks of int32 [rows, length] features with int64 [rows] 'example_id'; a block may have no row.
  """
  names = ('targets', *units)
  width = length - 1

  def flat(block: dict[str, tf.RaggedTensor]) -> Block:
    return {name: tf.cast(block[name].flat_values, tf.int32) for name in names} | {'is_last': tf.constant(False)}

  ending = {name: tf.zeros([0], tf.int32) for name in names} | {'is_last': tf.constant(True)}
  state = {name: tf.zeros([0], tf.int32) for name in (*names, 'document')}
  state |= {'before': {name: tf.zeros([1], tf.int32) for name in (*WHOLE_UNITS, 'document')}}
  state |= {'documents': tf.constant(0), 'rows': tf.constant(0, tf.int64)}

  def whole_rows(state, block):
    """Adds a block to what was left over and gives out what fills rows; one token stays, to be looked ahead to."""
    numbers = state['documents'] + tf.cumsum(tf.cast(block['targets'] == special.bos, tf.int32))
    joined = {name: tf.concat([state[name], block[name]], 0) for name in names}
    joined['document'] = tf.concat([state['document'], numbers], 0)
    total = tf.size(joined['targets'])
    rows = tf.where(block['is_last'], (total + width - 1) // width, tf.maximum(total - 1, 0) // width)
    used = tf.minimum(rows * width, total)
    out = {name: value[:used] for name, value in joined.items()}
    edges = [name for name in (*WHOLE_UNITS, 'document') if name in joined]
    out |= {'before': {name: state['before'][name] for name in edges}}
    out |= {'after': {name: tf.pad(joined[name][used:], [[0, 1]])[:1] for name in edges}}
    out |= {'rows': rows, 'first': state['rows']}
    left = {name: value[used:] for name, value in joined.items()}
    behind = {name: tf.concat([state['before'][name], joined[name][:used]], 0)[-1:] for name in edges}
    left |= {'before': state['before'] | behind, 'rows': state['rows'] + tf.cast(rows, tf.int64)}
    return left | {'documents': tf.reduce_max(tf.concat([[state['documents']], numbers], 0))}, out

  dataset = documents.map(graph(flat), num_parallel_calls=tf.data.AUTOTUNE)
  dataset = dataset.concatenate(tf.data.Dataset.from_tensors(ending)).scan(state, graph(whole_rows))
  return dataset.map(graph(lambda block: _cut(block, length, special, units)), num_parallel_calls=tf.data.AUTOTUNE)


def _cut(block: Block, length: int, special: SpecialTokens, units: tuple[str, ...]) -> Block:
  """Tokens that fill rows, with the token before and the one after them, as rows [rows, length]."""
  rows, width = block['rows'], length - 1
  cut = {}
  for name in ('targets', 'document', *units):
    value = block[name]
    cut[name] = tf.reshape(tf.pad(value, [[0, rows * width - tf.size(value)]]), [rows, width])
  starts = cut['targets'][:, :1] == special.bos  # then the cut brings its own bos
  zero = tf.zeros_like(cut['targets'][:, :1])

  def row(value: tf.Tensor, front: tf.Tensor) -> tf.Tensor:
    joined = tf.where(starts, tf.concat([value, zero], 1), tf.concat([front, value], 1))
    return tf.ensure_shape(joined, [None, length])

  for name in WHOLE_UNITS:
    if name in cut:
      cut[name] = _drop_cut_runs(cut, name, block)
  result = {name: row(cut[name], zero) for name in units}
  result['targets'] = row(cut['targets'], zero + special.bos)
  documents = row(cut['document'], cut['document'][:, :1])
  changes = tf.cast(documents[:, 1:] != documents[:, :-1], tf.int32)
  segments = 1 + tf.pad(tf.cumsum(changes, axis=1), [[0, 0], [1, 0]])
  result['segment_ids'] = tf.where(documents > 0, segments, 0)
  return result | {'example_id': block['first'] + tf.range(tf.cast(rows, tf.int64))}


def _drop_cut_runs(cut: Block, name: str, block: Block) -> tf.Tensor:
  """Zeroes runs of one id that go over from one row to the next, on both sides; int32 [rows, width]."""
  ids, document = cut[name], cut['document']

  def crosses(which: str) -> tf.Tensor:
    """Value before each row, and after the last one: [rows + 1] pairs of (last of a row, first of the next)."""
    lasts = tf.concat([block['before'][which], cut[which][:, -1]], 0)
    firsts = tf.concat([cut[which][:, 0], block['after'][which]], 0)
    return tf.where(lasts == firsts, lasts, 0) > 0

  over = crosses(name) & crosses('document')
  same_document = (document == document[:, :1], document == document[:, -1:])
  head = tf.math.cumprod(tf.cast((ids == ids[:, :1]) & same_document[0], tf.int32), axis=1) > 0
  tail = tf.math.cumprod(tf.cast((ids == ids[:, -1:]) & same_document[1], tf.int32), axis=1, reverse=True) > 0
  return tf.where((head & over[:-1, tf.newaxis]) | (tail & over[1:, tf.newaxis]), 0, ids)
