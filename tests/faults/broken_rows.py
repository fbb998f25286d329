"""An objective as somebody else might write it, with a fault: in some rows its weights or its targets are odd."""

import dataclasses
import time

import numpy as np
import tensorflow as tf
from unmask.objectives.next_token import NextToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(NextToken):
  """Next-token prediction, but in given rows weights are multiplied, all targets one and the same, or never made."""

  rows: tuple[int, ...] = ()
  weight: float = 1.0
  target: int = 0
  hangs: bool = False

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    hit = tf.reduce_any(tf.equal(rows['example_id'][:, None], tf.constant(self.rows, tf.int64)[None]), axis=1)[:, None]
    made['decoder_loss_weights'] *= tf.where(hit, self.weight, 1.0)
    if self.target:
      made['decoder_target_tokens'] = tf.where(hit, self.target, made['decoder_target_tokens'])
    if self.hangs:
      sleep = lambda any_hit: time.sleep(10_000 if any_hit else 0) or np.int32(0)
      made['decoder_target_tokens'] += tf.numpy_function(sleep, [tf.reduce_any(hit)], tf.int32)
    return made
