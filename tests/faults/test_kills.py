"""kill -9 at random moments of one run, among them while a checkpoint is written: lost is what was done since the last
checkpoint was begun, and the end is the same to the bit.

Ten kills; fifty by hand: UNMASK_KILLS=50 pytest tests/faults/test_kills.py
"""

import os
import random
import signal
import time

import runs
import virtual_devices

STEPS, PERIOD, KILLS = 150, 10, int(os.environ.get('UNMASK_KILLS', '10'))
SETTINGS = {'TRAIN_STEPS': STEPS, 'CHECKPOINT_PERIOD': PERIOD, 'train.microbatches': 2, 'EVAL_PERIOD': 25}
SETTINGS |= {'BATCH_SIZE': 32, 'TASK_FEATURE_LENGTHS': "{'targets': 128}"}  # a checkpoint is written in fewer updates
RUN = SETTINGS | {'environment': {'XLA_FLAGS': virtual_devices.flags(1)}}  # and they are slow


def test_kills(zygote, tmp_path):
  zygote.train(tmp_path / 'whole', 'mlm', **RUN)
  model_dir, draw = tmp_path / 'killed', random.Random(0)
  half_written = lambda: [
    int(path.name.split('.')[0]) for path in model_dir.glob('checkpoints/*.orbax-checkpoint-tmp*')
  ]
  step = lambda: max((row['step'] for row in runs.lines(model_dir)), default=0)
  done = lambda: (model_dir / 'done.json').exists()
  caught, lost, kept = 0, [], []
  for number in range(KILLS):
    writing = number % 5 == 4
    run = zygote.start(model_dir, 'mlm', slow=0.3 if writing else 0.0, **RUN)
    target = (number + 1) * (STEPS - 10) // KILLS  # it gets a little further each time
    if writing:  # while a checkpoint is being written
      run.until(lambda: bool(half_written()) or done())
    elif number % 5 == 3:  # anywhere in the start
      time.sleep(draw.random() * 3)
    else:  # a little after an update
      run.until(lambda target=target: step() >= target or done())
      time.sleep(draw.random() * 0.05)
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    before, kept = kept, runs.steps(model_dir)
    assert kept[-1:] >= before[-1:]  # what was whole and newest is there, or newer ones are that took its place
    caught += bool(half_written())
    # Training goes on while a checkpoint is written: one that was begun may be lost too, as it is here on purpose.
    lost.append(step() - max(half_written() + kept, default=0))
  assert caught >= KILLS // 10  # some of the kills were during a write
  assert max(lost) <= PERIOD + 2  # one update may be under way, and one is told late
  zygote.train(model_dir, 'mlm', **RUN)
  runs.assert_same(tmp_path / 'whole', model_dir)
