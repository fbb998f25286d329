"""A setting that nothing reads as the others stand is refused by name; so is no setting that something reads."""

import dataclasses

import jax
import numpy as np
import pytest
from unmask import UserError
from unmask.launch.optimizers import Optimizer, Schedule
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.pmi_masking import PMIMasking

CHANGED = {'b1': 0.7, 'b2': 0.8, 'eps': 1e-3, 'weight_decay': 0.5, 'momentum': 0.5}
NAMES = ('adamw', 'adafactor', 'lion', 'muon')


def _update(optimizer: Optimizer) -> list[np.ndarray]:
  """What three updates make of a small matrix, a block's matrix and a vector."""
  params = {'blocks': {'mlp': {'down': np.eye(4, 6)[None]}}, 'norm': np.ones(5), 'embedding': np.ones((3, 4))}
  params = jax.tree.map(lambda x: x.astype(np.float32), params)
  transform = optimizer.build(10)
  state, random = transform.init(params), np.random.default_rng(0)
  for _ in range(3):
    grads = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), params)
    updates, state = transform.update(grads, state, params)
    params = jax.tree.map(np.add, params, updates)
  return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def _changed(settings, field, value):
  """The settings with one changed, and why that was refused; where it was, the change is made all the same."""
  try:
    return dataclasses.replace(settings, **{field: value}), ''
  except UserError as error:
    changed = dataclasses.replace(settings)
    object.__setattr__(changed, field, value)
    return changed, str(error)


@pytest.mark.parametrize('field', CHANGED)
@pytest.mark.parametrize('name', NAMES)
def test_an_optimizers_setting_changes_something_or_is_refused(name, field):
  plain = Optimizer(name=name, schedule=Schedule(peak=0.1, warmup_steps=1))
  changed, refused = _changed(plain, field, CHANGED[field])
  same = all(map(np.array_equal, _update(changed), _update(plain)))
  assert same == bool(refused)
  if refused:
    assert f'Optimizer.{field} is {CHANGED[field]!r}, which has no effect here' in refused


@pytest.mark.parametrize('decay', ['cosine', 'linear', 'constant', 'rsqrt', 'wsd'])
@pytest.mark.parametrize('field', ['final_frac', 'cooldown_frac'])
def test_a_schedules_setting_changes_something_or_is_refused(decay, field):
  rates = lambda schedule: np.asarray(jax.vmap(schedule.build(20))(np.arange(20)))
  plain = Schedule(decay=decay, warmup_steps=2)
  changed, refused = _changed(plain, field, 0.5)
  assert np.array_equal(rates(changed), rates(plain)) == bool(refused)
  if refused:
    assert f'Schedule.{field} is 0.5, which has no effect here' in refused


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: MaskedLM(draw='unit'), 'MaskedLM.draw'),
    (lambda: MaskedLM(last_unit='chance'), 'MaskedLM.last_unit'),
    (lambda: MaskedLM(overlaps='document'), 'MaskedLM.overlaps'),
    (lambda: MaskedLM(unit='word', overlaps='document'), 'MaskedLM.overlaps'),
    (lambda: MaskedLM(unit='word', selection='bernoulli', last_unit='chance'), 'MaskedLM.last_unit'),
    (lambda: MaskedLM(unit='word', max_overshoot=3), 'MaskedLM.max_overshoot'),
    (lambda: PMIMasking(selection='bernoulli', max_overshoot=3), 'PMIMasking.max_overshoot'),
  ],
)
def test_an_objectives_setting_without_effect(make, sign):
  with pytest.raises(UserError, match=sign):
    make()


def test_what_has_an_effect_is_taken():
  MaskedLM(unit='collocation', overlaps='document', last_unit='chance', max_overshoot=3, draw='unit')
  PMIMasking(overlaps='document', max_overshoot=3)
