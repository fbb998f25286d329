"""One update, pure: model, loss, gradient, update. No TensorFlow.

Losses are sums over the global batch with the objective's own denominators: the sums of all microbatches are added
up, and divided once. `z_loss` adds z_loss * log(Z)^2 a scored position, over the same denominator (PaLM, arXiv
2204.02311 section 5).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..models import head
from ..models.decoder import Decoder
from .state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Scoring:
  """How a batch is scored: the parts of an objective that the device needs.

  Attributes:
    objective: gives `attention`, and `loss(cross_entropy, weights)` with named terms.
    scored: bound on the scored positions of a row.
    z_loss: coefficient of log(Z)^2; 0 leaves it out.
  """

  objective: Any
  scored: int
  z_loss: float = 0.0


def hidden_states(decoder: Decoder, params: dict, batch: Batch, attention: Any, **how: Any) -> Any:
  """The decoder's outputs for a batch under an attention rule, [B, L, D]; `how` are more arguments of Flax's apply."""
  return decoder.apply(
    {'params': params},
    batch['decoder_input_tokens'],
    batch['decoder_positions'],
    batch['decoder_segment_ids'],
    ordered=attention.ordered,
    table=attention.table,
    levels_BxL=batch.get('decoder_levels'),
    groups_BxL=batch.get('decoder_groups'),
    **how,
  )


def loss_sums(decoder: Decoder, scoring: Scoring, params: dict, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Named (numerator, denominator) sums over a batch, with the coefficient folded into the numerator."""
  hidden = hidden_states(decoder, params, batch, scoring.objective.attention)
  weights = batch['decoder_loss_weights']
  index = head.scored_positions(weights, scoring.scored)
  if index.shape[1] < weights.shape[1]:
    hidden = head.pick(hidden, index)
  targets, weights = (jnp.take_along_axis(x, index, axis=1) for x in (batch['decoder_target_tokens'], weights))
  scores = head.score(hidden, targets, params, decoder.config)
  terms = scoring.objective.loss(scores.cross_entropy, weights)
  sums = {name: (term.coefficient * term.numerator, term.denominator) for name, term in terms.items()}
  if scoring.z_loss:
    sums['z_loss'] = (scoring.z_loss * (jnp.square(scores.log_partition) * weights).sum(), weights.sum())
  return sums


def make_train_step(
  decoder: Decoder, scoring: Scoring, optimizer: optax.GradientTransformation, microbatches: int = 1
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
  """A pure function (state, batch, sound) -> (state, metrics).

  An update whose loss or gradient is not finite leaves parameters and optimizer state as they are, and so does every
  update with `sound` false. Handed on from one update to the next, 'sound' stops the state right before a broken
  update although the host learns of it later.

  Metrics are float32 scalars: 'loss', each loss term by name, 'scored' (positions with weight), 'tokens' (tokens of the
  corpus), 'padding' (its share of the batch's positions), 'grad_norm' (before clipping); and 'sound', a bool scalar,
  whether this update was applied.
  """

  def train_step(state: TrainState, batch: Batch, sound: jax.Array) -> tuple[TrainState, Metrics]:
    grads, sums = gradients(decoder, scoring, state.params, batch, microbatches)
    metrics = _metrics(sums, batch) | {'grad_norm': optax.tree.norm(grads)}
    sound &= jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    new = optax.apply_updates(state.params, updates), opt_state
    params, opt_state = jax.tree.map(lambda x, old: jnp.where(sound, x, old), new, (state.params, state.opt_state))
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics | {'sound': sound}

  return train_step


def make_eval_step(decoder: Decoder, scoring: Scoring) -> Callable[[dict, Batch], dict]:
  """A pure function (params, batch) -> named (numerator, denominator) sums, to be added up over batches."""
  return lambda params, batch: loss_sums(decoder, dataclasses.replace(scoring, z_loss=0.0), params, batch)


def gradients(
  decoder: Decoder, scoring: Scoring, params: dict, batch: Batch, microbatches: int
) -> tuple[dict, dict[str, tuple[jax.Array, jax.Array]]]:
  """Gradient of the total loss, and the loss sums of the whole batch.

  Denominators do not depend on the parameters and are known from the weights alone, so each microbatch's numerators are
  divided by the whole batch's denominators: k microbatches give the gradient of one.
  """
  denominators = {
    name: jax.lax.stop_gradient(jnp.maximum(denominator, 1e-9))
    for name, (_, denominator) in _denominators(scoring, batch).items()
  }

  def loss(params: dict, part: Batch):
    sums = loss_sums(decoder, scoring, params, part)
    return sum(numerator / denominators[name] for name, (numerator, _) in sums.items()), sums

  grad = jax.grad(loss, has_aux=True)
  if microbatches == 1:
    return grad(params, batch)
  # Row r goes to microbatch r % k, so that every device keeps its rows.
  parts = jax.tree.map(
    lambda x: x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]).swapaxes(0, 1), batch
  )

  def add(carry, part):
    return jax.tree.map(jnp.add, carry, grad(params, part)), None

  shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, zeros, parts)[0]


def _denominators(scoring: Scoring, batch: Batch) -> dict[str, tuple[Any, jax.Array]]:
  weights = batch['decoder_loss_weights']
  terms = scoring.objective.loss(jnp.zeros_like(weights), weights)
  result = {name: (None, term.denominator) for name, term in terms.items()}
  if scoring.z_loss:
    result['z_loss'] = (None, weights.sum())
  return result


def _metrics(sums: dict[str, tuple[jax.Array, jax.Array]], batch: Batch) -> Metrics:
  means = {name: numerator / jnp.maximum(denominator, 1e-9) for name, (numerator, denominator) in sums.items()}
  return {
    'loss': jnp.stack(list(means.values())).sum(),
    **means,
    'scored': (batch['decoder_loss_weights'] != 0).sum().astype(jnp.float32),
    'tokens': batch['text_tokens'].sum().astype(jnp.float32),
    'padding': (batch['decoder_segment_ids'] == 0).mean(dtype=jnp.float32),
  }
