"""ERNIE-Gram: two streams, boundaries chosen alike, classes of n-grams, a softmax over both tables, two means."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents, make_rows
from unmask import UserError
from unmask.launch import mesh, networks, state, step
from unmask.launch.program import Program, update_flops
from unmask.models import attention, head
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import ERNIEGram, Mixture, NextToken, scoring
from unmask.objectives.attention import BIDIRECTIONAL
from unmask.objectives.ernie_gram import TWO_STREAMS
from unmask.objectives.networks import Classes
from unmask.objectives.schedules import LinearRate

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=4
)
ERNIE = ERNIEGram(classes=48)
DECODER = Decoder(CONFIG)
SCORING = step.Scoring(ERNIE, ERNIE.max_supervised(64))


def _with_entries(rows: dict, size: int, every: int) -> dict:
  """The rows, with an entry of `size` tokens at each `every`-th one."""
  lengths = np.zeros_like(rows['targets'])
  lengths[:, 1 : rows['targets'].shape[1] - 1 - size : every] = size
  return rows | {'collocation_lengths': lengths}


def _chosen(features: dict, size: int) -> np.ndarray:
  """How many [MASK]s of each row stand for `size` tokens: int64 [batch]."""
  typed = features['decoder_groups'] > 0
  counts = []
  for b in range(len(typed)):
    key = features['decoder_segment_ids'][b] * 1000 + features['decoder_positions'][b]
    counts.append((np.unique(key[typed[b]], return_counts=True)[1] == size).sum())
  return np.array(counts)


@pytest.mark.parametrize(('size', 'every'), [(2, 5), (3, 4), (8, 20), (16, 16)])
def test_every_boundary_is_chosen_alike(size, every):
  """Single tokens and n-grams of any length, 15 % of either; so it is 15 % of the tokens too."""
  rows = _with_entries(documents(1500, 128), size, every)
  ngrams = (rows['collocation_lengths'][0] > 0).sum()
  features = corrupt(ERNIE, rows)
  tokens = 126 - size * ngrams
  # Documents' ends count among what 15 % is taken of, and are never chosen.
  share = round(0.15 * 128) / 126
  assert _chosen(features, size).mean() / ngrams == pytest.approx(share, abs=0.006)
  if tokens > 20:
    assert _chosen(features, 1).mean() / tokens == pytest.approx(share, abs=0.006)
  assert features['decoder_loss_weights'].sum(axis=1).mean() == pytest.approx(round(0.15 * 128), abs=0.4)


@pytest.mark.parametrize('rate', [0.02, 0.15, 0.6, 1.0, LinearRate(start=0.5, end=0.1, steps=10)])
def test_rows_never_lose_a_token(rate):
  """Whatever is chosen, as many positions as `model_length` hold it, and at most one budget of [MASK]s."""
  objective = dataclasses.replace(ERNIE, rate=rate)
  for seed, length in ((0, 17), (1, 40), (2, 128)):
    rows = make_rows(np.random.default_rng(seed), 64, length) | {'step': np.zeros(64, np.int64)}
    features = corrupt(objective, rows, seed)
    segments, typed = features['decoder_segment_ids'], features['decoder_groups'] > 0
    assert typed.sum(axis=1).max() <= objective.max_supervised(length)
    masks = (features['decoder_ngrams'] > 0).sum(axis=1)
    real = (rows['segment_ids'] > 0).sum(axis=1)
    np.testing.assert_array_equal((segments > 0).sum(axis=1), real + masks)
    assert masks.max() <= objective.model_length(length) - length
    assert masks.any()  # not in every row: a long n-gram that a small budget meets is taken by chance


def test_long_entries_are_no_ngrams():
  """There are 16 typed masks: of an entry of 17 tokens each is a boundary of its own."""
  features = corrupt(ERNIE, _with_entries(documents(200, 128), 17, 20))
  assert set(np.unique(features['decoder_ngrams'])) == {0, 1}
  features = corrupt(ERNIE, _with_entries(documents(200, 128), 16, 20))
  assert features['decoder_ngrams'].max() > 1


def test_what_a_mask_asks_for():
  """Targets of single tokens stand at their [MASK], none at that of an n-gram; no typed mask is one of either."""
  features = corrupt(ERNIE, make_rows(np.random.default_rng(0), 64, 64))
  said, targets = features['decoder_ngrams'], features['decoder_target_tokens']
  assert (targets[said > 1] == 0).all()
  assert SPECIAL.is_text(targets[said == 1]).all()
  assert (said[features['decoder_groups'] > 0] == 0).all()
  np.testing.assert_array_equal(said > 0, features['decoder_input_tokens'] == SPECIAL.mask)
  np.testing.assert_array_equal(said > 0, features['corrupted'] > 0)


def _classes_of(ngrams: np.ndarray, seed: int = 0, classes: int = 48, at: int = 1) -> np.ndarray:
  """The class of each of some n-grams, [count, size]: of rows that hold nothing else."""
  count, size = ngrams.shape
  rows = documents(count, at + size + 2, seed)
  rows['targets'][:, 1 : at + size + 1] = SPECIAL.text[0]
  rows['targets'][:, at : at + size] = ngrams
  lengths = np.zeros_like(rows['targets'])
  lengths[:, at] = size
  features = corrupt(ERNIEGram(classes=classes, rate=1.0), rows | {'collocation_lengths': lengths}, seed)
  said = features['decoder_ngrams']
  assert ((said > 1).sum(axis=1) == 1).all()
  return said.max(axis=1) - 2


def test_an_ngram_has_one_class():
  """By its tokens and their order alone: not by its place, its row, the epoch or the run."""
  generator = np.random.default_rng(0)
  for size in (2, 5, 16):
    ngrams = generator.integers(*SPECIAL.text, (3000, size))
    found = _classes_of(ngrams)
    np.testing.assert_array_equal(found, _classes_of(ngrams, seed=7, at=4))
    assert scipy.stats.chisquare(np.bincount(found, minlength=48)).pvalue > 1e-3
    assert found.max() < 48
    large = {'classes': 2**30}
    once = _classes_of(ngrams, **large)
    assert len(np.unique(once)) >= len(np.unique(ngrams, axis=0)) - 1
    turned = _classes_of(ngrams[:, ::-1], **large)
    assert (turned != once)[(ngrams != ngrams[:, ::-1]).any(axis=1)].all()
  short = _classes_of(np.full((1, 2), 40), **large)
  assert short != _classes_of(np.full((1, 3), 40), **large)


def _batch(rows: dict) -> dict:
  return {name: jnp.asarray(value) for name, value in corrupt(ERNIE, rows).items()}


@pytest.fixture(scope='module')
def params():
  made = jax.jit(lambda key: state.unboxed(state.init_params(DECODER, key, networks.beside(ERNIE, CONFIG))))
  return made(jax.random.key(0))


@pytest.fixture(scope='module')
def batch():
  return _batch(make_rows(np.random.default_rng(0), 8, 64, full=True))


def test_who_sees_whom(batch):
  """By hand, pair by pair: all see the text of their passage, a typed mask itself too, nobody another typed mask."""
  segments, typed = np.asarray(batch['decoder_segment_ids']), np.asarray(batch['decoder_groups']) > 0
  expected = np.zeros((*segments.shape, segments.shape[1]), bool)
  for b, i, j in np.ndindex(expected.shape):
    expected[b, i, j] = segments[b, i] == segments[b, j] > 0 and (i == j or not typed[b, j])
  rule = ERNIE.attention
  found = attention.visible(segments, rule.ordered, None, jnp.asarray(batch['decoder_groups']), rule.table)
  np.testing.assert_array_equal(found, expected)
  assert typed.any(axis=1).all()
  assert not typed[segments == 0].any()


def test_no_typed_mask_knows_of_another(params, batch):
  """Through all layers: with other tokens at all typed masks but one in each row, its output keeps every bit."""
  typed = np.asarray(batch['decoder_groups']) > 0
  run = jax.jit(
    lambda tokens: step.hidden_states(DECODER, params, batch | {'decoder_input_tokens': tokens}, TWO_STREAMS)
  )
  inputs = np.asarray(batch['decoder_input_tokens'])
  want = np.asarray(run(inputs))
  for turn in range(3):
    one = np.array([np.flatnonzero(row)[turn % row.sum()] for row in typed])
    other = typed & (np.arange(typed.shape[1]) != one[:, None])
    got = np.asarray(run(np.where(other, (inputs + 3) % 32, inputs)))
    real = np.asarray(batch['decoder_segment_ids']) > 0
    np.testing.assert_array_equal(got[real & ~other], want[real & ~other])
    assert (got[other] != want[other]).any(axis=-1).all()
  masks = np.asarray(batch['decoder_ngrams']) > 0
  changed = np.asarray(run(np.where(masks, 40, inputs)))
  assert (changed[typed] != want[typed]).any(axis=-1).all()  # but each sees the text


def test_two_means_and_one_softmax_over_both_tables(params, batch):
  """By hand: both tables put together, n-gram k behind the vocabulary's last token."""

  @jax.jit
  def by_hand(params, batch):
    hidden = step.hidden_states(DECODER, params, batch, ERNIE.attention)
    rows = jnp.concatenate([head.output_kernel(params, CONFIG), params['ngrams']['rows']])
    logits = jnp.einsum('bld,vd->blv', hidden, rows.astype(hidden.dtype), preferred_element_type=jnp.float32)
    joint, tokens = jax.nn.log_softmax(logits), jax.nn.log_softmax(logits[..., :512])
    return step.loss_sums(DECODER, SCORING, params, batch), joint, tokens

  found, joint, tokens = jax.tree.map(np.asarray, by_hand(params, batch))
  said, targets, weights = (np.asarray(batch[f'decoder_{x}']) for x in ('ngrams', 'target_tokens', 'loss_weights'))
  nll = lambda log_p, target: -np.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
  coarse = nll(joint, np.where(said > 1, 512 + said - 2, targets))
  assert (said > 1).any()
  assert (said == 1).any()
  expected = {
    'fine': ((nll(tokens, targets) * weights).sum(), weights.sum()),
    'coarse': (coarse[said > 0].sum(), (said > 0).sum()),
    'ngram': (coarse[said > 1].sum(), (said > 1).sum()),
  }
  for name, (top, bottom) in expected.items():
    np.testing.assert_allclose(found[name][0], top, rtol=1e-4, err_msg=name)
    assert float(found[name][1]) == bottom, name
  assert step.coefficients(SCORING, jax.eval_shape(lambda: batch)) == {'fine': 1.0, 'coarse': 1.0, 'ngram': 0.0}
  assert {name: float(x) for name, x in step.denominators_of(SCORING, batch).items()} == {
    name: bottom for name, (_, bottom) in expected.items()
  }


def test_the_classes_learn_of_the_coarse_loss_alone(params, batch):
  """And of each row only those that are asked for get nearer: the others' gradient is that of the softmax."""

  @jax.jit
  @jax.grad
  def gradient(params, share):
    found = step.loss_sums(DECODER, SCORING, params, batch)
    return sum(share[name] * found[name][0] for name in share)

  of = lambda only: gradient(params, {name: jnp.float32(name == only) for name in ('fine', 'coarse', 'ngram')})
  moves = lambda tree: any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))
  fine, coarse = of('fine'), of('coarse')
  assert not moves(fine['ngrams'])
  assert moves(coarse['ngrams'])
  for name in ('blocks', 'embedding', 'final_norm'):
    assert moves(fine[name]), name
    assert moves(coarse[name]), name


def test_the_decoder_begins_as_under_any_objective(params):
  alone = state.unboxed(jax.jit(lambda key: state.init_params(DECODER, key))(jax.random.key(0)))
  assert set(params) - set(alone) == {'ngrams'}
  jax.tree.map(np.testing.assert_array_equal, alone, {name: params[name] for name in alone})
  assert params['ngrams']['rows'].shape == (48, 32)
  np.testing.assert_allclose(params['ngrams']['rows'].std(), params['embedding'].std(), rtol=0.05)


def test_flops_are_those_of_all_matrices(params):
  """6 a parameter and position; both tables at each [MASK], the vocabulary's once more at each typed mask."""
  size = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree) if leaf.ndim > 2)
  length = ERNIE.model_length(64)
  every = 6 * size(params['blocks']) * length + 12 * 2 * 4 * 8 * length * length
  fine, coarse = 6 * 512 * 32 * ERNIE.max_supervised(64), 6 * (512 + 48) * 32 * 0.15 * length
  assert update_flops(CONFIG, ERNIE, 64, 1) == pytest.approx(every + fine + coarse, rel=1e-6)


def test_it_is_asked_for_tokens_at_masks_of_the_text_alone():
  """No row of the judge has a typed mask, so both sides see each other; every token is read at its own [MASK]."""
  scorer = ERNIE.scorer(SPECIAL)
  assert scorer.attention == BIDIRECTIONAL
  tokens = np.arange(40, 50, dtype=np.int32)
  rows = scorer.rows(scoring.Query(tokens, ((3, 5),)))
  assert [row.inputs.tolist().count(SPECIAL.mask) for row in rows] == [2, 1]
  assert all((row.inputs[row.reads] == SPECIAL.mask).all() for row in rows)


def _program(**changed) -> Program:
  settings = {'objective': ERNIE, 'mesh': mesh.MeshConfig().build(jax.devices()[:1])} | changed
  return Program(model=CONFIG, text_length=64, batch_size=8, optimizer=None, **settings)


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: ERNIEGram(classes=0), r'Classes\.count is 0'),
    (lambda: Classes(count=2.5), r'count is 2\.5'),
    (lambda: ERNIEGram(rate=1.5), r'ERNIEGram\.rate is 1\.5'),
    (lambda: ERNIEGram(attention=BIDIRECTIONAL), 'groups'),
    (
      lambda: ERNIEGram(attention=dataclasses.replace(TWO_STREAMS, table=((True, True), (True, False)))),
      'two streams have a rule of their own',
    ),
    (lambda: Mixture(parts={'a': ERNIE, 'b': NextToken()}), 'train it by itself'),
    (
      lambda: _program(
        objective=ERNIEGram(classes=49), mesh=mesh.MeshConfig(data=4, tensor=2).build(jax.devices())
      ).check(),
      'ngrams: vocab_size=49 does not divide over tensor=2',
    ),
  ],
)
def test_what_cannot_be_is_named(make, sign):
  _program().check()
  with pytest.raises(UserError, match=sign):
    make()
