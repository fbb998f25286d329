"""Cells of a sweep, run one after another on this machine: train each, judge all, report.

A cell is a run directory, named by what it varies. A finished cell is not run again; a failed one is reported and tried
again by the next call.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from .. import UserError
from . import config, exits, files, reporting


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run: an objective's gin file and a seed, in a directory of its own."""

  objective: str
  seed: int
  model_dir: str

  @property
  def trained(self) -> bool:
    return (files.path(self.model_dir) / 'done.json').exists()

  def check(self, settings: dict) -> None:
    """Raises UserError if the cell was begun with other settings."""
    path = files.path(self.model_dir) / 'cell.json'
    if not path.exists():
      return
    before = json.loads(path.read_text())
    changed = [
      f'{name} was {before.get(name)} and is now {value}'
      for name, value in settings.items()
      if before.get(name) != value
    ]
    if changed:
      raise UserError(f'{self.model_dir} was begun with other settings: {"; ".join(changed)}. Use a new SWEEP_DIR.')

  def begin(self, settings: dict) -> None:
    """Makes the directory and says in it what the cell is."""
    files.probe(self.model_dir)
    cell = {'objective': self.objective, 'seed': self.seed, **settings}
    files.write_atomically(files.path(self.model_dir) / 'cell.json', json.dumps(cell, indent=2))


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
  for path in (run, *(f'gin/objectives/{objective}.gin' for objective in objectives)):
    config.find(path)
  wrong = [line for line in bindings if '=' not in line]
  if wrong:
    raise UserError(f"BINDINGS holds {wrong[0]!r}; each line is 'NAME = VALUE'.")
  settings = {'run': run, 'bindings': sorted(bindings)}
  for cell in cells:
    cell.check(settings)
  if dry_run:
    for cell in cells:
      print(f'{"done   " if cell.trained else "to run "} {cell.model_dir}')
    return 0
  began, failed = time.monotonic(), []
  for number, cell in enumerate(cells, 1):
    state = 'is trained' if cell.trained else 'training'
    clock = f'[{time.monotonic() - began:4.0f} s]'
    print(f'{clock} {number}/{len(cells)} {os.path.basename(cell.model_dir)}: {state}', flush=True)
    if not cell.trained:
      cell.begin(settings)
      status = _train(cell, run, bindings)
      if status == exits.PREEMPTED:
        raise exits.Preempted(f'stopped while {cell.model_dir} was trained, which is saved. The same command goes on.')
      if status < 0 or status == exits.INTERRUPTED:
        raise UserError(f'{cell.model_dir} was interrupted; the same command goes on from its last checkpoint.')
      if status or not cell.trained:
        failed.append(cell)
  done = [cell for cell in cells if cell.trained]
  if done:
    clock = f'[{time.monotonic() - began:4.0f} s]'
    print(f'{clock} judging {len(done)} models by the same held-out questions', flush=True)
    if _unmask('evaluate', *(f'--model_dir={cell.model_dir}' for cell in done)):
      raise UserError('The evaluation failed; what it printed is above. The same command goes on from here.')
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
  paths = ','.join(config.search_paths())
  command_line = [sys.executable, '-m', f'unmask.launch.{command}', f'--gin_search_paths={paths}', *arguments]
  with subprocess.Popen(command_line) as process:
    # A sweep that is preempted hands the notice on; from the keyboard, the process has got it itself, and saves.
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
      while True:
        try:
          return process.wait()
        except KeyboardInterrupt:
          print('unmask: waiting for the run to save.', file=sys.stderr, flush=True)
    finally:
      signal.signal(signal.SIGTERM, before)
