"""Questions and answers to rows for fine-tuning, as a seqio preprocessor of graph functions. TensorFlow.

A row is `bos question answer eos` and padding; 'answer_ids' is 1 on the answer and on `eos`.
"""

from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from . import rows, vocabularies


def to_answer_rows(
  vocabulary: seqio.Vocabulary,
) -> Callable[[tf.data.Dataset, Mapping[str, int] | None], tf.data.Dataset]:
  """A seqio preprocessor, to be the last of a task: rows of `sequence_length['targets']` tokens.

  Args:
    vocabulary: with our reserved ids.

  Returns:
    A function from a dataset of 'inputs' (question) and 'targets' (answer), each text or token ids without `bos` and
    `eos`, to int32 [length] features 'targets', 'segment_ids' and 'answer_ids' with a scalar int64 'example_id'. A
    question that leaves its answer too little room loses its beginning; an answer that alone is longer than a row
    loses its end.
  """

  def answer_rows(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None) -> tf.data.Dataset:
    length = rows.row_length(sequence_length)
    special = vocabularies.special_tokens(vocabulary)

    def tokens_of(value: tf.Tensor) -> tf.Tensor:
      return tf.cast(vocabulary.encode_tf(value) if value.dtype == tf.string else value, tf.int32)

    def row(number: tf.Tensor, example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      answer = tf.concat([tokens_of(example['targets']), [special.eos]], 0)[: length - 1]
      room = length - 1 - tf.size(answer)
      question = tokens_of(example['inputs'])
      question = question[tf.maximum(tf.size(question) - room, 0) :]
      tokens = tf.concat([[special.bos], question, answer], 0)
      is_answer = tf.concat([tf.zeros([1 + tf.size(question)], tf.int32), tf.ones_like(answer)], 0)
      features = {'targets': tokens, 'segment_ids': tf.ones_like(tokens), 'answer_ids': is_answer}
      pad = [[0, length - tf.size(tokens)]]
      features = {name: tf.ensure_shape(tf.pad(value, pad), [length]) for name, value in features.items()}
      return features | {'example_id': number}

    return dataset.enumerate().map(row)

  return answer_rows
