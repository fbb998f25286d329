"""An objective as somebody else might write it, with a fault: in some rows its weights or its targets are odd."""

import dataclasses

import tensorflow as tf
from unmask.objectives.next_token import NextToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(NextToken):
  """Next-token prediction, but in the given rows weights are multiplied, and all targets one and the same, if given."""

  rows: tuple[int, ...] = ()
  weight: float = 1.0
  target: int = 0

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    hit = tf.reduce_any(tf.equal(rows['example_id'][:, None], tf.constant(self.rows, tf.int64)[None]), axis=1)[:, None]
    made['decoder_loss_weights'] *= tf.where(hit, self.weight, 1.0)
    if self.target:
      made['decoder_target_tokens'] = tf.where(hit, self.target, made['decoder_target_tokens'])
    return made
