"""A run in which nothing moves says where it hangs, and ends so that a supervisor starts it again."""

import re
import signal

import pytest
import runs
from test_numbers import objective
from unmask import UserError
from unmask.launch import watchdog

QUICK = {'WatchdogPolicy.report_after': 10.0, 'WatchdogPolicy.stop_after': 30.0}  # busy machines stand still too


@pytest.mark.parametrize(
  ('rows', 'where'), [(range(400), 'the first rows'), (range(7000, 7500, 100), 'update [0-9]+: waiting')]
)
def test_hung_input(rows, where, zygote, tmp_path):
  hangs = objective(tmp_path, rows=tuple(rows), hangs=True)
  run = zygote.start(tmp_path / 'run', files=(hangs,), **QUICK | {'TRAIN_STEPS': 2000})
  assert run.wait() == 74, run.said()
  said = run.said()
  assert re.search(rf'nothing has moved for \d+ s in {where}.* \(process 0 on ', said)
  assert len(re.findall(rf'nothing has moved for \d+ s in {where}', said)) == 2  # a report, and the end
  (stacks,) = (tmp_path / 'run' / 'hangs').iterdir()
  for text in (said, stacks.read_text()):
    assert 'loop.py' in text  # where the main thread waits
    assert 'broken_rows.py' in text  # and what it waits for


def test_hung_peer(zygote, tmp_path):
  settings = {'TRAIN_STEPS': 300, 'CHECKPOINT_PERIOD': 20}

  def start(**more):
    meeting = runs.free_address()
    return [zygote.start(tmp_path, processes=(meeting, 2, number), **settings | more) for number in range(2)]

  running = start(**QUICK | {'WatchdogPolicy.stop_after': 60.0})  # two that start at once take their time
  running[0].until(lambda: bool(runs.steps(tmp_path)))
  running[1].signal(signal.SIGSTOP)
  assert running[0].wait() == 74, running[0].said()
  assert 'nothing has moved' in running[0].said()
  assert 'updates.py' in (tmp_path / 'hangs' / 'process-0.txt').read_text()
  running[1].signal(signal.SIGKILL)
  running[1].wait()
  assert [run.wait() for run in start()] == [0, 0]
  assert [row['step'] for row in runs.lines(tmp_path) if 'loss' in row] == list(range(1, 301))


@pytest.mark.parametrize(('report', 'stop'), [(0.0, 5.0), (6.0, 5.0), (-1.0, 5.0)])
def test_senseless_limits(report, stop):
  with pytest.raises(UserError, match='report_after='):
    watchdog.WatchdogPolicy(report_after=report, stop_after=stop)
