"""A real run through its entry: one program that is compiled once, takes nothing from the host and gives its memory on;
what the run says of itself; a trace.
"""

import gzip
import json

import jax
import numpy as np
import pytest
from test_gin_files import HOME, train
from unmask.launch import compiling, meters, metrics, runlog

FILES = ('gin/runs/pretrain.gin', 'gin/objectives/causal_masked.gin')
SIZE = {'TRAIN_STEPS': 8, 'BATCH_SIZE': 16, 'EVAL_PERIOD': 3, 'CHECKPOINT_PERIOD': 4, 'train.log_period': 1}


class Watch:
  """What happened in a run, once its first update was done."""

  def __init__(self):
    self.compilations: list[str] = []
    self.at_first_step: int | None = None
    self.alive: list[int] = []  # leaves of a state that were still there after the update that took it
    self.batches: list[dict[str, np.ndarray]] = []
    self.programs: list[jax.stages.Compiled] = []
    self.evaluations = 0


@pytest.fixture(scope='module')
def watched(default_task, tmp_path_factory):
  """The folder of a run, and its `Watch`. Every program of it runs where no implicit transfer is allowed."""
  folder, watch = tmp_path_factory.mktemp('watched') / 'run', Watch()
  begin, started = compiling.start, runlog.RunLog._started

  def guarded(program):
    compiled = begin(program)

    def both():
      update, evaluation = compiled()
      watch.programs.append(update)

      def step(state, batch, sound):
        watch.batches.append({name: np.asarray(value) for name, value in batch.items()})
        with jax.transfer_guard('disallow'):
          result = update(state, batch, sound)
        watch.alive.append(sum(not leaf.is_deleted() for leaf in jax.tree.leaves(state)))
        return result

      def evaluate(params, batch):
        watch.evaluations += 1
        with jax.transfer_guard('disallow'):
          return evaluation(params, batch)

      step.as_text, step.memory_analysis = update.as_text, update.memory_analysis
      return step, evaluate

    return both

  def first(self):
    watch.at_first_step = len(watch.compilations)
    started(self)

  def heard(event: str, seconds: float, **more) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      watch.compilations.append(str(more))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compiling, 'start', guarded)
    patch.setattr(runlog.RunLog, '_started', first)
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
      assert train(folder, *FILES, **SIZE, **HOME, PROFILE_STEPS='[5,6]') == 0
    finally:
      jax.monitoring.unregister_event_duration_listener(heard)
  return folder, watch


def test_nothing_is_compiled_after_the_first_step(watched):
  _, watch = watched
  assert watch.at_first_step  # the listener hears compilations
  # Orbax cuts what several devices hold alike, once, at the first checkpoint.
  assert [name for name in watch.compilations[watch.at_first_step :] if 'jit(slice)' not in name] == []
  assert len(watch.batches) == 8
  assert watch.evaluations == 3  # after updates 3, 6 and 8, of one batch each


def test_the_state_gives_its_memory_on(watched):
  _, watch = watched
  del watch.alive[4]  # the checkpoint of the fourth update is still reading what the fifth one takes
  assert watch.alive == [0] * 7
  (compiled,) = watch.programs
  memory = compiled.memory_analysis()
  states, _ = compiled.input_shardings
  batch = sum(value.nbytes for value in watch.batches[0].values()) / 8  # a device's share
  assert len(jax.tree.leaves(states)) > 20
  # What is no batch is the state, and all of it is given out in place.
  assert memory.alias_size_in_bytes == pytest.approx(memory.argument_size_in_bytes - batch, rel=1e-3)


def test_a_run_says_how_it_fares(watched):
  folder, watch = watched
  rows = [row for row in metrics.read(str(folder)) if 'loss' in row]
  assert [row['step'] for row in rows] == list(range(1, 9))
  assert set(meters.RATES) & set(rows[0]) == {'mfu_bound'}  # the first update warms up
  peak = [row['flops_per_second'] / row['mfu'] for row in rows[1:]]
  assert peak == pytest.approx([peak[0]] * 7)
  for row, batch in zip(rows, watch.batches, strict=True):
    assert row['padding'] == pytest.approx((batch['decoder_segment_ids'] == 0).mean(), rel=1e-5)
    assert row['scored'] == np.count_nonzero(batch['decoder_loss_weights'])
  assert 0 < rows[0]['padding'] < 0.5  # room for sentinels that not every row needs
  assert all(0 <= row['data_wait'] <= 1 and row['mfu'] > 0 for row in rows[1:])
  done = json.loads((folder / 'done.json').read_text())
  assert 'mfu_bound' in done  # a CPU's is a roofline
  for name in (*meters.RATES, 'padding'):
    assert done[name] == pytest.approx(np.median([row[name] for row in rows if name in row]))


def test_model_flops_are_those_of_use(watched):
  """6 a parameter of the blocks and real position, attention, and the head where something is scored."""
  folder, watch = watched
  done = json.loads((folder / 'done.json').read_text())
  real = sum(np.count_nonzero(batch['decoder_segment_ids']) for batch in watch.batches)
  scored = sum(np.count_nonzero(batch['decoder_loss_weights']) for batch in watch.batches)
  length = watch.batches[0]['decoder_segment_ids'].shape[1]
  vocabulary = json.loads((folder / 'model.json').read_text())['vocab_size']
  blocks = 2 * (32 * 16 * (2 * 2 + 2 * 1) + 3 * 32 * 48)
  attention = 12 * 2 * 2 * 16 * length * 0.5
  assert done['train_flops'] == pytest.approx((6 * blocks + attention) * real + 6 * 32 * vocabulary * scored, rel=1e-6)
  assert done['tokens_supervised'] == scored


def test_the_trace_shows_the_updates_asked_for(watched):
  folder, _ = watched
  (trace,) = folder.glob('profile/plugins/profile/*/*.trace.json.gz')
  assert len(list(trace.parent.glob('*.xplane.pb'))) == 1
  with gzip.open(trace) as file:
    events = json.load(file)['traceEvents']
  seen = {event['args']['step_num'] for event in events if event.get('name') == 'update' and 'args' in event}
  assert {int(number) for number in seen} == {5, 6}


def test_a_resumed_run_takes_no_trace_of_what_was_before(watched, default_task, tmp_path):
  more = SIZE | HOME | {'PROFILE_STEPS': '1-2', 'EVAL_PERIOD': 0}
  assert train(tmp_path / 'run', *FILES, **more, **{'train.stop_at': 4}) == 0
  traces = sorted((tmp_path / 'run' / 'profile').rglob('*.pb'))
  assert len(traces) == 1
  assert train(tmp_path / 'run', *FILES, **more) == 0
  assert sorted((tmp_path / 'run' / 'profile').rglob('*.pb')) == traces
  flops = [json.loads((folder / 'done.json').read_text())['train_flops'] for folder in (tmp_path / 'run', watched[0])]
  assert flops[0] == flops[1]
