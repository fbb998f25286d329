"""A run that is asked to stop saves and says so by its exit status; the same command goes on to the same bits."""

import gc
import signal
import time

import pytest
import runs
from unmask.launch import exits, interruption

SETTINGS = {'TRAIN_STEPS': 60, 'CHECKPOINT_PERIOD': 1000, 'BATCH_SIZE': 16}


@pytest.fixture(scope='module')
def whole(zygote, tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  zygote.train(folder, 'meap', **SETTINGS)
  return folder


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(number, status, whole, zygote, tmp_path):
  run = zygote.start(tmp_path, 'meap', **SETTINGS)
  run.until(lambda: len(runs.lines(tmp_path)) >= 10)
  began = time.monotonic()
  run.signal(number)
  assert run.wait() == status
  assert time.monotonic() - began < 15  # well within the 30 s that clouds give
  (step,) = runs.steps(tmp_path)
  assert 10 <= step < 60
  assert f'stopped by {number.name} and saved after update {step}. The same command goes on' in run.said()
  assert 'Traceback' not in run.said()
  zygote.train(tmp_path, 'meap', **SETTINGS)
  runs.assert_same(whole, tmp_path)


@pytest.mark.parametrize('seconds', [0.1, 0.5, 0.7, 0.9])
def test_before_the_first_update_there_is_nothing_to_save(seconds, zygote, tmp_path):
  run = zygote.start(tmp_path, 'meap', **SETTINGS)
  run.until(lambda: (tmp_path / '.lock').exists())  # it listens from about here
  time.sleep(seconds)
  run.signal(signal.SIGTERM)
  assert run.wait() == 75
  assert 'stopped by SIGTERM before its first update' in run.said()
  assert 'ignored' not in run.said()
  assert runs.steps(tmp_path) == []


def test_a_signal_in_a_garbage_collection_is_not_lost():
  """Nothing that is raised there goes further: a tenth of the signals at JAX's start came to nothing."""

  def in_vain(phase: str, found: dict) -> None:
    gc.callbacks.remove(in_vain)
    signal.raise_signal(signal.SIGTERM)

  def start() -> None:
    with interruption.Interruption().listening():
      gc.callbacks.append(in_vain)
      gc.collect()
      time.sleep(60)

  began = time.monotonic()
  with pytest.raises(exits.Preempted, match='SIGTERM'):
    start()
  assert time.monotonic() - began < 30


def test_all_processes_stop_after_the_same_update(zygote, tmp_path):
  """The notice reaches one of two machines; both save the same checkpoint, and both go on from it."""
  settings = SETTINGS | {'TRAIN_STEPS': 400}

  def start():
    address = runs.free_address()
    return [zygote.start(tmp_path, 'meap', processes=(address, 2, number), **settings) for number in range(2)]

  running = start()
  running[0].until(lambda: len(runs.lines(tmp_path)) >= 10)
  running[1].signal(signal.SIGTERM)
  assert [run.wait() for run in running] == [75, 75], running[0].said() + running[1].said()
  (step,) = runs.steps(tmp_path)
  assert all(f'saved after update {step}.' in run.said() for run in running)
  again = start()
  again[0].until(lambda: runs.lines(tmp_path)[-1]['step'] > step)
  again[0].signal(signal.SIGTERM)
  assert [run.wait() for run in again] == [75, 75]
  assert [row['step'] for row in runs.lines(tmp_path)] == list(range(1, runs.steps(tmp_path)[-1] + 1))


def test_a_sweep_hands_the_notice_on(zygote, tmp_path):
  """The run saves, the sweep ends with the same status, and the same command goes on from there."""
  bindings = [f'{name} = {value}' for name, value in (runs.TINY | SETTINGS | {'TRAIN_STEPS': 4000}).items()]
  bindings = [line if 'DIR' not in line else f'{line.split(" = ")[0]} = "{line.split(" = ")[1]}"' for line in bindings]
  given = {
    'SWEEP_DIR': tmp_path,
    'RUN': 'gin/runs/pretrain.gin',
    'AXES': "{'objective': ['next_token']}",
    'BINDINGS': bindings,
  }
  argv = ['sweep', '--gin_file=gin/sweeps/core.gin', *(f'--gin.{name}={value}' for name, value in given.items())]
  cell = tmp_path / 'next_token-seed0'
  sweep = zygote.command(argv)
  sweep.until(lambda: len(runs.lines(cell)) >= 5)
  sweep.signal(signal.SIGTERM)
  assert sweep.wait() == 75, sweep.said()
  assert 'which is saved. The same command goes on.' in sweep.said()
  (step,) = runs.steps(cell)
  assert step >= 5
