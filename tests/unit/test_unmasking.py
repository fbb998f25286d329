"""The sampler of masked diffusion against a Markov chain whose conditional probabilities are known."""

import itertools

import numpy as np
import pytest
from unmask import UserError
from unmask.launch.unmasking import Settings, sample

MASK, SIZE, SYMBOLS = 9, 4, 3
TEXTS = np.array(list(itertools.product(range(SYMBOLS), repeat=SIZE)))
_random = np.random.default_rng(0)
_first, _next = _random.dirichlet([1] * SYMBOLS), _random.dirichlet([1] * SYMBOLS, SYMBOLS)
JOINT = np.array([_first[t[0]] * np.prod([_next[a, b] for a, b in itertools.pairwise(t)]) for t in TEXTS])
ALLOWED = np.arange(10) < SYMBOLS


class Chain:
  """log p(token | all that is not masked), and how often it was asked."""

  def __init__(self):
    self.asked = []

  def __call__(self, texts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    assert (np.take_along_axis(texts, positions, axis=1) == MASK).all()
    self.asked.append(positions.shape)
    found = np.full((*positions.shape, 10), -50.0)
    for row, (text, places) in enumerate(zip(texts, positions, strict=True)):
      fits = ((text == MASK) | (text == TEXTS)).all(axis=1)
      for k, place in enumerate(places):
        for token in range(SYMBOLS):
          found[row, k, token] = np.log(max(JOINT[fits & (TEXTS[:, place] == token)].sum() / JOINT[fits].sum(), 1e-20))
    found[..., 5] = 0.0  # a token that is none of the allowed ones is the likeliest
    return found


@pytest.mark.parametrize('steps', [0, 1, 2, 3, 4, 9])
def test_any_number_of_steps_fills_all(steps):
  chain, empty = Chain(), np.full((5, SIZE), MASK)
  texts, score = sample(chain, empty, range(SIZE), ALLOWED, steps=steps)
  assert len(chain.asked) == (min(steps, SIZE) or SIZE)
  assert (empty == MASK).all()
  assert (texts < SYMBOLS).all()
  sizes = [n for _, n in chain.asked]
  taken = -np.diff([*sizes, 0])
  assert sizes[0] == SIZE
  assert taken.sum() == SIZE
  assert taken.max() - taken.min() <= 1  # as many in each step
  assert (texts == texts[0]).all()  # without a temperature there is no chance
  if len(chain.asked) == SIZE:  # a chain of conditional probabilities
    (joint,) = JOINT[(texts[0] == TEXTS).all(axis=1)]
    np.testing.assert_allclose(score, np.log(joint))


def test_the_surest_is_taken_first_and_what_is_seen_stays():
  chain = Chain()
  texts, _ = sample(chain, np.array([[MASK, 1, MASK, MASK]]), [0, 2, 3], ALLOWED)
  assert texts[0, 1] == 1
  first = chain(np.array([[MASK, 1, MASK, MASK]]), np.array([[0, 2, 3]]))[0, :, :SYMBOLS]
  place = [0, 2, 3][int(first.max(axis=-1).argmax())]
  assert texts[0, place] == int(first[[0, 2, 3].index(place)].argmax())


@pytest.mark.parametrize(('steps', 'passes'), [(0, 4), (1, 2), (2, 2), (3, 3), (9, 4)])
def test_blocks_are_filled_one_after_the_other(steps, passes):
  """One of three tokens and one of one: in whatever order within, the lower block first."""
  chain, blocks = Chain(), np.array([1, 0, 0, 0])
  texts, score = sample(chain, np.full((5, SIZE), MASK), range(SIZE), ALLOWED, steps, blocks=blocks)
  assert len(chain.asked) == passes
  assert chain.asked[-1] == (5, 1)
  assert chain.asked[0] == (5, 3)
  assert (texts < SYMBOLS).all()
  if passes == SIZE:
    (joint,) = JOINT[(texts[0] == TEXTS).all(axis=1)]
    np.testing.assert_allclose(score, np.log(joint))


def test_rows_draw_for_themselves_and_by_the_seed():
  draw = lambda seed: sample(Chain(), np.full((50, SIZE), MASK), range(SIZE), ALLOWED, 2, 1.0, seed)[0]
  assert len(np.unique(draw((0, 4)), axis=0)) > 5
  np.testing.assert_array_equal(draw((0, 4)), draw((0, 4)))
  assert (draw((0, 4)) != draw((1, 4))).any()


@pytest.mark.parametrize('name', ['steps', 'temperature', 'seed', 'block'])
def test_settings_below_zero_are_named(name):
  with pytest.raises(UserError, match=f'infill.{name} is -1'):
    Settings(**{name: -1})


def test_with_one_token_to_fill_samples_are_of_the_distribution():
  """Over the temperature: its square root of odds at 2, all of them at 1."""
  text = np.tile([0, MASK, 2, 1], (4000, 1))
  logits = Chain()(text[:1], np.array([[1]]))[0, 0, :SYMBOLS]
  for temperature in (1.0, 2.0):
    texts, _ = sample(Chain(), text, [1], ALLOWED, temperature=temperature, seed=3)
    wanted = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    found = np.bincount(texts[:, 1], minlength=SYMBOLS) / len(text)
    assert np.abs(found - wanted).max() < 4 * np.sqrt(0.25 / len(text))
  again, _ = sample(Chain(), text, [1], ALLOWED, temperature=2.0, seed=3)
  np.testing.assert_array_equal(again, texts)
