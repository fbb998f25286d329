"""Checkpoints: the training state and the data position, by Orbax. What is read is what was saved, or is named."""

import dataclasses
import logging
import os
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN, PreservationPolicy

from .. import UserError
from . import files, integrity
from . import mesh as mesh_lib
from .state import TrainState

# Orbax logs each failure with its stack in several threads, and each option; what matters is said here in one line.
logging.getLogger('absl').addFilter(lambda record: f'{os.sep}orbax{os.sep}' not in record.pathname)
logging.getLogger('asyncio').addFilter(lambda record: 'exception was never retrieved' not in record.getMessage())

ITEMS = ('state', 'position')


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
  """When to save and what to keep: whatever one of the three rules wants kept is kept.

  Attributes:
    period: updates between checkpoints; the last update is always saved.
    keep: newest checkpoints kept, at least 1; the one before the newest is what a damaged newest falls back on.
    keep_best: checkpoints kept whose held-out loss is lowest, of those saved right after an evaluation.
    keep_every: checkpoints at multiples of so many updates are kept for good; 0 keeps none for that.
    patience: seconds that training stands still for a save still under way when the next is due; see `Saver.due`.
  """

  period: int = 1000
  keep: int = 3
  keep_best: int = 0
  keep_every: int = 0
  patience: float = 30.0

  def __post_init__(self) -> None:
    for name, least in (('period', 1), ('keep', 1), ('keep_best', 0), ('keep_every', 0)):
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f'CheckpointPolicy.{name}={value!r} must be a whole number of at least {least}.')
    if self.patience < 0:
      raise UserError(f'CheckpointPolicy.patience={self.patience} must not be negative.')
    if self.keep_every % self.period:
      raise UserError(
        f'CheckpointPolicy.keep_every={self.keep_every} is no multiple of the period, {self.period}: '
        'there would be no checkpoint to keep.'
      )

  def options(self) -> dict[str, Any]:
    """For Orbax."""
    rules: list[PreservationPolicy] = [LatestN(n=self.keep)]
    if self.keep_every:
      rules.append(EveryNSteps(interval_steps=self.keep_every))
    loss = lambda metrics: metrics['loss']
    if self.keep_best:
      rules.append(BestN(get_metric_fn=loss, reverse=True, n=self.keep_best, keep_checkpoints_without_metrics=False))
    best = {'best_fn': loss, 'best_mode': 'min'} if self.keep_best else {}
    return {'preservation_policy': AnyPreservationPolicy(policies=rules), **best}


class Checkpoints:
  """The checkpoints of one model directory, named by step, to be read.

  Each holds 'state' (a TrainState) and 'position': see
  `runlog.START`.
  """

  def __init__(self, model_dir: str):
    """UserError if there is nothing to read."""
    self._folder = files.path(model_dir) / 'checkpoints'
    if not self._folder.is_dir():
      raise UserError(f'There are no checkpoints in {model_dir!r}; train it first, or mend --model_dir.')
    self._manager = self._open()
    self._problems: dict[int, str | None] = {}  # by step, of the checkpoints that were looked at

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(create=False, read_only=True)
    return ocp.CheckpointManager(self._folder, options=options, item_names=ITEMS)

  def latest(self) -> int | None:
    """The newest whole checkpoint's step; its bytes are not looked at."""
    return self._manager.latest_step()

  def restore(self, shapes: TrainState, before: int | None = None) -> tuple[int, TrainState, dict] | None:
    """The newest sound checkpoint's step, its state where `shapes` say, and its position; None if there is none.

    Newer ones that are damaged are named.

    Args:
      shapes: of the state.
      before: only checkpoints of earlier steps are looked at.

    Raises:
      UserError: all are damaged, or they are of another model.
    """
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), position=ocp.args.JsonRestore())
    found = self._newest(items, before)
    return None if found is None else (found[0], found[1].state, found[1].position)

  def require(self, step: int | None = None) -> int:
    """The step of the newest sound checkpoint, or `step` if that is sound.

    Raises:
      UserError: there is none, or it is damaged.
    """
    steps = sorted(self._manager.all_steps())
    if not steps:
      raise UserError(f'There is no finished checkpoint in {self._folder}; train the model first.')
    if step is None:
      return self.newest_sound() or 0
    if step not in steps:
      raise UserError(
        f'There is no checkpoint {step} in {self._folder}; there {"are" if len(steps) > 1 else "is"} '
        f'{", ".join(map(str, steps))}.'
      )
    problem = self._problem(step) if jax.process_index() == 0 else None
    if not all_agree(problem is None):
      raise UserError(f'Checkpoint {step} in {self._folder} is damaged ({problem or "the first process says"}).')
    return step

  def restore_params(self, shapes: dict, shardings: dict, step: int | None = None) -> tuple[int, dict]:
    """The step and the parameters alone of the newest sound checkpoint, or of checkpoint `step`.

    Raises:
      UserError: as `restore`, there is none, or `step` is not there or cannot be read.
    """
    item = {'params': mesh_lib.placed(shapes, shardings)}
    args = {'params': jax.tree.map(lambda x: ocp.ArrayRestoreArgs(sharding=x.sharding), item['params'])}
    partial = ocp.args.PyTreeRestore(item=item, restore_args=args, partial_restore=True)
    found = self._newest(ocp.args.Composite(state=partial), None if step is None else step + 1)
    if found is None:
      raise UserError(f'There is no finished checkpoint in {self._folder}; train the model first.')
    if step is not None and found[0] != step:
      raise UserError(f'Checkpoint {step} in {self._folder} cannot be read; delete it to use {found[0]}.')
    return found[0], found[1].state['params']

  def newest_sound(self, before: int | None = None) -> int | None:
    """The step of the newest checkpoint whose bytes are those that were written; None if there is no checkpoint.

    Args:
      before: only checkpoints of earlier steps are looked at.

    Raises:
      UserError: all are damaged.
    """
    steps = [step for step in sorted(self._manager.all_steps(), reverse=True) if before is None or step < before]
    damaged: dict[int, str] = {}
    sound = -1
    if jax.process_index() == 0:
      for step in steps:
        problem = self._problem(step)
        if problem is None:
          sound = step
          break
        damaged[step] = problem
    sound = _agreed(sound)
    if sound < 0:
      if not steps:
        return None
      which = '; '.join(f'{step}: {problem}' for step, problem in damaged.items())
      raise UserError(
        f'Every checkpoint in {self._folder} is damaged ({which}). Bring one back from a copy, or delete that folder '
        'to begin again.'
      )
    for step in steps[: steps.index(sound)]:
      if jax.process_index() == 0:
        say(f'checkpoint {step} is damaged ({damaged[step]}); checkpoint {sound} is used.{self._set_aside(step)}')
    if sound != steps[0]:
      self._manager.reload()
    return sound

  def _problem(self, step: int) -> str | None:
    """What is wrong with a checkpoint; its bytes are read once."""
    if step not in self._problems:
      self._problems[step] = integrity.problem(self._folder / str(step))
    return self._problems[step]

  def _newest(self, items: ocp.args.Composite, before: int | None = None) -> tuple[int, Any] | None:
    while (step := self.newest_sound(before)) is not None:
      found = reason = None
      try:
        found = self._manager.restore(step, args=items)
      except (ValueError, KeyError, OSError, TypeError) as error:
        reason = str(error).strip().split('\n')[0][:300]
      if all_agree(reason is None):
        self._is_whole(step)
        return step, found
      if integrity.is_recorded(self._folder / str(step)):
        raise UserError(
          f'Checkpoint {step} in {self._folder} cannot be read as this model ({reason}); '
          'it was saved by another model: use a new MODEL_DIR, or the gin files it was trained with.'
        )
      self._problems[step] = f'it cannot be read: {reason}'
    return None

  def _is_whole(self, step: int) -> None:
    """A checkpoint was read to its end."""

  def _set_aside(self, step: int) -> str:
    """What is done with a damaged checkpoint, in words: here, nothing."""
    return ''

  def close(self) -> None:
    """Nothing more is read."""
    self._manager.close()


def say(line: str) -> None:
  print(f'unmask: {line}', file=sys.stderr, flush=True)


def _agreed(number: int) -> int:
  """What the first process says."""
  return int(multihost_utils.broadcast_one_to_all(np.int64(number))) if jax.process_count() > 1 else number


def all_agree(good: bool) -> bool:
  """Whether every process says so."""
  return bool(multihost_utils.process_allgather(np.bool_(good)).all()) if jax.process_count() > 1 else good
