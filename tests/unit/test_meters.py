"""Rates are what a stopwatch would say: pauses left out, the last updates only, no share above one."""

import math
import subprocess
import sys
import time

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unmask import UserError
from unmask.launch import devices, meters, profiling, startup

SECONDS = st.floats(1e-3, 1e3)


class Clock:
  """Time that passes when told."""

  def __init__(self):
    self.now = 100.0

  def __call__(self) -> float:
    return self.now


@given(
  updates=st.lists(st.tuples(SECONDS, SECONDS, st.integers(0, 10**6), st.none() | SECONDS), min_size=1, max_size=30),
  window=st.integers(1, 12),
  peak=st.none() | st.floats(1e3, 1e15),
)
def test_rates_are_those_of_the_last_updates_without_pauses(updates, window, peak):
  clock = Clock()
  meter = meters.Meter(peak, window, clock)
  assert meter.rates() == {}
  for waited, worked, tokens, pause in updates:
    with meter.waiting():
      clock.now += waited
    clock.now += worked
    meter.update(tokens, 3.0 * tokens)
    if pause is not None:  # an evaluation, which may wait for rows of its own
      with meter.waiting():
        clock.now += pause
      meter.resume()
  last = updates[-window:]
  seconds = sum(waited + worked for waited, worked, _, _ in last)
  tokens = sum(count for _, _, count, _ in last)
  rates = meter.rates()
  assert rates['tokens_per_second'] == pytest.approx(tokens / seconds)
  assert rates['flops_per_second'] == pytest.approx(3 * tokens / seconds)
  assert rates['data_wait'] == pytest.approx(sum(waited for waited, *_ in last) / seconds)
  assert 0 <= rates['data_wait'] <= 1 + 1e-9
  assert ('mfu' in rates) == (peak is not None)
  if peak is not None:
    assert rates['mfu'] == pytest.approx(rates['flops_per_second'] / peak)
  assert set(rates) <= set(meters.RATES)


def test_what_is_shown():
  rates = {'tokens_per_second': 8123.4, 'flops_per_second': 0.0582e12, 'data_wait': 0.01}
  assert meters.shown({}) == ''
  assert meters.shown(rates) == '8,123 tokens/s, 0.0582 TFLOP/s, waits for data 1%'
  rates |= {'mfu': 0.341, 'peak_flops_per_second': 3152e12}
  before, after = '8,123 tokens/s, 0.0582 TFLOP/s, waits for data 1%, MFU 34%', ' (peak 3,152: 16 x v5e)'
  assert meters.shown(rates, peak='16 x v5e') == before + after
  assert meters.shown(rates, 0.61, '16 x v5e') == before + ' of at most 61%' + after
  assert meters.shown(rates, 1.0, '16 x v5e') == before + after  # which says nothing


@given(age=st.floats(0, 1e4), parts=st.lists(st.tuples(st.sampled_from(['imports', 'data', 'step']), SECONDS)))
def test_every_second_before_the_first_step_is_some_part(age, parts):
  clock = Clock()
  began = startup.Startup(age, clock)
  began.mark('imports')
  for part, seconds in parts:
    clock.now += seconds
    began.mark(part)
  assert sum(began.parts.values()) == pytest.approx(age + sum(seconds for _, seconds in parts))
  assert began.parts['imports'] >= age - 1e-6
  assert began.line().startswith(f'first step after {sum(began.parts.values()):.1f} s: imports ')


def test_age_of_a_process():
  code = 'import time; time.sleep(0.5); from unmask.launch import startup; print(startup.process_age())'
  began = time.monotonic()
  age = float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)
  assert 0.45 < age < time.monotonic() - began + 0.05


@given(numbers=st.lists(st.integers(1, 50), min_size=2, max_size=2), train_steps=st.integers(1, 60))
def test_steps_to_profile(numbers, train_steps):
  first, last = sorted(numbers)
  for given_as in ([first, last], (first, last), f'{first}-{last}'):
    if last <= train_steps:
      assert profiling.parse(given_as, train_steps) == (first, last)
    else:
      with pytest.raises(UserError, match=f'1 to {train_steps}'):
        profiling.parse(given_as, train_steps)


def test_one_step_or_none_to_profile():
  assert profiling.parse(None, 5) is None
  assert profiling.parse(4, 5) == profiling.parse('4', 5) == (4, 4)


@pytest.mark.parametrize(
  'steps', ['', 'a-b', '3-', [1, 2, 3], [], [1.5, 2], [True, 3], '1-2-3', {'first': 1}, 2.0, True]
)
def test_what_names_no_steps(steps):
  with pytest.raises(UserError, match='PROFILE_STEPS'):
    profiling.parse(steps, 10)


@pytest.mark.parametrize('steps', [[0, 2], [3, 2], [9, 11], 11, 0])
def test_steps_outside_the_run(steps):
  with pytest.raises(UserError, match='1 to 10'):
    profiling.parse(steps, 10)


def test_virtual_devices_share_one_measured_peak():
  assert len(jax.devices()) == 8
  assert devices.peak_of(jax.devices()) == pytest.approx(devices.measured_peak())
  assert 1e9 < devices.measured_peak() < 1e14
  assert devices.peak_of(jax.devices()[:2]) == pytest.approx(devices.measured_peak() / 4)


def test_peaks_of_the_table_add_up():
  class Device:
    platform = 'tpu'

    def __init__(self, kind):
      self.device_kind = kind

  assert devices.peak_of([Device('TPU v4')] * 4) == 4 * 275e12
  assert devices.peak_of([Device('TPU v4'), Device('TPU v99')]) is None
  assert math.isclose(devices.peak_of([Device('TPU v5 lite'), Device('TPU v6 lite')]), 197e12 + 918e12)
  assert devices.name_of([Device('TPU v5 lite')] * 16) == '16 x v5e'
  assert devices.name_of([Device('TPU v99')]) == '1 x TPU v99'
  assert devices.name_of(jax.devices()) == '8 x cpu, measured'
