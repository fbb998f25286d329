"""The loop proper: batch after batch through the compiled update, and what may come between two of them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from . import diagnosis
from . import mesh as mesh_lib
from .anomalies import Anomalies
from .held_out import Evaluation
from .interruption import Interruption
from .profiling import Profile
from .program import Program
from .runlog import RunLog
from .saving import Saver
from .state import TrainState
from .watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class _Update:
  """An update that the device was given: its number, its metrics there, and this process's rows."""

  number: int
  metrics: dict[str, jax.Array]
  batch: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Updates:
  """What the loop uses.

  Attributes:
    program, step: the update, and the same compiled.
    evaluation, evaluate: when to evaluate, and how: from parameters to named losses.
    last: update after which this process ends.
    corpora: names of the corpora that batches count their tokens by, if they do.
  """

  program: Program
  step: jax.stages.Compiled
  evaluation: Evaluation
  evaluate: Callable[[dict], dict[str, float]]
  log: RunLog
  saved: Saver
  profile: Profile
  anomalies: Anomalies
  watchdog: Watchdog
  interruption: Interruption
  last: int
  corpora: Sequence[str] = ()

  def run(self, state: TrainState, batches: Iterator[dict[str, np.ndarray]], first: int) -> None:
    """Updates first + 1 to `last`.

    Metrics of update n are read while update n + 1 runs, so the device never waits for the host, except before an
    evaluation or a checkpoint, which must know all that was read so far.

    Raises:
      Preempted: this process was asked to stop, and saved.
      UserError: an update was not finite.
    """
    pending, sound = None, self._sound()
    for done in range(first + 1, self.last + 1):
      if self.profile.begins(done):
        self.profile.open(state)
      with self.profile.step(done):
        self.watchdog.at(f'update {done}: waiting for rows')
        with self.log.waiting():
          batch = next(batches)
        self.watchdog.at(f'update {done}')
        on_device = mesh_lib.put_batch(self.program.mesh, batch)
        state, metrics = self.step(state, on_device, sound)
        if pending is not None and not self._settled(pending):  # then this one was not applied either
          state = self._broken(state, pending)
          state, metrics = self.step(state, on_device, self._sound())
      pending, sound = _Update(done, metrics, batch), metrics['sound']
      stops = done < self.last and self.interruption.reached(done)
      wants_eval = self.evaluation.due(done, self.last) and not stops
      wants_save = self.saved.due(done, done == self.last or stops)
      if wants_eval or wants_save or stops or self.profile.ends(done):
        if not self._settled(pending):
          state = self._broken(state, pending)
        pending, sound = None, self._sound()
      if self.profile.ends(done):
        with self.log.paused():
          self.profile.close()
      self._between(done, state, wants_eval, wants_save)
      if stops:
        self._stop(done)

  def _between(self, done: int, state: TrainState, wants_eval: bool, wants_save: bool) -> None:
    """What follows an update: an evaluation, a checkpoint."""
    loss = None
    if wants_eval:
      self.watchdog.at(f'the evaluation after update {done}')
      with self.log.paused():
        found = self.evaluate(state.params)
      self.log.evaluated(done, found)
      loss = found['loss']
    if wants_save:
      self.watchdog.at(f'the checkpoint after update {done}')
      self.log.flush()
      self.saved.save(state, done, self.log.position(done), loss)

  def _settled(self, update: _Update) -> bool:
    """Reads an update's metrics, when it is done; whether it was applied."""
    values = {name: float(value) for name, value in jax.device_get(update.metrics).items()}
    values.pop('sound')
    counts = update.batch.get('corpus_tokens', ())  # what every host counts of the global batch
    values |= {f'corpus/{name}/tokens': float(count) for name, count in zip(self.corpora, counts, strict=False)}
    applied = self.anomalies.usual(update.number, values, update.batch)
    if applied:
      self.log.step(update.number, values)
    return applied

  def _broken(self, state: TrainState, update: _Update) -> TrainState:
    """Looks into an update that was not finite, with the state that it met and did not change.

    Raises:
      UserError: the run ends, and that state is saved.
    """
    before = update.number - 1
    state = self._at(state, before)
    values = {name: float(value) for name, value in jax.device_get(update.metrics).items()}
    on_device = mesh_lib.put_batch(self.program.mesh, update.batch)
    tensor, value = diagnosis.first_bad(self.program, state, on_device)
    if self.anomalies.ends and self.saved.due(before, last=True):
      self.saved.save(state, before, self.log.position(before))
      self.saved.wait()
    self.anomalies.broken(update.number, values, update.batch, tensor, value)
    self.log.step(update.number, values, applied=False)
    return self._at(state, update.number)

  def _stop(self, done: int) -> None:
    self.saved.wait()
    at = f'and saved after update {done}'
    if self.saved.failed is not None:
      at = f'after update {done}, which could not be saved: {self.saved.failed}'
    raise self.interruption.stopped(at)

  def _sound(self) -> jax.Array:
    """What the update after a finite one is told."""
    return jax.device_put(np.bool_(True), mesh_lib.replicated(self.program.mesh))

  def _at(self, state: TrainState, number: int) -> TrainState:
    """The state with so many batches consumed."""
    return state.replace(step=jax.device_put(np.int32(number), mesh_lib.replicated(self.program.mesh)))
