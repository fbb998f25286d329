"""One run at a time writes into a MODEL_DIR; a dead one is in nobody's way."""

import signal

import runs

SETTINGS = {'TRAIN_STEPS': 4000, 'CHECKPOINT_PERIOD': 20}


def test_a_second_run_is_refused_and_a_dead_one_is_taken_over(zygote, tmp_path):
  first = zygote.start(tmp_path, **SETTINGS)
  first.until(lambda: bool(runs.steps(tmp_path)))
  second = zygote.start(tmp_path, **SETTINGS)
  assert second.wait() == 2
  assert f'{tmp_path} is in use by process {first.pid} on ' in second.said()
  assert 'Traceback' not in second.said()
  before = len(runs.lines(tmp_path))
  first.until(lambda: len(runs.lines(tmp_path)) > before)  # it has noticed nothing
  first.signal(signal.SIGKILL)
  first.wait()
  step = runs.steps(tmp_path)[-1]
  assert str(first.pid) in (tmp_path / '.lock').read_text()  # it had no time to clean up
  assert f'{step}/' in zygote.train(tmp_path, **SETTINGS | {'train.stop_at': step + 5}).replace(' ', '')
  assert runs.lines(tmp_path)[-1]['step'] == step + 5


def test_readers_need_no_lock(zygote, tmp_path):
  run = zygote.start(tmp_path, **SETTINGS)
  run.until(lambda: bool(runs.steps(tmp_path)))
  replay = zygote.command(['replay', f'--model_dir={tmp_path}', '--step=2', '--rows=1'])
  assert replay.wait() == 0, replay.said()
  assert 'as the run had it' in replay.said()
  run.signal(signal.SIGTERM)
  assert run.wait() == 75
