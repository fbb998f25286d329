"""An objective as a seqio FeatureConverter: from a task's rows to the batch that seqio's and t5x's decoder reads.

seqio.get_dataset('default_text', {'targets': 128}, dataset_split='train',
                  feature_converter=ObjectiveConverter(objective=MEAP(), vocabulary=vocabulary))
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from .. import UserError
from ..objectives import preprocessor
from ..objectives.attention import PREFIX
from ..objectives.base import MODEL_FEATURES, Features, Objective
from . import vocabularies


class ObjectiveConverter(seqio.FeatureConverter):
  """Corrupts rows and gives the decoder's features; weights are float32, everything else is int32.

  Rows are full already, so there is nothing to pack: `pack=True` is refused (seqio's packer would cut weights at their
  zeros). Masks are drawn anew on every pass if the dataset repeats before its rows are numbered, as seqio's does. Rows
  of a Mixture, which passes on no numbers, are numbered in the order in which they come.

  A decoder that knows nothing but its batch, such as t5x's own, takes a position whose target is 0 for padding and
  sees both sides only where 'decoder_causal_attention' is 1. So an unscored position inside a segment gets the target
  `eos` (its weight is 0), and an attention rule that those two features do not say is refused.

  Args:
    objective: what to do to the rows.
    vocabulary: of the task's 'targets'.
    seed: decides the corruption.
    knows_objective: whether the model that reads the batch has the objective's attention rule itself; then any rule
      will do, the batch has the objective's own features too, and targets are left as it gives them.
    pack, use_custom_packing_ops: for callers such as t5x, which pass them; pack must be False.
  """

  TASK_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {
    name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32) for name in ('targets', 'segment_ids')
  }
  MODEL_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {
    name: seqio.FeatureConverter.FeatureSpec(dtype=tf.float32 if name == 'decoder_loss_weights' else tf.int32)
    for name in MODEL_FEATURES
  }
  PACKING_FEATURE_DTYPES: Mapping[str, tf.dtypes.DType] = {}

  def __init__(
    self,
    objective: Objective,
    vocabulary: seqio.Vocabulary,
    seed: int = 0,
    knows_objective: bool = False,
    pack: bool = False,
    use_custom_packing_ops: bool = False,
  ):
    if pack:
      raise UserError('ObjectiveConverter reads rows that are full already; use pack=False.')
    if not knows_objective and objective.attention.kind == 'general' and objective.attention != PREFIX:
      raise UserError(
        f'{type(objective).__name__}.attention is {objective.attention}: a decoder that knows only its batch, such as '
        "t5x's own, is causal, bidirectional, or both with a prefix, alike in all layers. Give it one of these, or "
        "take unmask's decoder."
      )
    if not knows_objective and type(objective).loss is not Objective.loss:
      raise UserError(
        f"{type(objective).__name__} has a loss of its own; t5x's own models divide by the sum of the weights or by a "
        "constant, whatever the objective wants. Take unmask's decoder."
      )
    if knows_objective:
      own = {name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32) for name in objective.more_features}
      self.MODEL_FEATURES = {**self.MODEL_FEATURES, **own}
    super().__init__(pack=False, use_custom_packing_ops=use_custom_packing_ops)
    self._objective, self._seed, self._knows_objective = objective, seed, knows_objective
    self._special = vocabularies.special_tokens(vocabulary)

  def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
    """Rows of `task_feature_lengths['targets']` tokens to decoder features; UserError if `ds` holds no rows."""
    missing = [name for name in ('targets', 'segment_ids') if name not in ds.element_spec]
    if missing:
      raise UserError(
        f'The task gives no rows ({", ".join(missing)} missing): end its preprocessors with unmask.tasks.rows.to_rows.'
      )
    self._objective.check(task_feature_lengths['targets'])
    if 'example_id' not in ds.element_spec:
      ds = ds.enumerate().map(preprocessor.graph(lambda number, row: row | {'example_id': number}))
    ds = preprocessor.corrupt_rows(self._objective, self._special, self._seed)(ds)
    return ds.map(preprocessor.graph(self._features))

  def _features(self, row: Features) -> Features:
    made = {name: row[name] for name in self.MODEL_FEATURES}
    if not self._knows_objective:
      targets = made['decoder_target_tokens']
      unscored = (targets == 0) & (made['decoder_segment_ids'] > 0)
      made['decoder_target_tokens'] = tf.where(unscored, self._special.eos, targets)
    return made

  def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
    return self(ds, task_feature_lengths)

  def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
    """Every feature has the objective's model length."""
    length = self._objective.model_length(task_feature_lengths['targets'])
    return dict.fromkeys(self.MODEL_FEATURES, length)
