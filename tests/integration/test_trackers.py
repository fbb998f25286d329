"""Weights & Biases, offline: it has what 'metrics.jsonl' has, goes on with the run, and ends no training."""

import json
import struct
from collections.abc import Iterator

import pytest
from unmask import UserError
from unmask.launch import metrics, trackers
from wandb.proto import wandb_internal_pb2

OFFLINE = {'WANDB_MODE': 'offline', 'WANDB_PROJECT': 'objectives'}


def _records(path) -> Iterator[wandb_internal_pb2.Record]:
  """What an offline run's file holds: records in LevelDB's log format (its doc/log_format.md), after seven bytes."""
  data, at, whole = path.read_bytes(), 7, b''
  while at + 7 <= len(data):
    if (left := 32768 - at % 32768) < 7:  # a block ends in zeros where no head fits
      at += left
      continue
    length, kind = struct.unpack('<HB', data[at + 4 : at + 7])
    whole += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # all of a record, or its end
      yield wandb_internal_pb2.Record.FromString(whole)
      whole = b''


def _history(path) -> list[dict]:
  read = lambda items: {item.key or '.'.join(item.nested_key): json.loads(item.value_json) for item in items}
  rows = [read(record.history.item) for record in _records(path) if record.WhichOneof('record_type') == 'history']
  return [{name: value for name, value in row.items() if not name.startswith('_')} for row in rows]


def test_a_run_and_its_going_on(zygote, tmp_path):
  settings = {'TRAIN_STEPS': 4, 'CHECKPOINT_PERIOD': 2, 'EVAL_PERIOD': 2, 'environment': OFFLINE}
  zygote.train(tmp_path / 'run', 'mlm', **settings | {'train.stop_at': 2})
  zygote.train(tmp_path / 'run', 'mlm', **settings)
  files = sorted((tmp_path / 'run' / 'wandb').glob('offline-run-*/*.wandb'))
  assert len(files) == 2
  told = [row for path in files for row in _history(path)]
  for row, want in zip(told, metrics.read(str(tmp_path / 'run')), strict=True):
    assert row == pytest.approx(want)
  begun = [record.run for path in files for record in _records(path) if record.WhichOneof('record_type') == 'run']
  assert {(run.run_id, run.project, run.display_name) for run in begun} == {
    (json.loads((tmp_path / 'run' / 'wandb.json').read_text())['id'], 'objectives', 'run')
  }
  config = {item.key: item.value_json for record in _records(files[0]) for item in record.config.update if item.key}
  assert config['OBJECTIVE/masked_lm.MaskedLM.rate'] == '"0.15"'


def test_nothing_is_begun_unless_it_is_asked_for(zygote, tmp_path):
  zygote.train(tmp_path / 'run', 'mlm', TRAIN_STEPS=1)
  assert not list((tmp_path / 'run').glob('wandb*'))


def test_a_service_that_cannot_be_reached_ends_no_training(zygote, tmp_path):
  """A key that is none: it is said once, and all else is as ever."""
  broken = {'WANDB_API_KEY': 'no key at all', 'WANDB_BASE_URL': 'http://127.0.0.1:9', 'WANDB_MODE': 'online'}
  said = zygote.train(tmp_path / 'run', 'mlm', TRAIN_STEPS=2, environment=broken)
  assert said.count('unmask: Weights & Biases is left out: ') == 1
  assert 'Traceback' not in said
  assert [row['step'] for row in metrics.read(str(tmp_path / 'run')) if 'loss' in row] == [1, 2]


@pytest.mark.parametrize(
  ('variables', 'sign'),
  [
    ({'WANDB_MODE': 'ofline'}, "WANDB_MODE is 'ofline'; it is one of online, offline, disabled"),
    ({'WANDB_PROJECT': 'mine', 'PYTHON': 'without'}, 'WANDB_PROJECT asks for Weights & Biases, which is not installed'),
  ],
)
def test_what_cannot_be_meant(variables, sign, monkeypatch):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  if 'PYTHON' in variables:
    monkeypatch.setattr(trackers.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match=sign):
    trackers.wanted()


@pytest.mark.parametrize(('mode', 'wanted'), [('', False), ('disabled', False), ('offline', True)])
def test_when_it_is_asked_for(mode, wanted, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', mode)
  assert trackers.wanted() == wanted
