"""Two real processes, joined by jax.distributed, train as one process with as many devices does."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest
import virtual_devices
from unmask.launch import meters

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = 4
RUN = """
import sys
import jax
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.config.update('jax_cpu_enable_async_dispatch', False)
process, processes, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if processes > 1:
  jax.distributed.initialize(address, processes, process)
assert jax.device_count() == 4
from unmask.launch import cli
sys.exit(cli.main(sys.argv[4:]))
"""


def _run(processes: int, *given: str) -> None:
  """A command on four devices, divided over so many processes."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  environment = os.environ | {'XLA_FLAGS': virtual_devices.flags(DEVICES // processes), 'JAX_PLATFORMS': 'cpu'}
  running = [
    subprocess.Popen(
      [sys.executable, '-c', RUN, str(number), str(processes), address, *given],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for number in range(processes)
  ]
  try:
    said = [process.communicate(timeout=400)[0] for process in running]
  finally:
    for process in running:
      process.kill()
  assert [process.returncode for process in running] == [0] * processes, '\n'.join(said)[-3000:]


def _train(model_dir: pathlib.Path, processes: int) -> pathlib.Path:
  """Four steps, the last of which is saved."""
  bindings = {
    'TRAIN_STEPS': 4,
    'BATCH_SIZE': 8,
    'EVAL_PERIOD': 2,
    'train.log_period': 1,
    'Evaluation.batches': 1,
    'TASK_FEATURE_LENGTHS': "{'targets': 64}",
    'MeshConfig.fsdp': 2,
    'MODEL_DIR': model_dir,
    'DATA_DIR': ROOT / 'data',
    'DOWNLOAD_DIR': ROOT / 'data' / 'downloads',
  }
  given = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/mlm.gin']
  given += [f'--gin.{name}={value}' for name, value in bindings.items()]
  _run(processes, 'train', *given)
  assert json.loads((model_dir / 'done.json').read_text())['tokens_read'] > 0
  return model_dir


def _lines(model_dir: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in (model_dir / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def alone(default_task, tmp_path_factory):
  return _train(tmp_path_factory.mktemp('alone'), 1)


def test_processes_train_as_one(alone, tmp_path):
  """Four: tests/integration/test_tpu_run.py."""
  found, expected = _lines(_train(tmp_path, 2)), _lines(alone)
  assert len(found) == len(expected) == 6  # one line a step and one an evaluation, by one process
  for one, other in zip(expected, found, strict=True):
    timeless = lambda row: {name: value for name, value in row.items() if name not in meters.RATES}
    assert timeless(other) == pytest.approx(timeless(one), rel=1e-4)
  assert (tmp_path / 'checkpoints' / '4').is_dir()


def test_processes_judge_as_one(alone, tmp_path):
  """`alone` was trained by one process; two judge it, and one does, with parameters split over two devices."""
  few = {'LeftToRight.gaps': 16, 'Masked.segments': 4, 'Infill.gaps': '{3: 8}', 'EntityCloze.spans': 4}
  few |= {'KeyValue.per_cell': 1, 'Needle.per_cell': 1, 'CollocationCloze.units': 4, 'EntityTracking.stories': 4}
  found = []
  for processes in (1, 2):
    model_dir = shutil.copytree(alone, tmp_path / str(processes))
    given = [f'--gin.{name}={value}' for name, value in (few | {'evaluate.batch_size': 8}).items()]
    given += ['--gin.evaluate.mesh=@mesh.MeshConfig()', '--gin.MeshConfig.fsdp=2']
    _run(processes, 'evaluate', f'--model_dir={model_dir}', *given)
    found.append(json.loads((model_dir / 'evaluation' / '4.json').read_text())['tests'])
  assert set(found[0]) == set(found[1])
  for name, test in found[0].items():
    assert found[1][name]['asked'] == test['asked']
    assert found[1][name]['figures'] == pytest.approx(test['figures'], rel=1e-3, abs=1e-6)
