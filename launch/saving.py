"""Checkpoints written while training goes on. A save that fails costs no run, and not the checkpoint before it."""

import contextlib
import errno
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from .. import UserError
from . import files, integrity
from .checkpoints import ITEMS, CheckpointPolicy, Checkpoints, all_agree, say
from .state import TrainState


def _without_stragglers(hook: Callable[[Any], object]) -> Callable[[Any], None]:
  """An unraisablehook that keeps quiet about TensorStore's writes which end after Orbax has given a checkpoint up.

  Each finds the event loop of that checkpoint closed, and would print a stack of a dozen lines, hundreds of times.
  """

  def quiet(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      hook(unraisable)

  return quiet


sys.unraisablehook = _without_stragglers(sys.unraisablehook)


class Saver(Checkpoints):
  """The checkpoints of the model directory of a run, which adds to them."""

  def __init__(self, model_dir: str, policy: CheckpointPolicy):
    """UserError if nothing can be written there."""
    self._policy = policy
    self._folder = files.path(model_dir) / 'checkpoints'
    self._problems: dict[int, str | None] = {}
    self._under_way: int | None = None  # the step of the save that was begun last, until it is known to be whole
    self._owed = False  # a save was put off because the one before was still being written
    self._recorder: threading.Thread | None = None
    self.failed: str | None = None  # why the last save failed, None if it did not
    try:
      self._manager = self._open()
    except OSError as error:
      raise UserError(f'{self._folder} cannot be used for checkpoints: {error.strerror or error}.') from error

  def _open(self) -> ocp.CheckpointManager:
    """Removes what a crash left half-written."""
    options = ocp.CheckpointManagerOptions(
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
      # Folders made in a thread of Orbax's own would hang the process's end where they cannot be made.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      **self._policy.options(),
    )
    return ocp.CheckpointManager(self._folder, options=options, item_names=ITEMS)

  def due(self, step: int, last: bool) -> bool:
    """Whether to save at this step; called once a step.

    Should the save before still be under way, a single process waits for it as long as the policy's patience lasts,
    then goes on and saves as soon as it is done. Several processes would have to agree on that, and wait to its end.
    """
    if last:
      return self._under_way != step and (self.latest() != step or self.failed is not None)
    now = step % self._policy.period == 0
    self._owed |= now
    if self._under_way is None or jax.process_count() > 1:
      return self._owed
    end = time.monotonic() + (self._policy.patience if now else 0)
    while self._manager.is_saving_in_progress():
      if time.monotonic() >= end:
        if now:
          slow = f'checkpoint {self._under_way} is still being written to {self._folder}'
          say(f'{slow}, {self._policy.patience:g} s after update {step}: training goes on, and the next one waits.')
        return False
      time.sleep(0.005)
    self.wait()
    return self._owed

  def save(self, state: TrainState, step: int, position: dict[str, float], loss: float | None = None) -> None:
    """Starts a save; the arrays are copied to the host before this returns.

    If it fails, now or later, that is said and noted in `failed`, and nothing is raised.

    Args:
      state, step, position: what is saved.
      loss: held-out, if it was just measured.
    """
    self.wait()
    self._record(None)
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
    metrics = None if loss is None or not self._policy.keep_best else {'loss': loss}
    self._under_way, self._owed = step, False
    try:
      if self.failed is not None:
        self._manager = self._open()  # of what is on disk, Orbax knows nothing after a failure
      self._manager.save(step, args=items, metrics=metrics, force=True)
    except Exception as error:  # whatever it was: training goes on
      self._fail(error)

  def wait(self) -> None:
    """Blocks until no save is under way."""
    if self._under_way is None:
      return
    error, step = None, self._under_way
    try:
      self._manager.wait_until_finished()
    except Exception as found:
      error = found
    if not all_agree(error is None):
      self._fail(error)
    else:
      self._under_way, self.failed = None, None
      self._record(step)

  def close(self) -> None:
    """Waits for everything.

    Raises:
      UserError: the last save failed.
    """
    self.wait()
    self._record(None)
    if self.failed is not None:
      with contextlib.suppress(Exception):  # it failed once already
        self._manager.close()
      if jax.process_index() == 0:
        for _ in range(5):  # TensorStore's threads, for which nobody waits once a save failed, may begin a folder anew
          self._discard()
          time.sleep(0.1)
      raise UserError(
        f'The last checkpoint was not saved: {self.failed}. The same command goes on from the one before.'
      )
    self._manager.close()

  def _fail(self, error: Exception | None) -> None:
    step, self._under_way = self._under_way, None
    self.failed = _in_words(error, self._folder)
    if jax.process_index() > 0:
      return
    self._discard()
    whole = sorted(int(path.name) for path in self._folder.glob('*') if path.name.isdigit())
    kept = f'checkpoint {whole[-1]} is the last good one' if whole else 'there is no checkpoint yet'
    say(f'checkpoint {step} was not saved: {self.failed}. Training goes on; {kept}.')

  def _discard(self) -> None:
    """Removes what is half-written: the room it takes may be what the next one lacks."""
    for half in self._folder.glob('*.orbax-checkpoint-tmp*'):
      _remove(half)

  def _record(self, step: int | None) -> None:
    """Waits for the record that is being made, and begins that of a step."""
    if self._recorder is not None:
      self._recorder.join()
      self._recorder = None
    if step is None or jax.process_index() > 0:
      return

    def record() -> None:
      with contextlib.suppress(OSError, UserError):  # a full disk, or pruned by now: it stays without
        integrity.record(self._folder / str(step))

    self._recorder = threading.Thread(target=record, name='integrity')
    self._recorder.start()

  def _is_whole(self, step: int) -> None:
    if not integrity.is_recorded(self._folder / str(step)):  # the process ended before it was
      self._record(step)

  def _set_aside(self, step: int) -> str:
    """Moves a damaged checkpoint where it is in nobody's way."""
    damaged = self._folder.parent / 'damaged'
    target = damaged / f'{step}-{time.strftime("%Y%m%d-%H%M%S")}'
    try:
      damaged.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(target)
    except OSError as error:
      raise UserError(
        f'Checkpoint {step} in {self._folder} is damaged and cannot be moved to {target} ({error}); move or delete it.'
      ) from error
    return f' It is kept as {target}.'


def _remove(folder: epath.Path) -> None:
  """Removes a folder as far as that is possible; writes that were under way may add to it for a moment."""
  for _ in range(20):
    try:
      folder.rmtree()
    except OSError as error:
      if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):  # a file came, or went, while it was done
        return
      time.sleep(0.1)
    if not folder.exists():
      return


def _in_words(error: Exception | None, folder: epath.Path) -> str:
  """A failure to write, for whoever must mend the disk."""
  text = str(error) if error is not None else 'another process could not write its part'
  if 'No space left' in text or 'Disk quota' in text:
    return f'the disk of {folder} is full'
  if 'Read-only file system' in text:
    return f'the disk of {folder} is read-only'
  return f'{folder} cannot be written ({text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__})'
