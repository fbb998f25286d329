"""Our decoder and an objective as a model of t5x: the methods that t5x's train, eval and infer call on one.

    MODEL = @t5x_model.Model()     in a gin file that t5x reads; see gin/t5x and docs/t5x.md

t5x calls methods and asks for no base class, so nothing of it is imported. The loss is that of `launch.step`, divided
by the objective's own denominators.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import clu.metrics
import flax.core
import flax.struct
import jax
import jax.numpy as jnp
import optax
import seqio

from .. import UserError
from ..models import head, t5x_adapter
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives.base import Objective
from ..tasks.convert import ObjectiveConverter
from . import state, step
from .optimizers import Optimizer

Batch = Mapping[str, jax.Array]
MetricsMap = dict[str, clu.metrics.Metric]
DENOMINATORS = 'loss_denominators'
"""A feature that `with_denominators` adds: float32 [batch, terms], in each row `step.divisors_of` the whole batch."""


@flax.struct.dataclass
class Loss(clu.metrics.Metric):
  """A sum of means in nats: numerators and denominators add up over batches, hosts and microbatches, and divide once.

  Attributes:
    numerators, denominators: float32 [terms].
  """

  numerators: jax.Array
  denominators: jax.Array

  def merge(self, other: 'Loss') -> 'Loss':
    return Loss(self.numerators + other.numerators, self.denominators + other.denominators)

  def compute(self) -> Any:
    return (self.numerators / self.denominators).sum()


class Model:
  """A model for t5x's `train(model=...)`.

  Its dataset must not be packed (`DatasetConfig.pack = False`): rows are full already. t5x adds up the gradients of
  microbatches, each divided by its own denominator; with more than one, `launch.t5x_trainer.Trainer` must be its
  trainer, which divides by the batch's, and the loss refuses another.

  Args:
    config: the decoder's shape.
    objective: what it is trained for.
    vocabulary: of the task's 'targets'.
    optimizer_def: an OptimizerDef of t5x.
    task_feature_lengths: {'targets': tokens of a row}; the output head then computes only as many positions as the
      objective scores in such a row. None computes all.
    seed: decides the corruption.
    z_loss: coefficient of log(Z)^2, in training.

  Attributes:
    FEATURE_CONVERTER_CLS: makes the converter from t5x's `pack` and `use_custom_packing_ops`.
    module: the decoder, a Flax Linen module.
    input_vocabulary, output_vocabulary: the vocabulary.
  """

  def __init__(
    self,
    config: DecoderConfig,
    objective: Objective,
    vocabulary: seqio.Vocabulary,
    optimizer_def: Any,
    task_feature_lengths: Mapping[str, int] | None = None,
    seed: int = 0,
    z_loss: float = 0.0,
  ):
    if objective.beside:
      raise UserError(
        f'{type(objective).__name__} has networks beside the decoder ({", ".join(objective.beside)}), for which '
        "t5x's train state has no place; train it by `unmask train`."
      )
    if config.attention.startswith('splash'):
      raise UserError(
        f"DecoderConfig.attention is {config.attention!r}, whose kernel is split over unmask's own mesh axes; under "
        "t5x take 'auto', which is 'xla' or 'cudnn' there."
      )
    if config.attention == 'auto' and jax.default_backend() == 'tpu':
      config = dataclasses.replace(config, attention='xla')  # 'auto' is splash there
    self.objective, self.optimizer_def = objective, optimizer_def
    self.input_vocabulary = self.output_vocabulary = vocabulary
    self.module = Decoder(config.with_vocabulary(vocabulary.vocab_size))
    self.FEATURE_CONVERTER_CLS: Callable[..., seqio.FeatureConverter] = functools.partial(
      ObjectiveConverter, objective, vocabulary, seed, knows_objective=True
    )
    self._text_length = (task_feature_lengths or {}).get('targets')
    self._z_loss = z_loss
    self._rows: int | None = None  # of a training batch, microbatches together

  def get_initial_variables(
    self, rng: jax.Array, input_shapes: Mapping[str, tuple[int, ...]], input_types: Mapping[str, Any] | None = None
  ) -> flax.core.FrozenDict:
    """{'params', 'params_axes'} as t5x asks for them; drawn from `rng` alone, whatever the shapes are."""
    del input_types  # parameters depend on no batch
    self._rows = input_shapes['decoder_input_tokens'][0]
    return t5x_adapter.variables(state.init_params(self.module, rng))

  def loss_fn(self, params: Any, batch: Batch, dropout_rng: jax.Array | None = None) -> tuple[jax.Array, MetricsMap]:
    """The training loss of a batch or of one of its microbatches, a float32 scalar in nats, and t5x's metrics.

    Args:
      params: of `get_initial_variables`.
      batch: the converter's features, int32 or float32 [rows, model_length]; and `DENOMINATORS`.
      dropout_rng: not used; the decoder has no dropout.

    Raises:
      UserError: a microbatch without the whole batch's denominators.
    """
    del dropout_rng
    rows = batch['decoder_input_tokens'].shape[0]
    if DENOMINATORS not in batch and self._rows is not None and rows < self._rows:
      raise UserError(
        f'Microbatches of {rows} of {self._rows} rows: t5x adds up their gradients, each divided by its own '
        'denominator, which makes them too large. Bind train.trainer_cls = @t5x_trainer.Trainer (gin/t5x/decoder.gin).'
      )
    return self._loss(params, batch, self._scoring(batch))

  def eval_fn(self, params: Any, batch: Batch) -> tuple[jax.Array, MetricsMap]:
    """As `loss_fn`, of a held-out batch: without z_loss, over the batch's own denominators."""
    return self._loss(params, batch, dataclasses.replace(self._scoring(batch), z_loss=0.0))

  def with_denominators(self, batch: Batch) -> dict[str, jax.Array]:
    """A whole batch with the feature `DENOMINATORS`, so that its microbatches' losses add up to its own."""
    values = jnp.stack(list(step.divisors_of(self._scoring(batch), dict(batch)).values()))
    rows = batch['decoder_input_tokens'].shape[0]
    return {**batch, DENOMINATORS: jnp.broadcast_to(values, (rows, values.size))}

  def score_batch(self, params: Any, batch: Batch, return_intermediates: bool = False) -> Any:
    """Weighted log-probability of each row's targets, float32 [rows], nats.

    With `return_intermediates` also {'decoder': {'token_scores', 'target_tokens', 'loss_weights'}}, tuples of one array
    [rows, model_length], as t5x's own models have them.
    """
    found, _, weights, index = self._scores(params, batch)
    token_scores = _scatter(-found.cross_entropy * weights, index, jnp.zeros_like(batch['decoder_loss_weights']))
    scores = token_scores.sum(axis=-1)
    if not return_intermediates:
      return scores
    known = {'target_tokens': batch['decoder_target_tokens'], 'loss_weights': batch['decoder_loss_weights']}
    return scores, {'decoder': {name: (value,) for name, value in known.items()} | {'token_scores': (token_scores,)}}

  def predict_batch(self, params: Any, batch: Batch, rng: jax.Array | None = None) -> jax.Array:
    """The targets, int32 [rows, model_length], with the model's best token wherever one is scored.

    Each prediction reads the batch's inputs, not earlier predictions: nothing is sampled.
    """
    return self.predict_batch_with_aux(params, batch, rng)[0]

  def predict_batch_with_aux(
    self, params: Any, batch: Batch, rng: jax.Array | None = None
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`predict_batch`, and {'target_scores': `score_batch`}."""
    del rng
    found, targets, weights, index = self._scores(params, batch)
    best = jnp.where(weights != 0, found.best, targets)
    scores = (-found.cross_entropy * weights).sum(axis=-1)
    return _scatter(best, index, batch['decoder_target_tokens']), {'target_scores': scores}

  def _scoring(self, batch: Batch) -> step.Scoring:
    length, text = batch['decoder_input_tokens'].shape[1], self._text_length
    known = text is not None and self.objective.model_length(text) == length
    scored = self.objective.max_supervised(text) if known else length
    return step.Scoring(self.objective, scored, self._z_loss)

  def _scores(self, params: Any, batch: Batch) -> tuple[head.Scores, jax.Array, jax.Array, jax.Array]:
    return step.scores(self.module, self._scoring(batch), params, dict(batch))

  def _loss(self, params: Any, batch: Batch, scoring: step.Scoring) -> tuple[jax.Array, MetricsMap]:
    found, targets, weights, _ = step.scores(self.module, scoring, params, dict(batch))
    terms = step.loss_terms(scoring, found, weights, dict(batch))
    numerators = jnp.stack([term.coefficient * term.numerator for term in terms.values()])
    own = jnp.stack(list(step.denominators_of(scoring, dict(batch)).values()))
    divisors = step.divisors_of(scoring, dict(batch)).values()
    whole = batch[DENOMINATORS][0] if DENOMINATORS in batch else jnp.stack(list(divisors))
    kept = jax.lax.stop_gradient((numerators, own, found.best == targets, weights))
    return (numerators / whole).sum(), self._metrics(list(terms), *kept, batch)

  def _metrics(
    self,
    names: list[str],
    numerators: jax.Array,
    denominators: jax.Array,
    hits: jax.Array,
    weights: jax.Array,
    batch: Batch,
  ) -> MetricsMap:
    average = clu.metrics.Average
    segments = batch['decoder_segment_ids']
    terms = {name: average(total=numerators[i], count=denominators[i]) for i, name in enumerate(names)}
    return {
      'loss': Loss(numerators, denominators),
      **(terms if len(terms) > 1 else {}),
      'accuracy': average(total=(hits * weights).sum(), count=jnp.maximum(weights.sum(), 1e-9)),
      'non_padding_fraction/loss_weights': average(total=weights.sum(), count=jnp.array(segments.size)),
      'non_padding_fraction/decoder': average(total=(segments > 0).sum(), count=jnp.array(segments.size)),
      **_clocks(*segments.shape),
    }


def optax_optimizer(optimizer: Optimizer, train_steps: int) -> optax.GradientTransformation:
  """unmask's optimizer for t5x's OptaxWrapper; its schedule is inside, as t5x hands optax no learning rate.

  Args:
    optimizer: 'adamw' or 'lion'; t5x has no place on a mesh for the state of the others.
    train_steps: updates of the run.
  """
  if optimizer.name not in ('adamw', 'lion'):
    raise UserError(
      f"Optimizer.name is {optimizer.name!r}, whose state t5x cannot place on its mesh; take 'adamw', 'lion', or an "
      'optimizer of its own (OPTIMIZER = @adafactor.Adafactor()).'
    )
  return optimizer.build(train_steps)


def learning_rate(optimizer: Optimizer, train_steps: int) -> optax.Schedule:
  """The rate by the number of updates, for t5x's `Trainer.learning_rate_fn`, so that it logs what is applied."""
  return optimizer.schedule.build(train_steps)


def _scatter(values: jax.Array, index: jax.Array, into: jax.Array) -> jax.Array:
  """`into` [rows, length] with `values` [rows, n] at the positions `index`."""
  return jnp.put_along_axis(into, index, values.astype(into.dtype), axis=1, inplace=False)


def _clocks(rows: int, length: int) -> MetricsMap:
  """The metrics that t5x's trainer fills in with the time that has passed; none where no t5x is running."""
  metrics = sys.modules.get('t5x.metrics')
  if metrics is None:
    return {}
  return {
    'timing/seconds': metrics.Time(),
    'timing/steps_per_second': metrics.StepsPerTime.from_model_output(),
    'timing/seqs_per_second': metrics.TimeRate.from_model_output(numerator=jnp.array(rows)),
    'timing/target_tokens_per_second': metrics.TimeRate.from_model_output(numerator=jnp.array(rows * length)),
  }
