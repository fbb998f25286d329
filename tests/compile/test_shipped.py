"""Every shipped model fits the slices that its gin file names, by TPU's compiler."""

import dataclasses
import functools
import os
import pathlib
import re

import pytest
import shipped
from unmask.launch import config, flags, memory, precompiling, slices, start, study, tables
from unmask.launch.program import Program

TABLE = pathlib.Path(__file__).resolve().parents[2] / 'docs' / 'scaling.md'
# A minute to six each: UNMASK_COMPILED="1.3B-v5e:4x4 350M-v5e:2x4" compiles others.
COMPILED = os.environ.get('UNMASK_COMPILED', 'tiny-v5e:1x1').split()


def _settings(fits: shipped.Fits) -> study.Settings:
  start.libraries()
  files = ['gin/runs/pretrain.gin', 'gin/objectives/next_token.gin', f'gin/models/{fits.model}.gin']
  config.load(files, ["MODEL_DIR = ''", *fits.bindings()])
  return precompiling.configured(precompiling.parse_mesh(fits.mesh))


@functools.cache
def _program(fits: shipped.Fits) -> Program:
  with flags.quiet():
    return _settings(fits).program(slices.parse(fits.topology))


@pytest.mark.parametrize('fits', shipped.fits(), ids=str)
def test_it_divides_and_its_state_has_room(fits):
  assert sum(memory.kept(_program(fits)).values()) < slices.parse(fits.topology).chip.memory


@pytest.mark.parametrize('fits', shipped.fits(), ids=str)
def test_it_was_found_to_fit(fits):
  """The table has what the compiler said of each, all layers: `python tests/benchmarks/scaling.py`, half an hour.

  A file whose decoder has another size or another remat policy than its row must be compiled anew.
  """
  program, topology = _program(fits), slices.parse(fits.topology)
  mesh = {'data=-1': 'one chip' if fits.topology == 'v5e:1x1' else r'data=\d+'}.get(fits.mesh, fits.mesh)
  remat = program.model.remat + (' + flags' if program.tpu_compiler_options else '')
  compiled = rf'\| {fits.model} \| {tables.count(program.parameters())} \| {fits.topology} \| {mesh} '
  compiled += rf'\| {fits.rows:,} x {fits.tokens:,} \| {re.escape(remat)} \|'
  said = re.search(rf'{compiled} (\S+) of (\S+) \|', TABLE.read_text())
  assert said, f'docs/scaling.md has no row {compiled}: run tests/benchmarks/scaling.py'
  assert float(said[1]) <= float(said[2]) == pytest.approx(topology.chip.memory / 2**30, abs=0.01)


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
