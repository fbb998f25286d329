"""t5x's trainer, which divides microbatches' losses by the whole batch's denominators. Imports t5x."""

import functools
from typing import Any

from t5x import trainer


class Trainer(trainer.Trainer):
  """For `train.trainer_cls` and a model with `with_denominators`; arguments as t5x's Trainer.

  Its gradient with k microbatches is that of one.
  """

  @functools.cached_property
  def _partitioned_train_step(self) -> Any:
    rows = self._partitioner.data_partition_spec

    def train_step(train_state, batch):
      return trainer.train_with_lr(
        train_state,
        self._model.with_denominators(batch),
        learning_rate=self._learning_rate_fn(train_state.step),
        dropout_rng=self._get_step_rng(train_state.step),
        model=self._model,
        num_microbatches=self._num_microbatches,
        weight_metrics_computer=self._weight_metrics_computer,
        data_partition_spec=rows,
      )

    return self._partitioner.partition(
      train_step,
      in_axis_resources=(self._train_state_axes, rows),
      out_axis_resources=(self._train_state_axes, None),
      donate_argnums=(0,),
    )
