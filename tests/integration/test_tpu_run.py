"""A run of four processes by launch/tpu/vm.sh on stand-ins for hosts: one is killed, all go on to the same bits."""

import json
import os
import pathlib
import shlex
import subprocess
import time
from collections.abc import Iterator

import forks
import pytest
import runs
import virtual_devices
from cloud import Cloud
from unmask.launch import exits

SCRIPT = runs.ROOT / 'launch' / 'tpu' / 'vm.sh'
STEPS = 40
SETTINGS = runs.TINY | {
  'TRAIN_STEPS': STEPS,
  'CHECKPOINT_PERIOD': 10,
  'EVAL_PERIOD': 20,
  'MeshConfig.fsdp': 2,
  'DecoderConfig.num_layers': 1,
}


def _words(model_dir: pathlib.Path) -> list[str]:
  """Arguments of `unmask train`."""
  files = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/next_token.gin']
  return files + [f'--gin.{name}={value}' for name, value in (SETTINGS | {'MODEL_DIR': model_dir}).items()]


@pytest.fixture(scope='module')
def own(default_task, tmp_path_factory) -> Iterator[dict[str, str]]:
  """Variables with which the script of `forks` works."""
  with forks.server(tmp_path_factory.mktemp('forks')) as variables:
    yield variables


@pytest.fixture(scope='module')
def begin(own, tmp_path_factory):
  """Begins a verb of vm.sh; gives the stand-in, the process and the run's folder."""
  running = []

  def begin_one(verb: str) -> tuple[Cloud, subprocess.Popen, pathlib.Path]:
    folder = tmp_path_factory.mktemp('with spaces ')
    cloud, model_dir = Cloud(folder / 'a cloud'), folder / 'a run'
    environment = cloud.prepare(forks.SCRIPT) | own | {'JAX_COORDINATOR_PORT': runs.free_address().split(':')[1]}
    command = f'(unmask train {shlex.join(_words(model_dir))})'
    log = open(folder / 'log', 'w')  # noqa: SIM115  closed below
    process = subprocess.Popen(
      ['bash', SCRIPT, cloud.settings(COMMAND=command), verb], cwd=folder, env=environment, stdout=log, stderr=log
    )
    running.append((cloud, process, log))
    return cloud, process, model_dir

  yield begin_one
  for cloud, process, log in running:
    process.kill()
    process.wait()
    cloud.kill()
    log.close()


def _said(model_dir: pathlib.Path) -> str:
  return (model_dir.parent / 'log').read_text()


def _ended(process: subprocess.Popen, model_dir: pathlib.Path) -> int:
  try:
    return process.wait(runs.PATIENCE)
  except subprocess.TimeoutExpired:
    raise AssertionError(_said(model_dir)[-5000:]) from None


@pytest.fixture(scope='module')
def whole(begin) -> tuple[Cloud, pathlib.Path]:
  cloud, process, model_dir = begin('babysit')
  assert _ended(process, model_dir) == 0, _said(model_dir)[-5000:]
  return cloud, model_dir


def test_one_process_writes_what_is_written_once(whole):
  cloud, model_dir = whole
  mine = [
    [pathlib.Path(line).relative_to(model_dir) for line in text.split('\n') if line.startswith(f'{model_dir}/')]
    for text in ((cloud.host(number) / 'writes').read_text() for number in range(4))
  ]
  once = {'config.gin', 'operative_config.gin', 'realised.json', 'environment.json', 'model.json', 'done.json'}
  assert {path.name.strip('.').removesuffix('.tmp') for path in mine[0]} >= once | {'metrics.jsonl', 'lock'}
  for others in mine[1:]:
    assert others  # each sees whether it can write there
    # 'hangs' has a file of each, on a machine so busy that the watchdog speaks.
    assert {path.parts[0] for path in others if not path.name.startswith('.writable')} <= {'checkpoints', 'hangs'}
  assert len(runs.lines(model_dir)) == STEPS + 2  # and the evaluations
  assert json.loads((model_dir / 'environment.json').read_text())['processes'] == 4
  said = [line for line in _said(model_dir).split('\n') if line.startswith('[') and 'unmask-job' not in line]
  told = [line for line in said if 'Gloo' not in line]  # of which every process tells
  assert any('first step after' in line for line in told)
  assert {line[:3] for line in told} == {'[0]'}


def test_four_processes_train_as_one(own, whole, tmp_path):
  """With as many devices: the same rows, and losses within what float32 sums in another order allow."""
  script = tmp_path / 'unmask'
  script.write_text(forks.SCRIPT)
  script.chmod(0o755)
  environment = os.environ | own | {'HOME': str(tmp_path), 'XLA_FLAGS': virtual_devices.many(4)}
  subprocess.run([script, 'train', *_words(tmp_path / 'run')], cwd=tmp_path, env=environment, check=True)
  found, expected = runs.lines(whole[1]), runs.lines(tmp_path / 'run')
  assert len(found) == len(expected)
  for one, other in zip(expected, found, strict=True):
    assert other == pytest.approx(one, rel=2e-4)


def test_one_is_killed_and_all_come_back(begin, whole):
  _, expected = whole
  cloud, babysit, model_dir = begin('babysit')
  end = time.monotonic() + runs.PATIENCE
  while not (runs.steps(model_dir) and len(runs.lines(model_dir)) > 14):
    assert time.monotonic() < end, _said(model_dir)[-5000:]
    time.sleep(0.02)
  (pid,) = (cloud.host(2) / 'unmask-job' / 'attempts').glob('*/pid')
  subprocess.run(['kill', '-KILL', pid.read_text().strip()], check=True)
  assert _ended(babysit, model_dir) == 0, _said(model_dir)[-5000:]
  said = _said(model_dir)
  first, again = said.split('restart 1 of at most 100')
  assert 'ended with status 137' in first
  for number in (0, 1, 3):
    assert f'[{number}] unmask-job: ended with status {exits.LOST}' in first
    assert f'[{number}] unmask: another process of this run was lost' in first
  assert 'Traceback' not in said
  assert [again.count(f'[{number}] unmask-job: ended with status 0') for number in range(4)] == [1] * 4
  assert cloud.verbs() == ['create', 'ssh', 'scp', 'ssh', 'ssh', 'ssh']  # the slice and what is on it stayed
  assert runs.lines(model_dir) == runs.lines(expected)
  state, expected_state = (runs.arrays(run / 'checkpoints' / f'{STEPS}' / 'state') for run in (model_dir, expected))
  assert len(state) > 20
  runs.assert_same_arrays(state, expected_state)
