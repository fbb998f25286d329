"""Sampling from masked diffusion: hidden tokens are filled in a few at a time, the surest first. NumPy.

LLaDA's low-confidence remasking (arXiv 2502.09992, section 2.4 and its generate.py): each step predicts all hidden
tokens, keeps those that it is surest of, as many in every step, and hides the others again.
"""

from collections.abc import Callable, Sequence

import numpy as np

LogProbs = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(int32 [rows, length] texts, int32 [rows, n] positions) -> float [rows, n, vocabulary]."""


def sample(
  log_probs: LogProbs,
  texts: np.ndarray,
  hidden: Sequence[int] | np.ndarray,
  allowed: np.ndarray,
  steps: int = 0,
  temperature: float = 0.0,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Fills the hidden positions of some texts.

  Args:
    log_probs: of the tokens at some positions, given the texts.
    texts: int32 [rows, length].
    hidden: the positions to fill, in each row; what stands there is the mask.
    allowed: bool [vocabulary], what may be said.
    steps: passes; as many tokens in each as will fill all. 0 takes one a token, and so do more than there are tokens.
    temperature: 0 takes the likeliest token; above it, tokens are drawn from log_probs / temperature.
    seed: of the draws.

  Returns:
    The texts, filled; and float64 [rows], the sum of the log-probabilities of their tokens when they were chosen.
  """
  texts, left = np.array(texts, np.int32), np.tile(np.asarray(hidden, np.int32), (len(texts), 1))
  score, row, generator = np.zeros(len(texts)), np.arange(len(texts))[:, None], np.random.default_rng(seed)
  passes = min(steps or len(hidden), len(hidden))
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
