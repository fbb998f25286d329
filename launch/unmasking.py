"""Sampling from masked diffusion: hidden tokens are filled in a few at a time, the surest first. NumPy.

LLaDA's low-confidence remasking (arXiv 2502.09992, section 2.4 and its generate.py): each step predicts all hidden
tokens, keeps those that it is surest of, as many in every step, and hides the others again. Its semi-autoregressive
form fills one block after the other so, from left to right.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .. import UserError

LogProbs = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(int32 [rows, length] texts, int32 [rows, n] positions) -> float [rows, n, vocabulary]."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """How `unmask infill` samples; of masked diffusion alone.

  Attributes:
    steps: see `sample`.
    temperature: see `sample`.
    seed: of the draws, with a temperature.
    block: tokens of a block, from the gap's first; 0 takes the blocks that the model was trained with, if any.
  """

  steps: int = 0
  temperature: float = 0.0
  seed: int = 0
  block: int = 0

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      if getattr(self, field.name) < 0:
        raise UserError(f'infill.{field.name} is {getattr(self, field.name)}; give 0 or more.')
    if self.seed and not self.temperature:
      raise UserError(f'infill.seed is {self.seed}, which has no effect here: only a temperature above 0 draws.')


def sample(
  log_probs: LogProbs,
  texts: np.ndarray,
  hidden: Sequence[int] | np.ndarray,
  allowed: np.ndarray,
  steps: int = 0,
  temperature: float = 0.0,
  seed: int | Sequence[int] = 0,
  blocks: Sequence[int] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Fills the hidden positions of some texts.

  Args:
    log_probs: of the tokens at some positions, given the texts.
    texts: int32 [rows, length].
    hidden: the positions to fill, in each row; what stands there is the mask.
    allowed: bool [vocabulary], what may be said.
    steps: passes; as many tokens in each as will fill all. 0 takes one a token, and so do more than there are tokens;
      a block takes one at least.
    temperature: 0 takes the likeliest token; above it, tokens are drawn from log_probs / temperature.
    seed: of the draws; each row has its own.
    blocks: the number of each hidden position's block; the lower ones are filled first. None is one block.

  Returns:
    The texts, filled; and float64 [rows], the sum of the log-probabilities of their tokens when they were chosen.
  """
  hidden, texts = np.asarray(hidden, np.int32), np.array(texts, np.int32)
  numbers = np.zeros(len(hidden), np.int32) if blocks is None else np.asarray(blocks)
  score, row, generator = np.zeros(len(texts)), np.arange(len(texts))[:, None], np.random.default_rng(seed)
  parts = [hidden[numbers == number] for number in np.unique(numbers)]
  for part, passes in zip(parts, _passes([len(part) for part in parts], steps), strict=True):
    left = np.tile(part, (len(texts), 1))
    for done in range(passes):
      found = np.where(allowed, np.asarray(log_probs(texts, left), np.float64), -np.inf)
      # Gumbel's noise draws from a softmax by its highest entry.
      wanted = found / temperature + generator.gumbel(size=found.shape) if temperature else found
      best = wanted.argmax(axis=-1)
      sure = np.take_along_axis(found, best[..., None], axis=-1)[..., 0]
      count = -(-left.shape[1] // (passes - done))
      order = np.argsort(-sure, axis=1, kind='stable')
      now, later = order[:, :count], np.sort(order[:, count:], axis=1)
      texts[row, left[row, now]] = best[row, now]
      score += sure[row, now].sum(axis=1)
      left = left[row, later]
  return texts, score


def _passes(sizes: Sequence[int], steps: int) -> list[int]:
  """How many of the steps each block takes: at least one, at most one a token, the others by its size."""
  passes = [1] * len(sizes)
  for _ in range(min(steps or sum(sizes), sum(sizes)) - len(sizes)):
    passes[int(np.argmax(np.array(sizes) / passes))] += 1
  return passes
