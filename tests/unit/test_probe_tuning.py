"""Tuning on probes: what is computed against slow versions, that it learns what can be learnt and nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unmask.launch import mesh as mesh_lib
from unmask.launch import state
from unmask.launch.optimizers import Optimizer, Schedule
from unmask.launch.probing import tuning
from unmask.launch.probing.grid import Grid
from unmask.launch.probing.tuning import Shape
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL
from unmask.tasks.probes.rows import Rows

CONFIG = DecoderConfig(
  vocab_size=64, embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=48, scan_unroll=2
)
DECODER, LENGTH = Decoder(CONFIG), 16
CLASSES, SPAN = Shape(False, 3), Shape(True, longest_answer=4)


@functools.cache
def _mesh():
  return mesh_lib.MeshConfig().build(jax.devices()[:1])


@functools.cache
def _params():
  with mesh_lib.context(_mesh()):
    return state.create_params(DECODER, _mesh(), 0)


def _tuner(shape, attention=BIDIRECTIONAL, updates=40, batch_size=16, optimizer=Grid().optimizer):
  return tuning.Tuner(DECODER, _mesh(), attention, shape, optimizer, updates, batch_size)


def _random_rows(count, shape, seed=0, length=LENGTH):
  """Rows of random tokens and lengths with random labels or answers."""
  random = np.random.default_rng(seed)
  lengths = random.integers(6, length + 1, count).astype(np.int32)
  real = np.arange(length) < lengths[:, None]
  tokens = np.where(real, random.integers(3, 60, (count, length)), 0).astype(np.int32)
  features = {'tokens': tokens, 'lengths': lengths}
  if not shape.is_span:
    return Rows(features | {'labels': random.integers(0, shape.classes, count).astype(np.int32)})
  starts, ends = np.zeros((2, count, length), bool)
  first = random.integers(2, lengths - 2)
  starts[np.arange(count), first] = ends[np.arange(count), first + 1] = True
  passage = real & (np.arange(length) >= 2) & (np.arange(length) < lengths[:, None] - 1)
  return Rows(features | {'passage': passage, 'starts': starts, 'ends': ends}, np.zeros((count, length, 2), np.int64))


def _separable(count, seed):
  """The class is which of three tokens stands in the row's first half: causal attention shows it to few after it."""
  rows = _random_rows(count, CLASSES, seed)
  random = np.random.default_rng(seed + 100)
  tokens = rows.features['tokens']
  tokens[tokens >= 60] = 3
  tokens[np.arange(count), random.integers(0, rows.features['lengths'] // 2)] = 60 + rows.features['labels']
  return rows


def _marked(count, seed):
  """The answer is what stands between two marks."""
  rows = _random_rows(count, SPAN, seed)
  for name, mark in (('starts', 61), ('ends', 62)):
    rows.features['tokens'][rows.features[name]] = mark
  return rows


RATE = 1e-2


@pytest.mark.parametrize('attention', [BIDIRECTIONAL, CAUSAL], ids=['bidirectional', 'causal'])
def test_what_can_be_learnt_is_learnt(attention):
  with mesh_lib.context(_mesh()):
    tuner = _tuner(CLASSES, attention, updates=80)
    tuned, losses = tuner.tune(_params(), _separable(512, 0), RATE, 0)
    fresh = _separable(200, 1)
    assert (tuner.predict(tuned, fresh) == fresh.features['labels']).mean() > 0.95
  assert losses[-1] < 0.3 < 0.9 < losses[0]


def test_spans_that_can_be_found_are_found():
  with mesh_lib.context(_mesh()):
    tuner = _tuner(SPAN)
    tuned, _ = tuner.tune(_params(), _marked(256, 0), RATE, 0)
    fresh = _marked(200, 1)
    found = tuner.predict(tuned, fresh)
  right = [fresh.features[name].argmax(1) for name in ('starts', 'ends')]
  assert (found == np.stack(right, 1)).all(1).mean() > 0.95


def test_random_labels_stay_at_chance():
  """They are learnt by heart, and say nothing about others: within 4 standard errors of a third."""
  with mesh_lib.context(_mesh()):
    tuner = _tuner(CLASSES, updates=60)
    seen, fresh = _random_rows(48, CLASSES, 0), _random_rows(600, CLASSES, 1)
    tuned, _ = tuner.tune(_params(), seen, RATE, 0)
    assert (tuner.predict(tuned, seen) == seen.features['labels']).mean() > 0.9
    share = (tuner.predict(tuned, fresh) == fresh.features['labels']).mean()
  assert abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / 600)


@pytest.mark.parametrize('shape', [CLASSES, SPAN], ids=['classes', 'span'])
def test_every_weight_is_tuned(shape):
  rows = _random_rows(64, shape)
  with mesh_lib.context(_mesh()):
    tuner = _tuner(shape, updates=2, optimizer=dataclasses.replace(Grid().optimizer, weight_decay=0.0))
    before = jax.tree.map(np.asarray, _params())
    tuned, _ = tuner.tune(_params(), rows, RATE, 0)
  for (path, old), new in zip(
    jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(tuned['decoder']), strict=True
  ):
    assert (old != np.asarray(new)).any(), path
  assert np.asarray(tuned['head']['kernel']).any()
  for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(_params()), strict=True):
    np.testing.assert_array_equal(old, new)  # what a run begins with stays


@pytest.mark.parametrize('attention', [BIDIRECTIONAL, CAUSAL], ids=['bidirectional', 'causal'])
@pytest.mark.parametrize('shape', [CLASSES, SPAN], ids=['classes', 'span'])
def test_padding_changes_nothing(shape, attention):
  rows = _random_rows(8, shape)
  params = {'decoder': _params(), 'head': tuning.init_head(jax.random.key(1), CONFIG.embed_dim, shape)}
  wide = {name: np.pad(value, ((0, 0), (0, 8))) if value.ndim == 2 else value for name, value in rows.features.items()}
  rubbish = np.where(np.arange(LENGTH + 8) < wide['lengths'][:, None], wide['tokens'], 7)
  scores = [
    np.asarray(tuning.logits(DECODER, attention, shape, params, batch))
    for batch in (rows.features, wide, wide | {'tokens': rubbish})
  ]
  for other in scores[1:]:
    seen = other[:, :LENGTH] if shape.is_span else other
    np.testing.assert_allclose(seen, scores[0], rtol=1e-5, atol=1e-6)


def test_attention_is_what_it_says():
  """Under causal attention a mark of a position does not depend on what follows it; under the other it does."""
  rows = _random_rows(4, SPAN)
  rows.features['passage'][:] = True
  changed = rows.features | {'tokens': np.concatenate([rows.features['tokens'][:, :4], np.full((4, 12), 9)], 1)}
  params = {'decoder': _params(), 'head': tuning.init_head(jax.random.key(1), CONFIG.embed_dim, SPAN)}
  for attention, same in ((CAUSAL, True), (BIDIRECTIONAL, False)):
    one, other = (tuning.logits(DECODER, attention, SPAN, params, b)[:, :4] for b in (rows.features, changed))
    assert np.allclose(one, other, atol=1e-6) == same


def test_classification_loss_is_cross_entropy():
  scores, labels = jnp.array([[1.0, 2, 3], [0, 0, 0]]), np.array([2, 1])
  slow = [
    -np.log(np.exp(row[label]) / np.exp(row).sum()) for row, label in zip(np.asarray(scores), labels, strict=True)
  ]
  assert tuning.loss(CLASSES, scores, {'labels': labels}) == pytest.approx(np.mean(slow))


def test_span_loss_is_of_all_right_places_together():
  random = np.random.default_rng(0)
  scores = random.normal(size=(3, 5, 2)).astype(np.float32)
  starts, ends = np.zeros((2, 3, 5), bool)
  starts[0, [1, 3]] = ends[0, [2, 4]] = starts[1, 0] = ends[1, 0] = True  # the third has no answer in its row
  slow = []
  for row in (0, 1):
    for side, right in enumerate((starts, ends)):
      share = np.exp(scores[row, :, side]) / np.exp(scores[row, :, side]).sum()
      slow.append(-np.log(share[right[row]].sum()))
  got = tuning.loss(SPAN, jnp.asarray(scores), {'starts': starts, 'ends': ends})
  assert got == pytest.approx(np.mean(slow), rel=1e-5)


def test_best_span_is_that_of_a_slow_search():
  random = np.random.default_rng(0)
  scores = random.normal(size=(50, 9, 2)).astype(np.float32)
  scores[:, :3] = scores[:, 8:] = tuning._LOWEST
  for row, found in zip(scores, np.asarray(tuning.best(SPAN, jnp.asarray(scores))), strict=True):
    pairs = [(row[a, 0] + row[b, 1], a, b) for a in range(9) for b in range(a, min(9, a + 4))]
    assert tuple(found) == max(pairs)[1:]


def test_every_example_comes_once_an_epoch():
  index = np.concatenate(list(tuning.orders(10, 4, 5, seed=3)))
  assert sorted(index[:10]) == sorted(index[10:]) == list(range(10))
  assert list(index[:10]) != list(index[10:])
  other = np.concatenate(list(tuning.orders(10, 4, 5, seed=4)))
  assert list(index) != list(other)
  assert [len(one) for one in tuning.orders(3, 8, 2, seed=0)] == [8, 8]


@pytest.mark.parametrize('name', ['adamw', 'adafactor', 'lion', 'muon'])
def test_a_rate_from_outside_is_the_optimizers_own(name):
  """The update of a schedule whose peak is 1, times the rate, is that of a schedule whose peak is the rate."""
  schedule = Schedule(peak=0.02, warmup_steps=2, decay='linear')
  optimizer = Optimizer(name=name, schedule=schedule)
  params = _params()
  chains = [
    dataclasses.replace(optimizer, schedule=dataclasses.replace(schedule, peak=peak)).build(6) for peak in (0.02, 1.0)
  ]
  memory = [chain.init(params) for chain in chains]
  for step in range(3):
    grads = jax.tree.map(lambda x, step=step: jnp.sin(x * (step + 1)), params)
    updates = []
    for i, chain in enumerate(chains):
      update, memory[i] = chain.update(grads, memory[i], params)
      updates.append(update)
    scaled = jax.tree.map(lambda x: 0.02 * x, updates[1])
    for one, other in zip(jax.tree.leaves(updates[0]), jax.tree.leaves(scaled), strict=True):
      np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-9)
    params = optax.apply_updates(params, updates[0])


def test_one_program_serves_all_rates_and_seeds():
  rows = _random_rows(20, CLASSES)
  with mesh_lib.context(_mesh()):
    tuner = _tuner(CLASSES, updates=2)
    found = []
    for rate, seed in ((1e-3, 0), (1e-2, 0), (1e-3, 1), (1e-3, 0)):
      tuned, losses = tuner.tune(_params(), rows, rate, seed)
      tuner.predict(tuned, rows)
      found.append(losses)
    assert [tuner._update._cache_size(), tuner._best._cache_size(), tuner._begin._cache_size()] == [1, 1, 1]
  assert found[0] == found[3]
  assert found[0][0] == found[1][0] != found[2][0]
  assert found[0][1] != found[1][1]
