"""Cells of a sweep, run one after another on this machine: train each, judge all, report.

A cell is a run directory, named by what it varies. A finished cell is not run again; a failed one is reported and tried
again by the next call.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from .. import UserError
from . import config, reporting


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run: an objective's gin file and a seed, in a directory of its own."""

  objective: str
  seed: int
  model_dir: str

  @property
  def trained(self) -> bool:
    return os.path.exists(os.path.join(self.model_dir, 'done.json'))


def sweep(
  *,
  sweep_dir: str,
  run: str,
  objectives: Sequence[str],
  seeds: Sequence[int] = (0,),
  bindings: Sequence[str] = (),
  dry_run: bool = False,
) -> int:
  """Trains, judges and reports; returns the number of cells that failed.

  Args:
    sweep_dir: run directories and the report go here.
    run: the gin file that all cells share.
    objectives: names of gin/objectives files, without the ending.
    seeds: each objective is run with each.
    bindings: 'NAME = VALUE' lines for all cells.
    dry_run: only print the cells.
  """
  config.refuse_unused()
  cells = [Cell(o, seed, os.path.join(sweep_dir, f'{o}-seed{seed}')) for o in objectives for seed in seeds]
  for cell in cells:
    config.find(f'gin/objectives/{cell.objective}.gin')
  if dry_run:
    for cell in cells:
      print(f'{"done   " if cell.trained else "to run "} {cell.model_dir}')
    return 0
  _make(sweep_dir)
  began, failed = time.monotonic(), []
  for number, cell in enumerate(cells, 1):
    state = 'is trained' if cell.trained else 'training'
    print(
      f'[{time.monotonic() - began:4.0f} s] {number}/{len(cells)} {os.path.basename(cell.model_dir)}: {state}',
      flush=True,
    )
    if not cell.trained and _train(cell, run, bindings):
      failed.append(cell)
  done = [cell for cell in cells if cell.trained]
  if done:
    print(f'[{time.monotonic() - began:4.0f} s] judging {len(done)} models by the same held-out questions', flush=True)
    judged = _unmask('evaluate', *(f'--model_dir={cell.model_dir}' for cell in done))
    if judged:
      raise UserError('The evaluation failed; what it printed is above. Run the same command to go on from here.')
    for cell in done:
      with open(os.path.join(cell.model_dir, 'cell.json'), 'w') as file:
        json.dump({'objective': cell.objective, 'seed': cell.seed}, file)
    reporting.report([cell.model_dir for cell in done], sweep_dir)
  for cell in failed:
    print(
      f'unmask: {cell.model_dir} failed; what it printed is above. The same command tries it again.', file=sys.stderr
    )
  return len(failed)


def _train(cell: Cell, run: str, bindings: Sequence[str]) -> int:
  given = [f'--gin.{name.strip()}={value.strip()}' for name, value in (line.split('=', 1) for line in bindings)]
  return _unmask(
    'train',
    f'--gin_file={run}',
    f'--gin_file=gin/objectives/{cell.objective}.gin',
    *given,
    f'--gin.MODEL_DIR={cell.model_dir}',
    f'--gin.SEED={cell.seed}',
  )


def _unmask(command: str, *arguments: str) -> int:
  """A command in a process of its own, so that a failure or its memory ends with it; returns its exit status."""
  return subprocess.run([sys.executable, '-m', f'unmask.launch.{command}', *arguments], check=False).returncode


def _make(folder: str) -> None:
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise UserError(f'SWEEP_DIR {folder!r} cannot be written: {error.strerror}.') from error
