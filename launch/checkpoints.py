"""Checkpoints: the training state and the data position, by Orbax, asynchronously."""

import dataclasses
from typing import Any

import jax
import orbax.checkpoint as ocp

from .. import UserError
from . import files
from . import mesh as mesh_lib
from .state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
  """When to save and what to keep.

  Attributes:
    period: updates between checkpoints; the last update is always saved.
    keep: newest checkpoints kept.
  """

  period: int = 1000
  keep: int = 3


class Checkpoints:
  """The checkpoints of one model directory, named by step.

  Each holds 'state' (a TrainState) and 'position': see
  `runlog.START`.
  """

  def __init__(self, model_dir: str, policy: CheckpointPolicy | None = None):
    folder = files.path(model_dir) / 'checkpoints'
    options = ocp.CheckpointManagerOptions(
      max_to_keep=policy.keep if policy else None, create=policy is not None, enable_async_checkpointing=True
    )
    self._policy = policy
    if policy is None and not folder.is_dir():
      raise UserError(f'There are no checkpoints in {model_dir!r}; train it first, or mend --model_dir.')
    self._manager = ocp.CheckpointManager(folder, options=options, item_names=('state', 'position'))

  def latest(self) -> int | None:
    """The newest whole checkpoint's step."""
    return self._manager.latest_step()

  def require_latest(self) -> int:
    """The newest whole checkpoint's step; UserError if there is none."""
    step = self.latest()
    if step is None:
      raise UserError(f'There is no finished checkpoint in {self._manager.directory}; train the model first.')
    return step

  def due(self, step: int, last: bool) -> bool:
    """Whether the policy wants a checkpoint at this step."""
    if self._policy is None:
      return False
    return (last or step % self._policy.period == 0) and self._manager.latest_step() != step

  def save(self, state: TrainState, step: int, position: dict[str, float]) -> None:
    """Starts a save; the arrays are copied to the host before this returns."""
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
    self._manager.save(step, args=items, force=True)

  def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict]:
    """The state where `shapes` say, and the position; UserError if it is damaged or of another model."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), position=ocp.args.JsonRestore())
    restored = self._read(step, items)
    return restored.state, restored.position

  def restore_params(self, step: int, shapes: dict, shardings: dict) -> dict:
    """The parameters alone; UserError as `restore`."""
    item = {'params': mesh_lib.placed(shapes, shardings)}
    args = {'params': jax.tree.map(lambda x: ocp.ArrayRestoreArgs(sharding=x.sharding), item['params'])}
    partial = ocp.args.PyTreeRestore(item=item, restore_args=args, partial_restore=True)
    return self._read(step, ocp.args.Composite(state=partial)).state['params']

  def _read(self, step: int, items: ocp.args.Composite) -> Any:
    try:
      return self._manager.restore(step, args=items)
    except (ValueError, KeyError, OSError, TypeError) as error:
      reason = str(error).strip().split('\n')[0][:300]
      raise UserError(
        f'Checkpoint {step} in {self._manager.directory} cannot be read as this model ({reason}); '
        'it is damaged or was saved by another model: use a new MODEL_DIR, or the gin files it was trained with.'
      ) from error

  def wait(self) -> None:
    """Blocks until no save is under way."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()
