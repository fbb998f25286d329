"""kill -9 at random moments of one run, among them while a checkpoint is written: nothing is lost but what was done since the
last checkpoint, and the end is the same to the bit.
"""

import random
import signal
import time

import runs

STEPS, PERIOD, KILLS = 150, 10, 50
SETTINGS = {'TRAIN_STEPS': STEPS, 'CHECKPOINT_PERIOD': PERIOD, 'train.microbatches': 2, 'EVAL_PERIOD': 25}


def test_fifty_kills(zygote, tmp_path):
  zygote.train(tmp_path / 'whole', 'mlm', **SETTINGS)
  model_dir, draw = tmp_path / 'killed', random.Random(0)
  reached, writing, before = 0, 0, 0
  for number in range(KILLS):
    run = zygote.start(model_dir, 'mlm', **SETTINGS)
    done = runs.steps(model_dir)
    before = done[-1] if done else 0
    target = min(STEPS - 1, (number + 1) * STEPS // KILLS)  # it gets a little further each time
    if number % 5 == 4:  # at the moment when a checkpoint is being written
      half = lambda: any(model_dir.glob('checkpoints/*.orbax-checkpoint-tmp*'))
      run.until(lambda: half() or (model_dir / 'done.json').exists())
      time.sleep(draw.random() * 0.02)
    elif number % 5 == 3:  # anywhere in the start
      time.sleep(draw.random() * 2)
    else:
      step = lambda: max((row['step'] for row in runs.lines(model_dir)), default=0)
      run.until(lambda target=target: step() >= target or (model_dir / 'done.json').exists())
      time.sleep(draw.random() * 0.1)
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    writing += any(model_dir.glob('checkpoints/*.orbax-checkpoint-tmp*'))
    reached = max(reached, max((row['step'] for row in runs.lines(model_dir)), default=0))
    kept = runs.steps(model_dir)
    assert not kept or kept[-1] >= before  # nothing that was whole is gone
  zygote.train(model_dir, 'mlm', **SETTINGS)
  runs.assert_same(tmp_path / 'whole', model_dir)
