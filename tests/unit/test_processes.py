"""A stage in other processes: the same results, in order; errors of one sentence; nothing left running."""

import importlib
import os
import sys

import pytest
from unmask import UserError
from unmask.tasks.preparation import processes

_STAGES = """
import os, time
from unmask import UserError

def power(shard, tick):
  tick(shard)
  print('a library greets')
  return 3**shard, os.getpid()

def blames_the_user(shard, tick):
  if shard == 2:
    raise UserError('The user is to blame.')
  time.sleep(0.05)

def has_a_bug(shard, tick):
  return 1 / (2 - shard)

def dies(shard, tick):
  os._exit(9) if shard == 2 else time.sleep(0.05)
"""


@pytest.fixture(name='stages')
def _stages(tmp_path, monkeypatch):
  """A module that other processes can import too."""
  (tmp_path / 'some_stages.py').write_text(_STAGES)
  monkeypatch.syspath_prepend(str(tmp_path))
  yield importlib.import_module('some_stages')
  del sys.modules['some_stages']


@pytest.mark.parametrize('count', [1, 3])
def test_results_are_in_order(stages, count):
  ticks = []
  found = processes.run(stages.power, range(7), count, ticks.append)
  assert [value for value, _ in found] == [3**i for i in range(7)]
  assert sorted(ticks) == list(range(7))
  pids = {pid for _, pid in found}
  assert (pids == {os.getpid()}) == (count == 1)
  for pid in pids - {os.getpid()}:
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)


@pytest.mark.parametrize(
  ('name', 'sign'),
  [('blames_the_user', 'The user is to blame'), ('has_a_bug', 'ZeroDivisionError'), ('dies', 'status 9')],
)
def test_errors(stages, name, sign):
  with pytest.raises(UserError, match=sign) as caught:
    processes.run(getattr(stages, name), range(6), 2, lambda n: None)
  assert '\n' not in str(caught.value)
  assert ('ended with status' in str(caught.value)) is (name != 'blames_the_user')


def test_as_many_as_are_of_use():
  assert processes.available(1) == 1
  assert 1 <= processes.available(512) <= 16
