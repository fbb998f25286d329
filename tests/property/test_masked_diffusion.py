"""Masked diffusion: schedules, times that a batch divides, MLM as a special case, a bound that holds and is reached."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow as tf
from objective_table import SPECIAL, corrupt, make_rows
from unmask import UserError
from unmask.launch import networks, state, step
from unmask.models import attention, head
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import AttentionSpec
from unmask.objectives.masked_diffusion import MaskedDiffusion
from unmask.objectives.masked_lm import MaskedLM

SCHEDULES = [{'schedule': 'linear'}, {'schedule': 'cosine'}, {'schedule': 'polynomial', 'exponent': 3.0}]
LENGTH, IDS = 3, np.arange(32, 36)  # texts of three of four symbols
TEXTS = np.array(list(itertools.product(range(4), repeat=LENGTH)))
_FIRST, _NEXT = np.random.default_rng(0).dirichlet([2.0] * 4), np.random.default_rng(1).dirichlet([0.5] * 4, 4)
JOINT = np.array([_FIRST[a] * _NEXT[a, b] * _NEXT[b, c] for a, b, c in TEXTS])  # a Markov chain
STEPS = 400
ENTROPY = -(JOINT * np.log(JOINT)).sum()


def _nll(block: int = 0) -> np.ndarray:
  """-log p(symbol | what is not hidden) of the joint distribution: [2^n masks, texts, n].

  Args:
    block: tokens of a block, of `bos` and the text, if no later block is seen; 0 if both sides are.
  """
  table = np.zeros((2**LENGTH, len(TEXTS), LENGTH))
  of = lambda i: (1 + i) // block if block else 0
  for code, text, i in itertools.product(range(2**LENGTH), range(len(TEXTS)), range(LENGTH)):
    seen = [j for j in range(LENGTH) if not code >> j & 1 and of(j) <= of(i)]
    fits = (TEXTS[:, seen] == TEXTS[text, seen]).all(axis=1)
    table[code, text, i] = -np.log(JOINT[fits & (TEXTS[:, i] == TEXTS[text, i])].sum() / JOINT[fits].sum())
  return table


def _conditionals(texts: np.ndarray, hidden: np.ndarray, block: int = 0) -> np.ndarray:
  """`_nll` at every place of some texts: [n, 3]."""
  return _nll(block)[(hidden * 2 ** np.arange(LENGTH)).sum(axis=1), texts @ np.array([16, 4, 1])]


def _rows(texts: np.ndarray) -> dict:
  """Rows of `bos` and a text."""
  tokens = np.concatenate([np.full((len(texts), 1), SPECIAL.bos), IDS[texts]], axis=1).astype(np.int32)
  return {'targets': tokens, 'segment_ids': np.ones_like(tokens)}


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda how: how['schedule'])
def test_weights_are_of_the_schedule(schedule):
  """E[p w] over times is 1, whatever the schedule: each noise level counts by its share of [0, 1]."""
  objective = MaskedDiffusion(**schedule)
  time = tf.cast((np.arange(200_000) + 0.5) / 200_000, tf.float32)
  probability, weight = (x.numpy().astype(np.float64) for x in objective.noise(time))
  assert (np.diff(probability) >= 0).all()
  assert (probability[0], probability[-1]) == (pytest.approx(1e-3, abs=1e-4), pytest.approx(1.0, abs=1e-4))
  assert (probability * weight).mean() == pytest.approx(1.0, abs=1e-3)
  slopes = np.gradient(probability[::500], 500 / 200_000) / (1 - objective.floor)
  np.testing.assert_allclose((probability * weight)[500:-500:500], slopes[1:-1], atol=1e-2)


def test_rows_of_a_batch_divide_the_times(default_source):
  """Each n-th of [0, 1) has a row, in another order and with other times in every batch, on any number of hosts."""
  objective = MaskedDiffusion()
  count = 32
  times = []
  for number in range(3):
    rows = {'targets': np.zeros((count, 4)), 'seed': np.zeros(count, np.int64), 'epoch': np.zeros(count, np.int64)}
    rows |= {'step': np.full(count, number), 'example_id': np.arange(count), 'place': np.arange(count) / count}
    times.append(objective.times({name: tf.constant(value) for name, value in rows.items()}).numpy())
    assert sorted((times[-1] * count).astype(int).tolist()) == list(range(count))
  assert len({float(np.sort(time)[0]) for time in times}) == 3
  # Through the pipeline: the share that is masked follows the place.
  whole = next(default_source.batches(objective, count))
  halves = [next(default_source.batches(objective, count, host=host, num_hosts=2)) for host in range(2)]
  for name, value in whole.items():
    np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]), err_msg=name)
  real = (whole['decoder_target_tokens'] > 0).sum(axis=1)
  masked = (whole['decoder_loss_weights'] > 0).sum(axis=1) / real
  assert np.abs(np.sort(masked) - (np.arange(count) + 0.5) / count).max() < 0.25
  assert masked.mean() == pytest.approx(0.5, abs=0.03)


def test_rows_beyond_batches_take_their_own_times():
  rows = {'targets': np.zeros((1000, 4)), 'seed': np.zeros(1000, np.int64), 'epoch': np.zeros(1000, np.int64)}
  rows |= {'example_id': np.arange(1000)}
  of = lambda **more: MaskedDiffusion().times({k: tf.constant(v) for k, v in (rows | more).items()}).numpy()
  assert np.abs(np.sort(of()) - np.arange(1000) / 1000).max() < 0.005  # evenly, unlike a thousand draws
  static = lambda **more: (
    MaskedDiffusion(static_copies=2)
    .times(
      {k: tf.constant(v) for k, v in (rows | {'step': np.arange(1000), 'place': np.arange(1000) / 1000} | more).items()}
    )
    .numpy()
  )
  np.testing.assert_array_equal(static(), of())  # of a copy, wherever it is read
  outside = of(step=np.full(1000, np.iinfo(np.int64).max), place=-np.ones(1000))
  np.testing.assert_array_equal(of(), outside)
  assert np.abs(of() - of(epoch=np.ones(1000, np.int64))).min() > 1e-3


def test_of_a_fixed_time_and_weight_one_it_is_mlm_to_the_bit():
  """Features and loss."""
  objective = MaskedDiffusion(weighting='none', time=0.3)
  probability = float(objective.noise(tf.constant(0.3, tf.float32))[0])
  mlm = MaskedLM(rate=probability, selection='bernoulli', mask_prob=1.0, random_prob=0.0)
  rows = make_rows(np.random.default_rng(0), 40, 64)
  ours, theirs = corrupt(objective, rows), corrupt(mlm, rows)
  assert ours.keys() == theirs.keys()
  for name, value in ours.items():
    np.testing.assert_array_equal(value, theirs[name], err_msg=name)
  entropies = jnp.asarray(np.random.default_rng(1).random(ours['corrupted'].shape), jnp.float32)
  assert objective.loss(entropies, ours['decoder_loss_weights'], ours) == mlm.loss(
    entropies, ours['decoder_loss_weights'], ours
  )


def _bound(objective: MaskedDiffusion, rows: dict, nll: np.ndarray) -> float:
  """The loss in nats a text, where -log p of every token is known."""
  features = corrupt(objective, rows)
  (term,) = objective.loss(np.pad(nll, [[0, 0], [1, 0]]), features['decoder_loss_weights'], features).values()
  return LENGTH * float(term.numerator / term.denominator)


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda how: how['schedule'])
def test_the_bound_is_the_entropy_where_the_model_is_right_and_above_it_where_it_is_not(schedule):
  generator = np.random.default_rng(1)
  objective = MaskedDiffusion(**schedule)
  texts = TEXTS[generator.choice(len(TEXTS), 100_000, p=JOINT)]
  rows = _rows(texts)
  hidden = corrupt(objective, rows)['corrupted'][:, 1:] > 0
  right = _conditionals(texts, hidden)
  assert _bound(objective, rows, right) == pytest.approx(ENTROPY, rel=0.03)
  flat = np.full_like(right, math.log(4))
  assert _bound(objective, rows, flat) == pytest.approx(LENGTH * math.log(4), rel=0.03)
  wrong = -np.log(0.5 * np.exp(-right) + 0.5 / 4)
  assert _bound(objective, rows, wrong) > 1.02 * ENTROPY


def _exact_bound(nll: np.ndarray) -> float:
  """The bound in nats a text, over all texts and masks: E_t of a mask of k in n is 1 / (k C(n, k)).

  Args:
    nll: [2^n masks, texts, n], of a model.
  """
  total = 0.0
  for code in range(1, 2**LENGTH):
    places = [i for i in range(LENGTH) if code >> i & 1]
    share = 1 / (len(places) * math.comb(LENGTH, len(places)))
    total += share * (JOINT[:, None] * nll[code][:, places]).sum()
  return total


@pytest.mark.parametrize('block', [1, 2, 3])
def test_the_bound_of_blocks_is_never_below_the_entropy(block):
  """Who sees no later block misses something: even of a model that is right the bound is above."""
  objective = MaskedDiffusion(attention=AttentionSpec(block=block))
  exact = _exact_bound(_nll(block))
  assert exact > 1.005 * ENTROPY
  assert _exact_bound(_nll()) == pytest.approx(ENTROPY)
  texts = TEXTS[np.random.default_rng(1).choice(len(TEXTS), 100_000, p=JOINT)]
  rows = _rows(texts)
  hidden = corrupt(objective, rows)['corrupted'][:, 1:] > 0
  right = _conditionals(texts, hidden, block)
  assert _bound(objective, rows, right) == pytest.approx(exact, rel=0.03)
  assert _exact_bound(-np.log(0.5 * np.exp(-_nll(block)) + 0.5 / 4)) > 1.02 * exact


def test_a_trained_decoder_reaches_the_bound_and_never_falls_below():
  """Through corruption, decoder, loss and optimizer; judged over all texts and masks."""
  model = DecoderConfig(embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=64)
  decoder, objective = Decoder(model.with_vocabulary(40)), MaskedDiffusion()
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))
  scoring = step.Scoring(objective, objective.max_supervised(LENGTH + 1))
  params = state.unboxed(state.init_params(decoder, jax.random.key(0)))
  current = state.TrainState(step=jnp.int32(0), params=params, opt_state=optimizer.init(params))
  update = jax.jit(step.make_train_step(decoder, scoring, optimizer))

  @jax.jit
  def log_probs(params, inputs):
    positions = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
    hidden = decoder.apply({'params': params}, inputs, positions, jnp.ones_like(inputs), ordered=False)
    return jax.nn.log_softmax(head.logits(hidden, params, decoder.config))

  codes = np.arange(2**LENGTH)[:, None] >> np.arange(LENGTH) & 1
  inputs = np.where(codes[:, None, :] == 1, SPECIAL.mask, IDS[TEXTS][None])
  inputs = np.concatenate([np.full((*inputs.shape[:2], 1), SPECIAL.bos), inputs], axis=2).reshape(-1, LENGTH + 1)

  def bound() -> float:
    found = np.asarray(log_probs(current.params, inputs), np.float64)[:, 1:, IDS[0] : IDS[-1] + 1]
    found = found.reshape(2**LENGTH, len(TEXTS), LENGTH, len(IDS))
    return _exact_bound(-np.take_along_axis(found, TEXTS[None, :, :, None], axis=3)[..., 0])

  generator, seen, count = np.random.default_rng(2), [], 512
  features = corrupt(objective, _rows(TEXTS[generator.choice(len(TEXTS), STEPS * count, p=JOINT)]))
  features['text_tokens'] = np.full(STEPS * count, LENGTH + 1)
  for number in range(STEPS):
    here = slice(number * count, (number + 1) * count)
    batch = {name: jnp.asarray(value[here]) for name, value in features.items() if name != 'corrupted'}
    current, metrics = update(current, batch, jnp.bool_(True))
    if number % 100 == 0:
      seen.append(bound())
  assert all(value > ENTROPY for value in seen), (seen, ENTROPY)
  assert ENTROPY < bound() < 1.02 * ENTROPY, (bound(), ENTROPY)
  assert float(metrics['loss']) > 0


@pytest.mark.parametrize(
  ('settings', 'said'),
  [
    ({'schedule': 'quadratic'}, 'schedule'),
    ({'exponent': 3.0}, 'no effect'),
    ({'floor': 0.0}, 'floor'),
    ({'time': 1.5}, 'time'),
    ({'weighting': 'snr'}, 'weighting'),
  ],
)
def test_mistakes_are_named(settings, said):
  with pytest.raises(UserError, match=said):
    MaskedDiffusion(**settings)


def test_blocks_are_of_the_segment():
  """They begin anew in each of a row's segments, wherever those begin."""
  objective = MaskedDiffusion(time=0.5, attention=AttentionSpec(block=4))
  features = corrupt(objective, make_rows(np.random.default_rng(0), 3, 40))
  segments = features['decoder_segment_ids']
  assert 'decoder_levels' not in features  # the device makes them of positions
  rule = networks.rule({name: jnp.asarray(value) for name, value in features.items()}, objective.attention)
  sees = np.asarray(attention.visible(jnp.asarray(segments), True, rule['levels_BxL']))
  begins = [[int((row == number).argmax()) for number in row] for row in segments]
  assert any(begin % 4 for row in begins for begin in row)
  for b, i, j in itertools.product(range(3), range(40), range(40)):
    same = segments[b, i] == segments[b, j] > 0
    assert sees[b, i, j] == (same and (j - begins[b][j]) // 4 <= (i - begins[b][i]) // 4), (b, i, j)
