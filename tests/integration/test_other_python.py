"""The other Python: our pins and our wheel in an environment of its own; a run there is cut, goes on and answers."""

import json
import os
import pathlib
import subprocess

import other_python
import pinned
import pytest
from tiny_decoder import DECODER

SETTINGS = DECODER | {
  'MODEL_DIR': 'run',
  'TRAIN_STEPS': 4,
  'CHECKPOINT_PERIOD': 2,
  'EVAL_PERIOD': 0,
  'BATCH_SIZE': 8,
  'TASK_FEATURE_LENGTHS': "{'targets': 64}",
  'VOCABULARY_SIZE': 1024,
}


def _run(folder: pathlib.Path, *command: str | pathlib.Path) -> str:
  own = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'XLA_FLAGS')}
  done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def python(tmp_path_factory) -> pathlib.Path:
  """Of an environment with nothing but what README's installation gives, checked by pip; 2 minutes the first time."""
  constraints = str(pinned.ROOT / 'constraints.txt')
  python = pinned.python('other-python', 'requirements.txt', '-c', constraints, of=other_python.find())
  pip, folder = [python, '-m', 'pip', '--disable-pip-version-check'], tmp_path_factory.mktemp('source')
  _run(folder, *pip, 'install', '--quiet', '--no-deps', '--force-reinstall', pinned.source(folder))
  _run(folder, *pip, 'check')
  return python


def test_a_run_is_cut_goes_on_and_answers(python, small_text, tmp_path):
  unmask = python.parent / 'unmask'
  files = ['gin/runs/pretrain.gin', 'gin/tasks/local_text.gin', 'gin/objectives/mlm.gin']
  train = [unmask, 'train', *(f'--gin_file={file}' for file in files)]
  train += [f'--gin.{name}={value}' for name, value in (SETTINGS | {'TEXT_PATTERN': small_text}).items()]
  _run(tmp_path, *train, '--gin.train.stop_at=2')
  _run(tmp_path, *train)
  rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows if 'loss' in row][-1] == 4
  assert json.loads((tmp_path / 'run' / 'environment.json').read_text())['python'].startswith(other_python.NAME[6:])
  said = _run(tmp_path, unmask, 'infill', '--model_dir=run', '--text=of the [MASK] in', '--gin.infill.max_tokens=1')
  assert 'of the [' in said
