"""Every shipped model fits the slices that its gin file names, by TPU's compiler."""

import dataclasses
import os
import pathlib
import re

import pytest
import shipped
from unmask.launch import config, flags, memory, precompiling, slices, start, study

TABLE = pathlib.Path(__file__).resolve().parents[2] / 'docs' / 'scaling.md'
# A minute to six each: UNMASK_COMPILED="1.3B-v5e:4x4 350M-v5e:2x4" compiles others.
COMPILED = os.environ.get('UNMASK_COMPILED', 'tiny-v5e:1x1').split()


def _settings(fits: shipped.Fits) -> study.Settings:
  start.libraries()
  files = ['gin/runs/pretrain.gin', 'gin/objectives/next_token.gin', f'gin/models/{fits.model}.gin']
  config.load(files, ["MODEL_DIR = ''", *fits.bindings()])
  return precompiling.configured(precompiling.parse_mesh(fits.mesh))


@pytest.mark.parametrize('fits', shipped.fits(), ids=str)
def test_it_divides_and_its_state_has_room(fits):
  topology = slices.parse(fits.topology)
  with flags.quiet():
    program = _settings(fits).program(topology)
  assert sum(memory.kept(program).values()) < topology.chip.memory


@pytest.mark.parametrize('fits', shipped.fits(), ids=str)
def test_it_was_found_to_fit(fits):
  """The table has what the compiler said of each, all layers: `python tests/benchmarks/scaling.py`, half an hour."""
  mesh = {'data=-1': 'one chip' if fits.topology == 'v5e:1x1' else r'data=\d+'}.get(fits.mesh, fits.mesh)
  said = rf'{fits.topology} \| {mesh} \| {fits.rows:,} x {fits.tokens:,} \| [^|]* \| (\S+) of (\S+) \|'
  needs, has = re.search(rf'\| {fits.model} \| [^|]* \| {said}', TABLE.read_text()).groups()
  assert float(needs) <= float(has) == pytest.approx(slices.parse(fits.topology).chip.memory / 2**30, abs=0.01)


@pytest.mark.parametrize('fits', [one for one in shipped.fits() if str(one) in COMPILED], ids=str)
def test_it_fits(fits):
  settings = _settings(fits)
  if 'UNMASK_COMPILED' not in os.environ:  # in a loop: a third of the time to compile, and a little more memory
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, scan_unroll=1))
  with flags.quiet():
    found = study.compile_and_study(settings, slices.parse(fits.topology))
  assert found.memory.arguments < found.memory.peak <= found.memory.chip


def test_what_does_not_fit_fails():
  fits = next(one for one in shipped.fits() if one.model == 'tiny')
  with flags.quiet(), pytest.raises(study.TooBig, match='a step needs'):
    study.compile_and_study(_settings(dataclasses.replace(fits, rows=fits.rows * 1024)), slices.parse(fits.topology))
