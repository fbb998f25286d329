"""A Markov chain for tests of scorers: what a model that knows it says, in each form that it may be asked in."""

import itertools

import numpy as np

MASK, SENTINEL, END = 4, 6, 5


class Chain:
  """A Markov chain over three ids, six tokens long: every probability of it is known."""

  ids = (10, 11, 12)
  length = 6

  def __init__(self):
    random = np.random.default_rng(3)
    self._first, self._next = random.dirichlet([1] * 3), random.dirichlet([1] * 3, 3)
    self._all = list(itertools.product(self.ids, repeat=self.length))
    self._p = np.array([self._joint(text) for text in self._all])

  def _joint(self, text) -> float:
    at = [token - 10 for token in text]
    return float(self._first[at[0]] * np.prod([self._next[a, b] for a, b in itertools.pairwise(at)]))

  def p(self, **known: int) -> float:
    """Probability that tokens, by place ('t0', 't1', ...), are these."""
    return float(sum(p for text, p in zip(self._all, self._p, strict=True) if self._fits(text, known)))

  @staticmethod
  def _fits(text, known) -> bool:
    return all(text[int(name[1:])] == token for name, token in known.items())

  def left_to_right(self, seen: np.ndarray, read: int, target: int) -> float:
    before = {f't{i}': int(token) for i, token in enumerate(seen[1:])}
    return float(np.log(self.p(**before, **{f't{read}': target}) / self.p(**before)))

  def masked(self, shift: int):
    def log_prob(inputs: np.ndarray, read: int, target: int) -> float:
      place = read + shift
      assert inputs[place] == MASK
      seen = {f't{i}': int(token) for i, token in enumerate(inputs[1:]) if token != MASK}
      return float(np.log(self.p(**seen, **{f't{place - 1}': target}) / self.p(**seen)))

    return log_prob

  def infill(self, seen: np.ndarray, read: int, target: int) -> float:
    """As a model would that has learned the chain and how long its texts are."""
    if SENTINEL not in seen:
      return self.left_to_right(seen, read, target)
    first, second = np.flatnonzero(seen == SENTINEL)
    left, right, said = seen[1:first].tolist(), seen[first + 1 : second].tolist(), seen[second + 1 :].tolist()
    if target == END:
      return 0.0 if len(left) + len(said) + len(right) == self.length else -np.inf
    known = dict(enumerate([*left, *said])) | {self.length - len(right) + i: t for i, t in enumerate(right)}
    names = {f't{i}': t for i, t in known.items()}
    return float(np.log(self.p(**names, **{f't{len(left) + len(said)}': target}) / self.p(**names)))


CHAIN = Chain()
