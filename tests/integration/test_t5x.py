"""t5x itself: its train.py runs our tasks and objectives with its own model, and with our decoder as its model."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import t5x_source

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINE = re.compile(r'\[(\d+)\] collection=(\S+) (.*)')


def _python(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
  path = [*t5x_source.find(), *filter(None, [os.environ.get('PYTHONPATH')])]
  environment = os.environ | {'PYTHONPATH': os.pathsep.join(path), 'XLA_FLAGS': ''}
  done = subprocess.run(
    [sys.executable, '-W', 'ignore', *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done


def _train(folder: pathlib.Path, model: str, objective: str, *more: str) -> dict[str, dict[int, dict[str, float]]]:
  """Twenty updates with checkpoints and evaluations every ten; the scalars that t5x logs, by collection and step."""
  files = ('gin/t5x/pretrain.gin', f'gin/t5x/{model}.gin', f'gin/objectives/{objective}.gin')
  bindings = {
    'MODEL_DIR': repr(str(folder / 'run')),
    'DATA_DIR': repr(str(ROOT / 'data')),
    'DOWNLOAD_DIR': repr(str(ROOT / 'data' / 'downloads')),
    'TASK_FEATURE_LENGTHS': "{'targets': 64}",
    'TRAIN_STEPS': 20,
    'BATCH_SIZE': 8,
    'EVAL_PERIOD': 10,
    'EVAL_STEPS': 2,
    'CHECKPOINT_PERIOD': 10,
  }
  given = [f'--gin_file={file}' for file in files] + [f'--gin.{name}={value}' for name, value in bindings.items()]
  done = _python('-m', 't5x.train', f'--gin_search_paths={ROOT}', *given, *more, cwd=folder)
  found: dict = {}
  for number, collection, text in LINE.findall(done.stderr):
    scalars = dict(part.split('=') for part in text.split(', ') if re.fullmatch(r'[\w/]+=[-\d.e+]+', part))
    found.setdefault(collection, {}).setdefault(int(number), {}).update({k: float(v) for k, v in scalars.items()})
  return found


def _learnt(logged: dict, loss: str) -> None:
  for collection in ('train', 'training_eval/default_text'):
    before, after = (logged[collection][step][loss] for step in (10, 20))
    assert 5 < after < before - 0.2, collection
    assert before < 9.5, 'log(8192) is 9.01'


def test_t5xs_own_model_trains_on_our_tasks_and_objective(default_task, tmp_path):
  logged = _train(tmp_path, 'stock_decoder', 'mlm')
  _learnt(logged, 'loss_per_nonpadding_target_token')
  assert logged['train'][20]['non_padding_fraction/loss_weights'] == pytest.approx(0.15, abs=0.01)
  assert {path.name for path in (tmp_path / 'run').glob('checkpoint_*')} == {f'checkpoint_{n}' for n in (0, 10, 20)}
  assert 'masked_lm.MaskedLM.rate = 0.15' in (tmp_path / 'run' / 'config.gin').read_text()


def test_our_decoder_trains_as_its_model_and_goes_on_where_it_stopped(default_task, tmp_path):
  microbatches = '--gin.NUM_MICROBATCHES=2'
  logged = _train(tmp_path, 'decoder', 'causal_masked', microbatches)
  _learnt(logged, 'loss')
  assert logged['train'][20]['learning_rate/current'] == pytest.approx(3e-3)
  assert logged['train'][20]['timing/steps_per_second'] > 0
  partition = (tmp_path / 'run' / 'model-info.txt').read_text()
  assert re.search(r'embedding .*vocab=8192, embed=128.*model', partition)
  shutil.rmtree(tmp_path / 'run' / 'checkpoint_20')
  again = _train(tmp_path, 'decoder', 'causal_masked', microbatches)
  assert 10 not in [step for step, scalars in again['train'].items() if 'loss' in scalars]
  for collection in ('train', 'training_eval/default_text'):
    for name in ('loss', 'accuracy', 'non_padding_fraction/loss_weights'):
      assert again[collection][20][name] == logged[collection][20][name], 'the same rows, the same parameters'


def test_numbers_agree(default_task, tmp_path):
  """Masks, losses and gradients of t5x's functions and ours on the same batches."""
  script = str(ROOT / 'tests' / 't5x_numbers.py')
  found = json.loads(_python(script, str(ROOT / 'data'), cwd=tmp_path).stdout.strip().splitlines()[-1])
  assert found['axes without a rule'] == []
  assert found['axes of the contract'] == []
  for name, numbers in found['stock'].items():
    assert numbers['masks differ'] == 0, name
    assert numbers['loss'] == pytest.approx(numbers['ours'], rel=1e-5), name
    assert numbers['summed loss'] == pytest.approx(numbers['ours'], rel=1e-5), name
  for name, by_count in found['ours'].items():
    for count, numbers in by_count.items():
      assert numbers['loss'] == pytest.approx(numbers['ours'], rel=1e-5), (name, count)
      assert numbers['gradients apart'] < 1e-5, (name, count)
