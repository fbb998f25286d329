"""The training loop: from a configuration to a trained model. Read it top to bottom.

`step` is the number of updates applied; batch n (from 0) produces step n + 1.
"""

import contextlib
import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from ..tasks.pipeline import Pipeline, Source
from . import (
  bounds,
  compiling,
  config,
  devices,
  files,
  held_out,
  identity,
  meters,
  metrics,
  profiling,
  realised,
  runlog,
  start,
)
from . import mesh as mesh_lib
from . import state as state_lib
from .checkpoints import CheckpointPolicy, Checkpoints
from .held_out import Evaluation as Evaluation
from .optimizers import Optimizer
from .program import NO_COLLECTIVE_MATMUL, CompilerOptions, Program
from .progress import Progress
from .startup import Startup


def train(
  *,
  model_dir: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  train_steps: int,
  batch_size: int,
  seed: int = 0,
  optimizer: Optimizer = Optimizer(),
  microbatches: int = 1,
  z_loss: float = 0.0,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
  evaluation: Evaluation = Evaluation(),
  checkpoint: CheckpointPolicy = CheckpointPolicy(),
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
    optimizer: update rule and schedule.
    microbatches: parts that a batch's gradient is summed over, one after another.
    z_loss: coefficient of log(Z)^2; 1e-4 in PaLM.
    mesh: devices along each mesh axis.
    evaluation, checkpoint: when to evaluate and to save.
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
  numbers |= {'log_period': log_period, 'CHECKPOINT_PERIOD': checkpoint.period}
  check_numbers(**numbers, stop_at=1 if stop_at is None else stop_at)
  plan = _Plan(
    model_dir=str(model_dir),
    seed=seed,
    train_steps=train_steps,
    last=min(train_steps, stop_at or train_steps),
    learning_rate=optimizer.schedule.build(train_steps),
    evaluation=evaluation,
    checkpoint=checkpoint,
    log_period=log_period,
    profiled=profiling.parse(profile_steps, train_steps),
  )
  program = Program(
    model=model,
    objective=objective,
    text_length=pipeline.text_length,
    batch_size=batch_size,
    optimizer=optimizer.build(train_steps),
    mesh=mesh.build(),
    microbatches=microbatches,
    z_loss=z_loss,
    tpu_compiler_options=tpu_compiler_options,
  )
  program.check()
  start.cache(compilation_cache)
  # 2. The text gives the vocabulary, which settles the program; then it is run.
  source, program = _open(plan, pipeline, program)
  _run(plan, program, source, began)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
  """What this process does with the program of a run, and when; see `train`.

  Attributes:
    last: update after which this process ends.
    learning_rate: by the number of updates applied before.
    profiled: the first and the last update to trace.
  """

  model_dir: str
  seed: int
  train_steps: int
  last: int
  learning_rate: optax.Schedule
  evaluation: Evaluation
  checkpoint: CheckpointPolicy
  log_period: int
  profiled: tuple[int, int] | None

  def learning_rates(self) -> np.ndarray:
    """Of every update of the whole run, [train_steps]: found at once, for a step may not wait for such a trifle."""
    return np.asarray(jax.jit(jax.vmap(self.learning_rate))(jnp.arange(self.train_steps)))


def _open(plan: _Plan, pipeline: Pipeline, program: Program) -> tuple[Source, Program]:
  """The text, and the program for its vocabulary; UserError if the model directory is another run's."""
  files.probe(plan.model_dir)
  facts = identity.facts(program.model, program.objective, pipeline)
  facts |= identity.of_training(program.batch_size, plan.seed)
  identity.check(plan.model_dir, facts)
  source = pipeline.open()
  model = program.model.with_vocabulary(source.vocabulary.vocab_size)
  identity.check(plan.model_dir, facts | identity.of_source(source, model), save=jax.process_index() == 0)
  program = dataclasses.replace(program, model=model)
  program.check()  # the vocabulary's size is known only now
  return source, program


def _run(plan: _Plan, program: Program, source: Source, began: Startup) -> None:
  """Shapes to arrays, rows to batches, and the loop."""
  saved = Checkpoints(plan.model_dir, plan.checkpoint)
  first = saved.latest() or 0
  if first >= plan.last:
    _is_trained(plan, program, saved, first)
    return
  peak = devices.peak_of(program.mesh.devices.flat)
  compiled = compiling.start(program)  # in a thread, beside the rows
  with program.context(), contextlib.closing(metrics.writer(plan.model_dir, first)) as writer:
    _write_what_runs(plan.model_dir, source, program.objective, writer)
    held_out_rows = held_out.Batches(program, source, plan.evaluation)
    host = {'host': jax.process_index(), 'num_hosts': jax.process_count()}
    batches = source.batches(program.objective, program.batch_size, skip=first, **host)
    began.mark('data')
    state, position = restore_or_create(saved, program, plan.seed)
    learning_rates = plan.learning_rates()
    began.mark('state')
    step, evaluation_step = compiled()
    bound = bounds.of_compiled(step, program)
    if bound is not None and jax.process_index() == 0:
      print(bound.line(), flush=True)
    began.mark('compile')
    log = runlog.RunLog(
      Progress(os.path.basename(os.path.normpath(plan.model_dir)), first, plan.train_steps),
      writer,
      meters.Meter(peak),
      position,
      flops=program.useful_flops,
      learning_rates=learning_rates,
      period=plan.log_period,
      last=plan.last,
      began=began,
      bound=bound.mfu if bound else None,
    )
    profile = profiling.Profile(plan.profiled, plan.model_dir)
    evaluate = lambda params: held_out_rows.loss(evaluation_step, params)
    with contextlib.closing(log), contextlib.closing(profile):
      _updates(plan, first, state, step, program.mesh, batches, log, evaluate, saved, profile)
    saved.wait()
    saved.close()
    if plan.last == plan.train_steps:
      runlog.write_done(plan.model_dir, log.position(plan.last), program.parameters())


def _updates(plan, first, state, step, mesh, batches, log, evaluate, saved, profile) -> None:
  """The loop proper: updates first + 1 to plan.last.

  Metrics of update n are read while update n + 1 runs, so the device never waits for the host, except before an
  evaluation or a checkpoint, which must know all that was read so far.
  """
  pending = None
  for done in range(first + 1, plan.last + 1):
    if profile.begins(done):
      profile.open(state)
    with profile.step(done):
      with log.waiting():
        batch = next(batches)
      state, device_metrics = step(state, mesh_lib.put_batch(mesh, batch))
      if pending is not None:
        log.step(done - 1, pending)
    pending = device_metrics
    wants_eval, wants_save = plan.evaluation.due(done, plan.last), saved.due(done, done == plan.last)
    if wants_eval or wants_save or profile.ends(done):
      log.step(done, pending)
      pending = None
    if profile.ends(done):
      with log.paused():
        profile.close()
    if wants_eval:
      with log.paused():
        log.evaluated(done, evaluate(state.params))
    if wants_save:
      saved.save(state, done, log.position(done))


def restore_or_create(saved: Checkpoints, program: Program, seed: int) -> tuple[state_lib.TrainState, dict]:
  """The newest checkpoint on the program's mesh and its position, or a fresh state at batch 0."""
  latest = saved.latest()
  if latest is None:
    return state_lib.create(program.decoder, program.optimizer, program.mesh, seed), runlog.START
  state, position = saved.restore(latest, program.state_shapes())
  return state, {'flops': program.train_flops() * position['batches']} | position  # older checkpoints lack it


def _is_trained(plan: _Plan, program: Program, saved: Checkpoints, first: int) -> None:
  """There is nothing to do; 'done.json' is written again, for it may be what is missing."""
  print(f'{plan.model_dir} is trained: {first} of {plan.train_steps} steps.')
  if first >= plan.train_steps:
    with program.context():
      _, position = restore_or_create(saved, program, plan.seed)
    runlog.write_done(plan.model_dir, position, program.parameters())
  saved.close()


def check_numbers(**numbers: Any) -> None:
  """Raises UserError naming the first that is no whole number of at least 1."""
  for name, value in numbers.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise UserError(f'{name}={value!r} must be a whole number of at least 1.')


def _write_what_runs(model_dir: str, source: Source, objective: Objective, writer: metrics.Writer) -> None:
  """The configuration, in files and as TensorBoard text, and the realised shares of the objective on real rows."""
  if jax.process_index() > 0:
    return
  config.save(model_dir)
  shares = realised.shares(source, objective, num_rows=300)
  for line in realised.surprises(shares, objective):
    print(line)
  files.write_atomically(files.path(model_dir) / 'realised.json', json.dumps(shares, indent=2))
  writer.text('config', f'```\n{config.operative()}\n```')
