"""Loss terms. No TensorFlow; works on NumPy and JAX arrays alike.

An objective owns its denominator: a term is a numerator and a denominator that are each summed over the whole global
batch (all devices, all accumulated microbatches) and divided once, so that no mean of means is ever taken.
"""

from typing import Any, NamedTuple

Array = Any


class LossTerm(NamedTuple):
  """One named part of a loss.

  Attributes:
    numerator: float32 scalar, a sum over the batch.
    denominator: float32 scalar, summed over the batch and not differentiated.
    coefficient: weight of numerator / denominator in the total.
    balance: float32 scalar, what a training batch multiplies the coefficient by: of a part of a mixture that got more
      or fewer of the batch's rows than are due to it; 1 on average, and wherever there is nothing to balance.
  """

  numerator: Array
  denominator: Array
  coefficient: float = 1.0
  balance: Array = 1.0


def weighted_cross_entropy(cross_entropy: Array, weights: Array) -> dict[str, LossTerm]:
  """The loss of every core objective: mean cross-entropy in nats over the weighted positions.

  Args:
    cross_entropy: float32 [batch, positions], -log p(target) in nats.
    weights: float32 [batch, positions], `decoder_loss_weights`.

  Returns:
    {'cross_entropy': term}, whose denominator is the sum of the weights (t5x's NUM_REAL_TARGET_TOKENS).
  """
  return {'cross_entropy': LossTerm((cross_entropy * weights).sum(), weights.sum())}
