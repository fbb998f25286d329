"""What a run says it was trained on."""

import importlib.metadata
import json

import jax
from unmask.launch import environment


def test_facts_are_those_of_this_process():
  facts = environment.facts()
  assert facts['devices'] == jax.device_count() == 8
  assert facts['device'] == jax.devices()[0].device_kind
  assert facts['versions']['jax'] == jax.__version__
  assert facts['versions']['numpy'] == importlib.metadata.version('numpy')
  assert facts['date'].endswith(' UTC')
  assert json.loads(json.dumps(facts)) == facts


def test_a_run_keeps_what_it_began_on(tmp_path):
  environment.record(str(tmp_path))
  path = tmp_path / environment.NAME
  assert json.loads(path.read_text())['processes'] == 1
  path.write_text('{"device": "another"}')
  environment.record(str(tmp_path))
  assert json.loads(path.read_text()) == {'device': 'another'}


def test_memory_is_only_said_where_the_backend_counts_it():
  peak = environment.peak_bytes()
  counted = [device.memory_stats() for device in jax.local_devices()]
  assert (peak is None) == all(not stats for stats in counted)
