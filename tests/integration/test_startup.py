"""The second start finds what the first one compiled: it is quicker, quiet, and trains the same bits."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import runs
from test_gin_files import HOME, SHRINK
from unmask.launch import meters, metrics, start

LINE = re.compile(r'first step after ([\d.]+) s: (.*)')


def _train(model_dir, **environment) -> subprocess.CompletedProcess:
  """Four updates in a process of their own, on one device."""
  known = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_', 'XDG_'))}
  given = SHRINK | HOME | {'MODEL_DIR': model_dir, 'TRAIN_STEPS': 4, 'train.log_period': 1}
  flags = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/mlm.gin']
  flags += [f'--gin.{name}={value}' for name, value in given.items()]
  return subprocess.run(
    [sys.executable, '-m', 'unmask.launch.train', *flags],
    env=known | {'JAX_PLATFORMS': 'cpu'} | environment,
    capture_output=True,
    text=True,
    check=False,
  )


def _parts(said: str) -> dict[str, float]:
  """Seconds by part of the one line about the start, which must add up."""
  ((total, parts),) = LINE.findall(said)
  seconds = {name: float(value) for name, value in (part.rsplit(' ', 1) for part in parts.split(', '))}
  assert sum(seconds.values()) == pytest.approx(float(total), abs=0.06 * len(seconds))
  return seconds


@pytest.fixture(scope='module')
def starts(default_task, tmp_path_factory):
  """Three runs, with an empty cache, with a full one, and with one whose files are all damaged: the run's folder, the
  process, and the names of the programs kept after it.
  """
  home = tmp_path_factory.mktemp('home')
  found = {}
  for name in ('cold', 'warm', 'damaged'):
    if name == 'damaged':
      for path in (home / 'unmask').rglob('*-cache'):
        path.write_bytes(path.read_bytes()[:50])
    done = _train(home / name, XDG_CACHE_HOME=str(home))
    found[name] = home / name, done, {path.relative_to(home) for path in home.rglob('*-cache')}
    assert found[name][1].returncode == 0, found[name][1].stderr
  return found


def test_a_second_start_compiles_nothing(starts):
  cold, warm = (_parts(starts[name][1].stdout) for name in ('cold', 'warm'))
  assert list(cold) == ['imports', 'state', 'data', 'compile', 'step']
  assert warm['state'] + warm['compile'] < cold['state'] + cold['compile']
  kept = starts['cold'][2]
  assert len(kept) > 5
  assert {path.parent for path in kept} == {pathlib.Path('unmask', 'xla', start._processor())}
  assert starts['warm'][2] == kept  # and found all it needed


def test_nothing_is_said_but_progress(starts):
  for name in ('cold', 'warm'):
    lines = [line for line in re.split('[\r\n]', starts[name][1].stderr) if line.strip()]
    rates = r', [\d,]+ tokens/s, [\d.]+ TFLOP/s, waits for data \d+%, MFU \d+%.* \(peak [\d.]+: 1 x cpu, measured\)'
    bar = re.compile(name + r' +\d+%\|.*\| \d/4 \[[\d:]+<[\d:?]+\](, loss [\d.]+(' + rates + ')?)? *')
    assert [line for line in lines if not bar.fullmatch(line)] == []


@pytest.mark.parametrize('name', ['warm', 'damaged'])
def test_what_is_kept_changes_no_bit(starts, name):
  (_, cold, position), (_, other, other_position) = runs.final(starts['cold'][0]), runs.final(starts[name][0])
  import jax

  jax.tree.map(np.testing.assert_array_equal, cold, other)
  assert position | {'seconds': 0} == other_position | {'seconds': 0}
  rows = [
    [{key: value for key, value in row.items() if key not in meters.RATES} for row in metrics.read(str(folder))]
    for folder in (starts['cold'][0], starts[name][0])
  ]
  assert rows[0] == rows[1]


def test_no_place_to_keep_programs_is_no_obstacle(default_task, tmp_path):
  (tmp_path / 'file').write_text('')
  done = _train(tmp_path / 'run', XDG_CACHE_HOME=str(tmp_path / 'file'))
  assert done.returncode == 0, done.stderr
  assert json.loads((tmp_path / 'run' / 'done.json').read_text())['tokens_read'] > 0
  assert 'cache' not in done.stderr


@pytest.fixture(name='settings')
def _settings():
  """JAX's settings, as they were before."""
  import jax

  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  names += ('jax_persistent_cache_min_entry_size_bytes',)
  before = {name: jax.config.values[name] for name in names}
  yield lambda: jax.config.values['jax_compilation_cache_dir']
  for name, value in before.items():
    jax.config.update(name, value)


def test_who_decides_where_programs_are_kept(settings, tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  start.cache()
  assert settings() == str(tmp_path / 'unmask' / 'xla' / start._processor())
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'mine'))
  start.cache()
  assert settings() == str(tmp_path / 'mine')
  start.cache(str(tmp_path / 'gin'))
  assert settings() == str(tmp_path / 'gin')
  start.cache('')
  assert settings() is None
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
  start.cache()
  assert settings() is None
