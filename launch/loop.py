"""The training loop: from a configuration to a trained model. Read it top to bottom.

`step` is the number of updates applied; batch n (from 0) produces step n + 1.
"""

import contextlib
import dataclasses
import json
import os
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from .. import UserError
from ..models import logical_axes
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives.base import Objective
from ..tasks.pipeline import Pipeline, Source
from . import checkpoints as checkpoints_lib
from . import config, identity, metrics, progress, realised, runlog
from . import mesh as mesh_lib
from . import state as state_lib
from . import step as step_lib
from .optimizers import Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """Evaluation during training: the objective's own loss on held-out rows, with the same corruption every time.

  Attributes:
    period: updates between evaluations; 0 evaluates at the end only.
    batches: held-out batches.
  """

  period: int = 100
  batches: int = 8


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
  checkpoint: checkpoints_lib.CheckpointPolicy = checkpoints_lib.CheckpointPolicy(),
  log_period: int = 10,
  stop_at: int | None = None,
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
  """
  # 1. Everything the user can get wrong is checked before anything long is done.
  config.refuse_unused()
  model_dir = str(model_dir)
  numbers = {'TRAIN_STEPS': train_steps, 'BATCH_SIZE': batch_size, 'microbatches': microbatches}
  numbers |= {'log_period': log_period, 'CHECKPOINT_PERIOD': checkpoint.period}
  _check_numbers(**numbers, stop_at=1 if stop_at is None else stop_at)
  device_mesh = mesh.build()
  mesh_lib.check(device_mesh, model, objective.model_length(pipeline.text_length), batch_size, microbatches)
  objective.check(pipeline.text_length)
  transform, schedule = optimizer.build(train_steps), optimizer.schedule.build(train_steps)
  _make_dir(model_dir)
  facts = identity.facts(model, objective, pipeline) | identity.of_training(batch_size, seed)
  identity.check(model_dir, facts)

  # 2. Text to rows, shapes to arrays.
  source = pipeline.open()
  model = model.with_vocabulary(source.vocabulary.vocab_size)
  identity.check(model_dir, facts | identity.of_source(source, model), save=jax.process_index() == 0)
  decoder = Decoder(model)
  scoring = step_lib.Scoring(objective, objective.max_supervised(pipeline.text_length), z_loss)
  saved = checkpoints_lib.Checkpoints(model_dir, checkpoint)
  flops = train_flops(model, objective, pipeline.text_length) * batch_size * train_steps
  with jax.set_mesh(device_mesh), logical_rules():
    state, position = restore_or_create(saved, decoder, transform, device_mesh, seed)
    first, last = int(position['batches']), min(train_steps, stop_at or train_steps)
    if first >= last:
      saved.close()
      print(f'{model_dir} is trained: {first} of {train_steps} steps.')
      if first >= train_steps:
        runlog.write_done(model_dir, position, state.params, flops)
      return
    # 3. What the loop needs, then the loop.
    with contextlib.closing(metrics.writer(model_dir, first)) as writer:
      _write_what_runs(model_dir, source, objective, writer)
      bar = progress.Progress(os.path.basename(os.path.normpath(model_dir)), first, train_steps)
      log = runlog.RunLog(bar, writer, position, log_period, last)
      train_step = jax.jit(step_lib.make_train_step(decoder, scoring, transform, microbatches), donate_argnums=0)
      evaluator = _Evaluator(decoder, scoring, source, objective, batch_size, evaluation, device_mesh)
      host = {'host': jax.process_index(), 'num_hosts': jax.process_count()}
      batches = source.batches(objective, batch_size, skip=first, **host)
      state = _updates(
        state, first, last, train_step, batches, log, schedule, evaluator, evaluation.period, saved, device_mesh
      )
      saved.wait()
      saved.close()
      position = log.position(last)
      log.close()
    if last == train_steps:
      runlog.write_done(model_dir, position, state.params, flops)


def _updates(state, first, last, train_step, batches, log, schedule, evaluator, eval_period, saved, mesh):
  """The loop proper: updates `first` to `last`; returns the last state.

  Metrics of step n are read while step n + 1 runs, so the device never waits for the host, except before an evaluation
  or a checkpoint, which must know all that was read so far.
  """
  pending = None
  for n in range(first, last):
    state, device_metrics = train_step(state, mesh_lib.put_batch(mesh, next(batches)))
    if pending is not None:
      log.step(n, pending, float(schedule(n - 1)))
    pending, done = device_metrics, n + 1
    wants_eval = done == last or (eval_period and done % eval_period == 0)
    wants_save = saved.due(done, done == last)
    if wants_eval or wants_save:
      log.step(done, pending, float(schedule(n)))
      pending = None
    if wants_eval:
      with log.paused():
        log.evaluated(done, evaluator(state.params))
    if wants_save:
      saved.save(state, done, log.position(done))
  return state


def logical_rules() -> contextlib.AbstractContextManager:
  """A context in which logical axis names mean what the table says."""
  return nn.logical_axis_rules(logical_axes.RULES)


def train_flops(model: DecoderConfig, objective: Objective, text_length: int) -> float:
  """Model FLOPs of training on one row; see `DecoderConfig.train_flops`."""
  length = objective.model_length(text_length)
  return model.train_flops(length, objective.max_supervised(text_length), length, objective.attention.kind == 'causal')


def restore_or_create(
  saved: checkpoints_lib.Checkpoints, decoder: Decoder, transform: Any, mesh: Mesh, seed: int
) -> tuple[state_lib.TrainState, dict]:
  """The newest checkpoint on this mesh, or a fresh state at batch 0."""
  latest = saved.latest()
  if latest is None:
    return state_lib.create(decoder, transform, mesh, seed), runlog.START
  shape = jax.eval_shape(lambda: state_lib.fresh(decoder, transform, seed))
  return saved.restore(latest, shape, state_lib.shardings(decoder, transform, mesh))


def _check_numbers(**numbers: Any) -> None:
  for name, value in numbers.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise UserError(f'{name}={value!r} must be a whole number of at least 1.')


def _make_dir(model_dir: str) -> None:
  try:
    os.makedirs(model_dir, exist_ok=True)
    probe = os.path.join(model_dir, '.writable')
    with open(probe, 'w'):
      pass
    os.remove(probe)
  except OSError as error:
    raise UserError(f'MODEL_DIR {model_dir!r} cannot be written: {error.strerror}.') from error


def _write_what_runs(model_dir: str, source: Source, objective: Objective, writer: metrics.Writer) -> None:
  """The configuration, in files and as TensorBoard text, and the realised shares of the objective on real rows."""
  if jax.process_index() > 0:
    return
  config.save(model_dir)
  shares = realised.shares(source, objective, num_rows=300)
  for line in realised.surprises(shares, objective):
    print(line)
  with open(os.path.join(model_dir, 'realised.json'), 'w') as file:
    json.dump(shares, file, indent=2)
  writer.text('config', f'```\n{config.operative()}\n```')


class _Evaluator:
  """The objective's loss over a fixed set of held-out batches."""

  def __init__(
    self, decoder, scoring, source: Source, objective: Objective, batch_size: int, how: Evaluation, mesh: Mesh
  ):
    self._mesh = mesh
    self._step = jax.jit(step_lib.make_eval_step(decoder, scoring))
    stream = source.batches(
      objective, batch_size, split='validation', host=jax.process_index(), num_hosts=jax.process_count()
    )
    self._batches = [batch for _, batch in zip(range(how.batches), stream, strict=False)]
    if not self._batches:
      raise UserError(
        f'The validation split has fewer than BATCH_SIZE={batch_size} rows with an example of '
        f'{type(objective).__name__}; lower BATCH_SIZE or hold out more text.'
      )

  def __call__(self, params: dict) -> dict[str, float]:
    sums: dict[str, np.ndarray] = {}
    for batch in self._batches:
      for name, pair in self._step(params, mesh_lib.put_batch(self._mesh, batch)).items():
        sums[name] = sums.get(name, np.zeros(2)) + np.array([float(x) for x in pair])
    means = {name: float(top / max(bottom, 1e-9)) for name, (top, bottom) in sums.items()}
    return {'loss': sum(means.values()), **means}
