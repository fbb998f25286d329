"""The training loop: from a configuration to a trained model. Read it top to bottom.

`step` is the number of updates applied; batch n (from 0) produces step n + 1.
"""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
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
from . import config, metrics, progress, realised
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
  device_mesh = mesh.build()
  mesh_lib.check_batch(device_mesh, batch_size, microbatches)
  objective.check(pipeline.text_length)
  if train_steps < 1 or log_period < 1:
    raise UserError(f'TRAIN_STEPS={train_steps} and log_period={log_period} must be at least 1.')
  _make_dir(model_dir)

  # 2. Text to rows, configuration to files, shapes to arrays.
  source = pipeline.open()
  model = model.with_vocabulary(source.vocabulary.vocab_size)
  _check_same_model(model_dir, model, objective)
  config.save(model_dir)
  decoder, transform = Decoder(model), optimizer.build(train_steps)
  scoring = step_lib.Scoring(objective, objective.max_supervised(pipeline.text_length), z_loss)
  saved = checkpoints_lib.Checkpoints(model_dir, checkpoint)
  with jax.set_mesh(device_mesh), logical_rules():
    state, position = restore_or_create(saved, decoder, transform, device_mesh, seed)
    first, last = position['batches'], min(train_steps, stop_at or train_steps)
    if first >= last:
      print(f'{model_dir} is trained: {first} of {train_steps} steps.')
      saved.close()
      return

    # 3. The loop proper. Metrics of step n are read while step n + 1 runs, so the device never waits for the host.
    writer = metrics.MetricsWriter(model_dir, first)
    _write_facts(model_dir, source, model, objective, batch_size, writer)
    train_step = jax.jit(step_lib.make_train_step(decoder, scoring, transform, microbatches), donate_argnums=0)
    evaluator = _Evaluator(decoder, scoring, source, objective, batch_size, evaluation, device_mesh)
    batches = source.batches(objective, batch_size, skip=first, host=jax.process_index(), num_hosts=jax.process_count())
    log = _Log(
      progress.Progress(os.path.basename(os.path.normpath(model_dir)), first, train_steps), writer, position, log_period
    )
    schedule = optimizer.schedule.build(train_steps)
    pending = None
    for n in range(first, last):
      state, device_metrics = train_step(state, mesh_lib.put_batch(device_mesh, next(batches)))
      if pending is not None:
        log.step(n, pending, float(schedule(n - 1)))
      pending, done = device_metrics, n + 1
      is_last = done == last
      wants_eval = is_last or (evaluation.period and done % evaluation.period == 0)
      if wants_eval or saved.due(done, is_last):
        log.step(done, pending, float(schedule(n)))
        pending = None
      if wants_eval:
        with log.paused():
          writer.write(done, {f'eval/{k}': v for k, v in evaluator(state.params).items()})
      if saved.due(done, is_last):
        saved.save(
          state,
          done,
          {'batches': done, 'seed': seed, 'tokens': log.tokens, 'scored': log.scored, 'seconds': log.seconds},
        )
    saved.wait()
    saved.close()
    log.bar.close()
    writer.close()
    if last == train_steps:
      _write_done(model_dir, log, state.params, model, pipeline.text_length, objective, train_steps * batch_size)


def logical_rules() -> contextlib.AbstractContextManager:
  """A context in which logical axis names mean what the table says."""
  return nn.logical_axis_rules(logical_axes.RULES)


def restore_or_create(
  saved: checkpoints_lib.Checkpoints, decoder: Decoder, transform: Any, mesh: Mesh, seed: int
) -> tuple[state_lib.TrainState, dict]:
  """The newest checkpoint on this mesh, or a fresh state at batch 0."""
  latest = saved.latest()
  if latest is None:
    return state_lib.create(decoder, transform, mesh, seed), {
      'batches': 0,
      'seed': seed,
      'tokens': 0.0,
      'scored': 0.0,
      'seconds': 0.0,
    }
  shape = jax.eval_shape(lambda: state_lib.fresh(decoder, transform, seed))
  return saved.restore(latest, shape, state_lib.shardings(decoder, transform, mesh))


def _make_dir(model_dir: str) -> None:
  try:
    os.makedirs(model_dir, exist_ok=True)
    probe = os.path.join(model_dir, '.writable')
    with open(probe, 'w'):
      pass
    os.remove(probe)
  except OSError as error:
    raise UserError(f'MODEL_DIR {model_dir!r} cannot be written: {error.strerror}.') from error


def _check_same_model(model_dir: str, model: DecoderConfig, objective: Objective) -> None:
  """Saves what the directory's checkpoints are of, or compares with what is saved; UserError if it differs."""
  path = os.path.join(model_dir, 'model.json')
  # Only what gives the parameters their shapes and the outputs their meaning; precision and memory may change.
  free = {'dtype', 'remat', 'scan_unroll', 'loss_chunk'}
  facts = {k: v for k, v in dataclasses.asdict(model).items() if k not in free}
  facts |= {'objective': type(objective).__name__, 'shift': objective.shift}
  if not os.path.exists(path):
    with open(path, 'w') as file:
      json.dump(facts, file, indent=2)
    return
  with open(path) as file:
    before = json.load(file)
  changed = [f'{k} was {before.get(k)!r} and is now {v!r}' for k, v in facts.items() if before.get(k) != v]
  if changed:
    raise UserError(f'{model_dir} holds another model: {"; ".join(changed)}. Use a new MODEL_DIR or the old settings.')


def _write_facts(
  model_dir: str,
  source: Source,
  model: DecoderConfig,
  objective: Objective,
  batch_size: int,
  writer: metrics.MetricsWriter,
) -> None:
  """The realised shares of the objective on real rows, beside the configuration."""
  shares = realised.shares(source, objective)
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
      raise UserError(f'The validation split has fewer than BATCH_SIZE={batch_size} rows; lower it or hold out more.')

  def __call__(self, params: dict) -> dict[str, float]:
    sums: dict[str, np.ndarray] = {}
    for batch in self._batches:
      for name, pair in self._step(params, mesh_lib.put_batch(self._mesh, batch)).items():
        sums[name] = sums.get(name, np.zeros(2)) + np.array([float(x) for x in pair])
    means = {name: float(top / max(bottom, 1e-9)) for name, (top, bottom) in sums.items()}
    return {'loss': sum(means.values()), **means}


class _Log:
  """Shows and writes each step's metrics, and counts what the whole run has read and supervised.

  Attributes:
    bar: the progress bar.
    tokens, scored: real positions read and positions scored since step 0.
    seconds: spent since step 0, checkpoints and evaluation included, compilation and other processes' starts not.
    rates: tokens a second at each logged step.
  """

  def __init__(self, bar: progress.Progress, writer: metrics.MetricsWriter, position: dict, period: int):
    self.bar, self._writer, self._period = bar, writer, period
    self.tokens, self.scored = position['tokens'], position['scored']
    self.rates: list[float] = []
    self._first = True
    self._before, self._began = position['seconds'], time.monotonic()

  @property
  def seconds(self) -> float:
    return self._before + time.monotonic() - self._began

  def step(self, step: int, device_metrics: dict[str, jax.Array], learning_rate: float) -> None:
    """Reads the metrics of update number `step` from the device."""
    values = {name: float(value) for name, value in device_metrics.items()}
    if self._first:  # the first step waited for the compiler
      self._began, self._first = time.monotonic(), False
      self.bar.restart_clock(counted=False)
    rate = self.bar.report(values['loss'], values['tokens'])
    self.tokens += values['tokens']
    self.scored += values['scored']
    if step % self._period == 0 or step == 1:
      self.rates += [rate] if rate else []
      more = {'learning_rate': learning_rate, 'tokens_per_second': rate}
      self._writer.write(step, values | more | {'total_tokens': self.tokens, 'total_scored': self.scored})

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Time inside is not part of the rate."""
    yield
    self.bar.restart_clock()


def _write_done(
  model_dir: str, log: _Log, params: dict, model: DecoderConfig, text_length: int, objective: Objective, rows: int
) -> None:
  """Writes 'done.json', whose presence says that the run is whole."""
  length = objective.model_length(text_length)
  causal = objective.attention.kind == 'causal'
  flops = model.train_flops(length, objective.max_supervised(text_length), length, causal)
  facts = {
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    'tokens_read': log.tokens,
    'tokens_supervised': log.scored,
    'tokens_per_second': float(np.median(log.rates)) if log.rates else 0.0,
    'train_seconds': log.seconds,
    'train_flops': flops * rows,
  }
  with open(os.path.join(model_dir, 'done.json'), 'w') as file:
    json.dump(facts, file, indent=2)
