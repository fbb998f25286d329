"""Answers to prompts: what was asked is read, the answer alone is predicted (T0, arXiv 2110.08207, section 5).

T0 fine-tunes an encoder and a decoder; in one stack the prompt is a prefix, seen from both sides in a non-causal
decoder and from left to right in a causal one (Wang et al., arXiv 2204.05832, section 2). A row is what
`tasks.answers.to_answer_rows` makes: `answer_ids` is 1 on the answer and its end token.
"""

import dataclasses

import tensorflow as tf

from . import base, features, scorers
from .attention import PREFIX, AttentionSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswersOnly(base.Objective):
  """Predict the answer and its end from left to right; weight 1 on each of its tokens, 0 on the prompt.

  Attributes:
    attention: PREFIX, or CAUSAL for a decoder that reads the prompt from left to right too.
  """

  attention: AttentionSpec = PREFIX

  @property
  def units(self):
    return ('answer_ids',)

  @property
  def more_features(self):
    return ('decoder_levels',) if self.attention.levels else ()

  def keep(self, rows, special):
    return tf.reduce_any((rows['answer_ids'] > 0) & (rows['segment_ids'] > 0), axis=1)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    answer = (rows['answer_ids'] > 0) & (segments > 0)
    seen = ~answer & (segments > 0)
    made = features.assemble(
      inputs=tokens,
      targets=features.shift_left(tokens, segments),
      weights=features.shift_left(tf.cast(answer, tf.int32), segments) > 0,
      segment_ids=segments,
      corrupted=tf.zeros_like(tokens),
      bidirectional=seen if self.attention.levels else False,
    )
    return made | ({'decoder_levels': features.levels(seen)} if self.attention.levels else {})

  def configured(self):
    return {'corrupted': 0.0}

  def scorer(self, special):
    return scorers.PrefixLeftToRight()
