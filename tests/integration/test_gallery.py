"""The scripts of docs/gallery, as a reader runs them; the picture in the README is what they draw."""

import os
import pathlib
import re
import subprocess
import sys

import virtual_devices

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALLERY = ROOT / 'docs' / 'gallery'


def _run(script: str, *flags: str) -> str:
  """What a script prints."""
  done = subprocess.run(
    [sys.executable, str(GALLERY / script), *flags],
    env=os.environ | {'XLA_FLAGS': virtual_devices.flags(1)},
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_every_script_has_a_test():
  """Three at most; a fourth belongs in somebody's project."""
  assert {path.name for path in GALLERY.glob('*.py')} == {'one_row.py', 'gradient.py', 'positions.py'}


def test_one_row_under_six_objectives(default_task, tmp_path):
  said = _run('one_row.py', f'--svg={tmp_path}/one_row.svg')
  assert re.findall(r'^(\w+) sees (?:the past|both sides)$', said, re.MULTILINE) == [
    'next_token',
    'causal_masked',
    'mlm',
    'pmi_masking',
    'salient_span',
    'meap',
  ]
  assert (tmp_path / 'one_row.svg').read_bytes() == (ROOT / 'docs' / 'images' / 'one_row.svg').read_bytes()


def test_one_row_under_the_family(default_task, tmp_path):
  said = _run('one_row.py', f'--svg={tmp_path}/family.svg', '--family')
  assert len(re.findall(r'^[\w, ]+ sees (?:the past|both sides)', said, re.MULTILINE)) == 15
  assert (tmp_path / 'family.svg').read_bytes() == (ROOT / 'docs' / 'images' / 'family.svg').read_bytes()


def test_a_gradient_without_gin():
  said = _run('gradient.py', 'docs/*.md', '--steps=24')
  for name in ('next_token', 'mlm'):
    (line,) = [line for line in said.split('\n') if line.startswith(name)]
    losses = [float(loss) for loss in re.findall(r'\d+: ([\d.]+)', line)]
    assert len(losses) == 7
    assert losses[-1] < 0.7 * losses[0]


def test_masks_by_position(default_task, tmp_path):
  said = _run('positions.py', '--rows=600', f'--png={tmp_path}/positions.png')
  found = re.findall(r'^(\w+) +corrupted ([\d.]+), by position ([\d.]+) to ([\d.]+)$', said, re.MULTILINE)
  assert [name for name, *_ in found] == ['mlm', 'pmi_masking', 'random_span', 'meap']
  assert all(0.13 < float(mean) < 0.17 and float(least) < float(mean) < float(most) for _, mean, least, most in found)
  assert (tmp_path / 'positions.png').read_bytes().startswith(b'\x89PNG')
