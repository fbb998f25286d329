"""The training loop: from a configuration to a trained model. Read it top to bottom.

`step` is the number of updates applied; batch n (from 0) produces step n + 1.
"""

import contextlib
import dataclasses
import inspect
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from ..tasks.pipeline import Pipeline, Source
from . import (
  bounds,
  compiling,
  config,
  devices,
  environment,
  files,
  held_out,
  identity,
  initial,
  locking,
  memory,
  meters,
  metrics,
  opening,
  profiling,
  realised,
  runlog,
  start,
)
from . import mesh as mesh_lib
from . import state as state_lib
from .anomalies import Anomalies, AnomalyPolicy
from .checkpoints import CheckpointPolicy
from .held_out import Evaluation as Evaluation
from .interruption import Interruption
from .optimizers import Optimizer
from .program import NO_COLLECTIVE_MATMUL, CompilerOptions, Program
from .progress import Progress
from .saving import Saver
from .startup import Startup
from .study import Settings
from .updates import Updates
from .watchdog import Watchdog, WatchdogPolicy


def train(
  *,
  model_dir: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  train_steps: int,
  batch_size: int,
  seed: int = 0,
  initial_weights: str | None = None,
  optimizer: Optimizer = Optimizer(),
  microbatches: int = 1,
  z_loss: float = 0.0,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
  evaluation: Evaluation = Evaluation(),
  checkpoint: CheckpointPolicy = CheckpointPolicy(),
  anomalies: AnomalyPolicy = AnomalyPolicy(),
  watchdog: WatchdogPolicy = WatchdogPolicy(),
  log_period: int = 10,
  stop_at: int | None = None,
  profile_steps: profiling.Steps = None,
  tpu_compiler_options: CompilerOptions = NO_COLLECTIVE_MATMUL,
  compilation_cache: str | None = None,
  began: Startup | None = None,
) -> None:
  """Trains until `train_steps` updates are applied, resuming from the newest checkpoint in `model_dir`.

  Args:
    model_dir: where everything of this run goes.
    model: the decoder; vocab_size None takes the vocabulary's.
    objective: what is corrupted, seen and scored.
    pipeline: what is read.
    train_steps: updates of the whole run, which the learning-rate schedule spans.
    batch_size: rows of a global batch.
    seed: of the initial parameters.
    initial_weights: a folder whose weights the run begins with, in place of random ones: another run's MODEL_DIR, or
      one of Hugging Face's Llamas; see `initial`.
    optimizer: update rule and schedule.
    microbatches: parts that a batch's gradient is summed over, one after another.
    z_loss: coefficient of log(Z)^2; 1e-4 in PaLM.
    mesh: devices along each mesh axis.
    evaluation, checkpoint: when to evaluate and to save.
    anomalies: what to do when a loss is not finite, or jumps.
    watchdog: what to do when nothing moves.
    log_period: updates between lines of metrics.
    stop_at: end this process after that many updates, as an interruption would; the schedule is unchanged.
    profile_steps: updates to trace: [first, last], from 1; see `profiling.parse`.
    tpu_compiler_options: of XLA, where the mesh is of TPUs; see `program.NO_COLLECTIVE_MATMUL`.
    compilation_cache: folder of compiled programs, '' for none; None for that of `start.cache`.
    began: what this process did so far; None if nothing.
  """
  # 1. Everything the user can get wrong is checked before anything long is done.
  config.refuse_unused()
  began = began or Startup()
  began.mark('imports')
  numbers = {'TRAIN_STEPS': train_steps, 'BATCH_SIZE': batch_size, 'microbatches': microbatches}
  opening.check_numbers(**numbers, log_period=log_period, stop_at=1 if stop_at is None else stop_at)
  plan = _Plan(
    model_dir=str(model_dir),
    seed=seed,
    initial_weights=initial_weights,
    train_steps=train_steps,
    last=min(train_steps, stop_at or train_steps),
    optimizer=optimizer,
    evaluation=evaluation,
    checkpoint=checkpoint,
    anomalies=anomalies,
    watchdog=watchdog,
    log_period=log_period,
    profiled=profiling.parse(profile_steps, train_steps),
  )
  sizes = {'train_steps': train_steps, 'batch_size': batch_size}
  update: dict[str, Any] = {'optimizer': optimizer, 'z_loss': z_loss, **sizes}
  program = opening.make_program(
    **update,
    model_dir=str(model_dir),
    model=model,
    objective=objective,
    pipeline=pipeline,
    microbatches=microbatches,
    mesh=mesh,
    tpu_compiler_options=tpu_compiler_options,
  )
  start.cache(compilation_cache)
  training = identity.of_training(**update, seed=seed, initial_weights=initial_weights)
  # 2. Nobody else runs here. The text gives the vocabulary, which settles the program; then it is run.
  files.probe(plan.model_dir)
  with locking.alone(plan.model_dir), Interruption().listening() as interruption:
    source, program = opening.opened(model_dir, pipeline, program, training)
    _run(plan, program, source, interruption, began)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
  """What this process does with the program of a run, and when; see `train`.

  Attributes:
    last: update after which this process ends.
    profiled: the first and the last update to trace.
  """

  model_dir: str
  seed: int
  initial_weights: str | None
  train_steps: int
  last: int
  optimizer: Optimizer
  evaluation: Evaluation
  checkpoint: CheckpointPolicy
  anomalies: AnomalyPolicy
  watchdog: WatchdogPolicy
  log_period: int
  profiled: tuple[int, int] | None

  def learning_rates(self) -> np.ndarray:
    """Of every update of the whole run, [train_steps]: found at once, for a step may not wait for such a trifle."""
    schedule = self.optimizer.schedule.build(self.train_steps)
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(self.train_steps)))


def bound() -> dict[str, Any]:
  """The arguments that gin's bindings and defaults give `train`; it is not called.

  Raises:
    UserError: a binding that nothing uses, or one that is missing.
  """
  parameters = inspect.signature(train).parameters.values()
  values = {one.name: one.default for one in parameters} | config.bound(train)
  config.refuse_unused()
  for name in ('model', 'objective', 'pipeline', 'train_steps', 'batch_size'):
    if values[name] is inspect.Parameter.empty:
      raise UserError(f'train needs {name}: bind it in a gin file, as gin/runs/pretrain.gin does.')
  return values


def _run(plan: _Plan, program: Program, source: Source, interruption: Interruption, began: Startup) -> None:
  """Shapes to arrays, rows to batches, and the loop."""
  guard = memory.Guard(program, Settings.of(program, plan.optimizer, plan.train_steps))
  guard.require_state()
  saved = Saver(plan.model_dir, plan.checkpoint)
  newest = saved.latest() or 0
  weights = None if newest else initial.given(plan.initial_weights, program.model, source)
  peak = devices.peak_of(program.mesh.devices.flat) if newest < plan.last else None
  compiled = compiling.start(program) if newest < plan.last else None  # in a thread, beside state and rows
  watchdog = Watchdog(plan.watchdog, plan.model_dir)
  with program.context(), watchdog.watching(), guard.explained():
    watchdog.at('the state')
    first, state, position = restore_or_create(saved, program, plan.seed, weights)
    if first >= plan.last:
      _is_trained(plan, program, position)
      saved.close()
      return
    compiled = compiled or compiling.start(program)  # the newest turned out to be damaged
    learning_rates = plan.learning_rates()
    began.mark('state')
    with contextlib.closing(metrics.writer(plan.model_dir, first)) as writer:
      watchdog.at('the first rows')
      if jax.process_index() == 0:
        _write_what_runs(plan.model_dir, source, program.objective, writer)
      held_out_rows = held_out.Batches(program, source, plan.evaluation)
      host = {'host': jax.process_index(), 'num_hosts': jax.process_count()}
      batches = source.batches(program.objective, program.batch_size, skip=first, **host)
      began.mark('data')
      watchdog.at('compilation')
      step, evaluation_step = compiled()
      guard.require(step)
      bound = bounds.of_compiled(step, program)
      if bound is not None and jax.process_index() == 0:
        print(bound.line(), flush=True)
      began.mark('compile')
      log = runlog.RunLog(
        Progress(
          os.path.basename(os.path.normpath(plan.model_dir)), first, plan.train_steps, hidden=jax.process_index() > 0
        ),
        writer,
        meters.Meter(peak),
        position,
        flops=program.useful_flops,
        learning_rates=learning_rates,
        period=plan.log_period,
        last=plan.last,
        began=began,
        bound=bound.mfu if bound else None,
        peak=devices.name_of(list(program.mesh.devices.flat)),
      )
      updates = Updates(
        program=program,
        step=step,
        evaluation=plan.evaluation,
        evaluate=lambda params: held_out_rows.loss(evaluation_step, params),
        log=log,
        saved=saved,
        profile=profiling.Profile(plan.profiled, plan.model_dir),
        anomalies=Anomalies(plan.anomalies, plan.model_dir),
        watchdog=watchdog,
        interruption=interruption,
        last=plan.last,
        corpora=source.corpora,
      )
      with contextlib.closing(log), contextlib.closing(updates.profile), interruption.deferred():
        updates.run(state, batches, first)
      watchdog.at('the last checkpoint')
      saved.close()
    if plan.last == plan.train_steps:
      runlog.write_done(plan.model_dir, log.position(plan.last), program.parameters())


def restore_or_create(
  saved: Saver, program: Program, seed: int, weights: initial.Weights | None = None
) -> tuple[int, state_lib.TrainState, dict]:
  """Step, state and position of the newest sound checkpoint on the program's mesh, or of batch 0."""
  found = saved.restore(program.state_shapes())
  if found is None:
    return 0, initial.state(program, seed, weights), runlog.START
  step, state, position = found
  return step, state, {'flops': program.train_flops() * position['batches']} | position  # older checkpoints lack it


def _is_trained(plan: _Plan, program: Program, position: dict) -> None:
  """There is nothing to do; 'done.json' is written again, for it may be what is missing."""
  print(f'{plan.model_dir} is trained: {position["batches"]} of {plan.train_steps} steps.')
  if position['batches'] >= plan.train_steps:
    runlog.write_done(plan.model_dir, position, program.parameters())


def _write_what_runs(model_dir: str, source: Source, objective: Objective, writer: metrics.Writer) -> None:
  """The configuration; and once, for they take a second, the realised shares of the objective on real rows."""
  config.save(model_dir)
  environment.record(model_dir)
  path = files.path(model_dir) / 'realised.json'
  if path.exists():
    return
  shares = realised.shares(source, objective, num_rows=300)
  for line in realised.surprises(shares, objective):
    print(line)
  writer.configuration(config.operative())
  files.write_atomically(path, json.dumps(shares | {'configured': objective.configured()}, indent=2))
