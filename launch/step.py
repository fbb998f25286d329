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
from ..objectives.loss import LossTerm
from . import networks
from .state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
_LEAST = 1e-9  # a denominator is no less: a batch in which nothing is scored has a loss of 0


@dataclasses.dataclass(frozen=True)
class Scoring:
  """How a batch is scored: the parts of an objective that the device needs.

  Attributes:
    objective: gives `attention`, `beside`, `on_device`, `measure`, `to_head`, `loss` with named terms, and `counts`.
    scored: bound on the scored positions of a row.
    z_loss: coefficient of log(Z)^2 of the output head, where that scores tokens; 0 leaves it out.
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
    **networks.rule(batch, attention),
    **how,
  )


def staged(decoder: Decoder, scoring: Scoring, params: dict, batch: Batch) -> Batch:
  """The batch that the decoder reads: what the objective's device stage makes of it."""
  return scoring.objective.on_device(networks.Bound(decoder, scoring.objective, params), batch)


def scores(
  decoder: Decoder, scoring: Scoring, params: dict, batch: Batch
) -> tuple[head.Scores, jax.Array, jax.Array, jax.Array]:
  """Where a batch is scored: (scores, targets, weights, positions), [batch, n] each.

  Every weighted position is among the n; the weights of the others are 0.
  """
  return _scores(decoder, scoring, params, hidden_states(decoder, params, batch, scoring.objective.attention), batch)


def _scores(
  decoder: Decoder, scoring: Scoring, params: dict, hidden: jax.Array, batch: Batch
) -> tuple[head.Scores, jax.Array, jax.Array, jax.Array]:
  weights = batch['decoder_loss_weights']
  index = head.scored_positions(weights, scoring.scored)
  if index.shape[1] < weights.shape[1]:
    hidden = head.pick(hidden, index)
  targets, weights = (jnp.take_along_axis(x, index, axis=1) for x in (batch['decoder_target_tokens'], weights))
  return head.score(hidden, targets, params, decoder.config), targets, weights, index


def loss_terms(scoring: Scoring, found: head.Scores, weights: jax.Array, batch: Batch) -> dict[str, LossTerm]:
  """The loss's terms by name, of what `scores` found."""
  terms = dict(scoring.objective.loss(found.cross_entropy, weights, batch))
  if scoring.z_loss:
    squares = (scoring.z_loss * (jnp.square(found.log_partition) * weights).sum(), weights.sum())
    terms['z_loss'] = LossTerm(*squares)
  return terms


def loss_sums(decoder: Decoder, scoring: Scoring, params: dict, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Named (numerator, denominator) sums over a batch; see `coefficients`."""
  objective = scoring.objective
  batch = staged(decoder, scoring, params, batch)
  hidden = hidden_states(decoder, params, batch, objective.attention)
  nets = networks.Bound(decoder, objective, params)
  batch = batch | objective.measure(nets, hidden, batch)
  if objective.predicts_tokens:
    found, _, weights, _ = _scores(decoder, scoring, params, objective.to_head(nets, hidden, batch), batch)
    terms = loss_terms(scoring, found, weights, batch)
  else:
    weights = batch['decoder_loss_weights']
    terms = objective.loss(jnp.zeros_like(weights), weights, batch)
  return {name: (term.numerator, term.denominator) for name, term in terms.items()}


def make_train_step(
  decoder: Decoder, scoring: Scoring, optimizer: optax.GradientTransformation, microbatches: int = 1
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
  """A pure function (state, batch, sound) -> (state, metrics).

  An update whose loss or gradient is not finite leaves parameters and optimizer state as they are, and so does every
  update with `sound` false. Handed on from one update to the next, 'sound' stops the state right before a broken
  update although the host learns of it later.

  Metrics are float32 scalars: 'loss', the mean of each loss term by name, 'scored' (positions with weight), 'tokens'
  (tokens of the corpus), 'padding' (its share of the batch's positions), the objective's counts, 'grad_norm' (before
  clipping); and 'sound', a bool scalar, whether this update was applied.
  """

  def train_step(state: TrainState, batch: Batch, sound: jax.Array) -> tuple[TrainState, Metrics]:
    grads, sums = gradients(decoder, scoring, state.params, batch, microbatches)
    metrics = _metrics(sums, batch, scoring) | {'grad_norm': optax.tree.norm(grads)}
    sound &= jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])
    before = _trained(decoder, scoring, state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, before)
    new = optax.apply_updates(before, updates), opt_state
    params, opt_state = jax.tree.map(lambda x, old: jnp.where(sound, x, old), new, (before, state.opt_state))
    params = networks.whole(state.params, params)  # what is not trained goes on as it is
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics | {'sound': sound}

  return train_step


def make_eval_step(decoder: Decoder, scoring: Scoring) -> Callable[[dict, Batch], dict]:
  """A pure function (params, batch) -> named (numerator, denominator) sums, to be added up over batches.

  The loss is the sum of the quotients, each times its coefficient.
  """
  return lambda params, batch: loss_sums(decoder, dataclasses.replace(scoring, z_loss=0.0), params, batch)


def gradients(
  decoder: Decoder, scoring: Scoring, params: dict, batch: Batch, microbatches: int
) -> tuple[dict, dict[str, tuple[jax.Array, jax.Array]]]:
  """Gradient of the total loss by what is trained, and the loss sums of the whole batch.

  Denominators do not depend on the parameters and are known from the batch alone, so each microbatch's numerators are
  divided by the whole batch's: k microbatches give the gradient of one.
  """
  terms, divisors = _empty_terms(scoring, batch), divisors_of(scoring, batch)

  def loss(trained: dict, part: Batch):
    sums = loss_sums(decoder, scoring, networks.whole(params, trained), part)
    return sum(terms[name].coefficient * top / divisors[name] for name, (top, _) in sums.items()), sums

  grad = jax.grad(loss, has_aux=True)
  trained = _trained(decoder, scoring, params)
  if microbatches == 1:
    return grad(trained, batch)
  # Row r goes to microbatch r % k, so that every device keeps its rows.
  parts = jax.tree.map(
    lambda x: x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]).swapaxes(0, 1), batch
  )

  def add(carry, part):
    return jax.tree.map(jnp.add, carry, grad(trained, part)), None

  shapes = jax.eval_shape(grad, trained, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, zeros, parts)[0]


def _trained(decoder: Decoder, scoring: Scoring, params: dict) -> dict:
  return networks.trained(networks.beside(scoring.objective, decoder.config), params)


def _empty_terms(scoring: Scoring, batch: Batch) -> dict[str, LossTerm]:
  """The loss's terms with the denominators and coefficients of a batch, and numerators of 0."""
  weights = batch['decoder_loss_weights']
  nothing = jnp.zeros_like(weights)
  z_loss = {'z_loss': LossTerm(nothing.sum(), weights.sum())} if scoring.z_loss else {}
  measures = dict.fromkeys(scoring.objective.measures, nothing)
  return scoring.objective.loss(nothing, weights, batch | measures) | z_loss


def denominators_of(scoring: Scoring, batch: Batch) -> dict[str, jax.Array]:
  """Each loss term's denominator over a batch, float32 scalars above 0, by the batch alone."""
  terms = _empty_terms(scoring, batch).items()
  return {name: jax.lax.stop_gradient(jnp.maximum(term.denominator, _LEAST)) for name, term in terms}


def divisors_of(scoring: Scoring, batch: Batch) -> dict[str, jax.Array]:
  """What a training batch divides each term's numerator by: its denominator over its balance, above 0, perhaps inf."""
  terms, denominators = _empty_terms(scoring, batch), denominators_of(scoring, batch)
  return {name: jax.lax.stop_gradient(denominators[name] / terms[name].balance) for name in terms}


def coefficients(scoring: Scoring, batch_shapes: Any) -> dict[str, float]:
  """What each term's mean is multiplied by in the total, by name; from a batch's shapes alone."""
  found: dict[str, float] = {}

  def look(batch: Batch) -> None:
    found.update({name: term.coefficient for name, term in _empty_terms(scoring, batch).items()})

  jax.eval_shape(look, batch_shapes)
  return found


def _metrics(sums: dict[str, tuple[jax.Array, jax.Array]], batch: Batch, scoring: Scoring) -> Metrics:
  means = {name: numerator / jnp.maximum(denominator, _LEAST) for name, (numerator, denominator) in sums.items()}
  terms = _empty_terms(scoring, batch)
  return {
    'loss': jnp.stack([terms[name].coefficient * terms[name].balance * mean for name, mean in means.items()]).sum(),
    **means,
    'scored': (batch['decoder_loss_weights'] != 0).sum().astype(jnp.float32),
    'tokens': batch['text_tokens'].sum().astype(jnp.float32),
    'padding': (batch['decoder_segment_ids'] == 0).mean(dtype=jnp.float32),
    **{name: count.astype(jnp.float32) for name, count in scoring.objective.counts(batch).items()},
  }
