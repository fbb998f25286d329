"""Schedules and optimizers at known points."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unmask import UserError
from unmask.launch.optimizers import Optimizer, Schedule


@pytest.mark.parametrize('decay', ['cosine', 'linear', 'constant', 'rsqrt', 'wsd'])
def test_warmup_reaches_the_peak_and_wastes_no_update(decay):
  schedule = Schedule(peak=1.0, warmup_steps=10, decay=decay).build(100)
  rates = [float(schedule(step)) for step in range(100)]
  np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10, rtol=1e-5)
  assert rates[10] == pytest.approx(1.0, rel=0.01)
  assert max(rates) <= 1.0 + 1e-6
  assert (np.diff(rates[10:]) <= 1e-7).all()


def test_decays_end_where_they_should():
  at = lambda decay, step: float(Schedule(peak=1.0, warmup_steps=20, decay=decay, final_frac=0.1).build(100)(step))
  assert at('cosine', 100) == pytest.approx(0.1)
  assert at('cosine', 60) == pytest.approx(0.55)
  assert at('linear', 60) == pytest.approx(0.55)
  assert at('constant', 99) == 1.0
  assert at('rsqrt', 80) == pytest.approx(0.5, rel=0.01)
  assert at('wsd', 79) == 1.0
  assert at('wsd', 90) == pytest.approx(0.55)
  assert at('wsd', 100) == pytest.approx(0.1)


def test_short_runs_and_no_warmup():
  assert float(Schedule(peak=2.0, warmup_steps=0).build(5)(0)) == pytest.approx(2.0)
  assert np.isfinite([float(Schedule(warmup_steps=50).build(2)(step)) for step in range(3)]).all()


def test_clipping_and_decay_leave_norms_alone():
  params = {'mlp': {'down': jnp.ones((2, 2))}, 'norm': {'scale': jnp.ones(2)}}
  zeros = {'mlp': {'down': jnp.zeros((2, 2))}, 'norm': {'scale': jnp.zeros(2)}}
  transform = Optimizer(schedule=Schedule(peak=0.5, warmup_steps=0, decay='constant'), weight_decay=0.2).build(10)
  updates, _ = transform.update(zeros, transform.init(params), params)
  np.testing.assert_allclose(updates['mlp']['down'], -0.1, rtol=1e-5)
  np.testing.assert_allclose(updates['norm']['scale'], 0.0)
  clipped = optax.clip_by_global_norm(1.0).update({'x': jnp.full(4, 10.0)}, optax.EmptyState())[0]
  assert float(optax.tree.norm(clipped)) == pytest.approx(1.0)


def test_unknown_names_are_named():
  with pytest.raises(UserError, match='sgdw'):
    Optimizer(name='sgdw').build(10)
  with pytest.raises(UserError, match='step'):
    Schedule(decay='step').build(10)
