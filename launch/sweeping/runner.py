"""A sweep from its gin file to its report: cells, their learning rates, training, the judge, the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ... import UserError
from .. import config
from . import axes as axes_lib
from . import chains
from .budget import Budget
from .engines import Engine
from .grid import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What the command's flags ask for.

  Attributes:
    dry_run: only show the cells.
    retry_failed: whether cells that failed are tried again.
    judge: whether to judge and report at the end.
    engine: None trains here; else writes the files of a scheduler.
  """

  dry_run: bool = False
  retry_failed: bool = True
  judge: bool = True
  engine: Engine | None = None


def sweep(
  *,
  sweep_dir: str,
  run: str,
  axes: Mapping[str, Any],
  seeds: Sequence[int] = (0,),
  cells: Sequence[Mapping[str, Any]] | None = None,
  exclude: Sequence[Mapping[str, Any]] = (),
  starts: Sequence[chains.Entry] = (),
  bindings: Sequence[str] = (),
  budget: Mapping[str, float] | None = None,
  learning_rates: Sequence[float] | None = None,
  tuning_share: float = 0.2,
  tuning_seed: int = 1000,
  parallel: int = 1,
  judge_bindings: Sequence[str] = (),
  probe_bindings: Sequence[str] | None = None,
  options: Options = Options(),
) -> int:
  """Trains, judges and reports; returns the number of cells that failed.

  Args:
    sweep_dir: run directories and the report go here.
    run: the gin file that all cells share.
    axes: by name, a list of options or {label: ['NAME = VALUE', ...]}. 'objective', 'model' and 'task' list files of
      gin/, without the ending; any other name that lists values is bound to them. Lines that depend on the objective
      are {label: {objective: ['NAME = VALUE', ...]}}.
    seeds: each combination is run with each; of the parameters and of the order of the corpus.
    cells: {axis: label} entries, of which each cell matches one; None for all combinations.
    exclude: entries that no cell matches.
    starts: (cells, other) pairs of such entries: which cells begin with another's weights, or with a third part are
      told another's directory, see `chains`.
    bindings: 'NAME = VALUE' lines for all cells.
    budget: {'tokens': N} or {'flops': N} for each cell; None for the run's TRAIN_STEPS.
    learning_rates: are tried for each row, see `tuning`; None shares the run's.
    tuning_share, tuning_seed: of the budget that a try gets; and its seed, which is not judged.
    parallel: cells that run at a time here, with the devices divided among them.
    judge_bindings: 'NAME = VALUE' lines for `unmask evaluate`.
    probe_bindings: the same for `unmask probe`, which takes minutes a cell; None leaves it out.
    options: of the command line.

  Raises:
    UserError: something does not fit, or a cell was begun with other settings. Nothing has been written then.
    exits.Preempted: asked to stop; all that ran have saved.
  """
  config.refuse_unused("What the cells are to take goes into BINDINGS: ['NAME = VALUE', ...].")
  all_axes = axes_lib.parse(axes, seeds)
  choices = axes_lib.grid(all_axes, cells, exclude)
  grid = Grid.read(
    sweep_dir=sweep_dir,
    run=run,
    choices=choices,
    starts=chains.starts(choices, starts, all_axes),
    bindings=bindings,
    budget=Budget.parse(budget),
    learning_rates=learning_rates,
    tuning_share=tuning_share,
    tuning_seed=tuning_seed,
  )
  axes_lib.check_lines('JUDGE_BINDINGS', judge_bindings)
  axes_lib.check_lines('PROBE_BINDINGS', probe_bindings or [])
  if isinstance(parallel, bool) or parallel < 1:
    raise UserError(f'PARALLEL is {parallel}; it is a whole number from 1.')
  if options.dry_run:
    grid.show(parallel)
    return 0
  if options.engine is not None:
    return grid.write(options.engine)
  failed = grid.train(parallel, options.retry_failed)
  if options.judge:
    failed += grid.judge(judge_bindings, probe_bindings)
  return grid.complain(failed)
