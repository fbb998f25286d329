"""Numbers that are not what they should be: a loss or a gradient that is not finite, and a loss that jumps."""

import collections
import dataclasses
import io
import json
import math
import statistics
from typing import Any

import jax
import numpy as np

from .. import UserError
from . import files
from .checkpoints import say

_LEAST = 20  # losses seen before one can be called unusual
_SPIKES = 50  # spikes of which the batch is kept, in one process's life


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnomalyPolicy:
  """What to do about them. The batch, the ids of its examples and what was found go to MODEL_DIR/anomalies.

  An update whose loss or gradient is not finite is never applied.

  Attributes:
    nonfinite: 'stop' ends the run, with the state before that update saved; 'skip' goes on with the next batch.
    most_skipped: so many in a row end the run all the same.
    spike: a loss so many standard deviations above the mean of those before it is told; 0 tells none. A choice of ours.
    window: losses that mean and deviation are taken over.
  """

  nonfinite: str = 'stop'
  most_skipped: int = 10
  spike: float = 8.0
  window: int = 100

  def __post_init__(self) -> None:
    if self.nonfinite not in ('stop', 'skip'):
      raise UserError(f"AnomalyPolicy.nonfinite={self.nonfinite!r} must be 'stop' or 'skip'.")
    if self.most_skipped < 0 or self.spike < 0 or self.window < _LEAST:
      raise UserError(
        f'AnomalyPolicy has most_skipped={self.most_skipped}, spike={self.spike} and window={self.window}; '
        f'none may be negative, and the window is at least {_LEAST}.'
      )


class Anomalies:
  """Watches the metrics of a run and keeps what is needed to understand an odd one."""

  def __init__(self, policy: AnomalyPolicy, model_dir: str):
    self._policy, self._model_dir = policy, model_dir
    self._losses: collections.deque[float] = collections.deque(maxlen=policy.window)
    self._skipped = self._spikes = 0

  def usual(self, update: int, values: dict[str, float], batch: dict[str, np.ndarray]) -> bool:
    """Whether the metrics of an update are finite; keeps the batch of one whose loss jumps."""
    if not (math.isfinite(values['loss']) and math.isfinite(values['grad_norm'])):
      return False
    self._skipped = 0
    if self._policy.spike and len(self._losses) >= _LEAST:
      mean, deviation = statistics.fmean(self._losses), statistics.pstdev(self._losses)
      if values['loss'] > mean + self._policy.spike * deviation and values['loss'] > mean:
        self._spike(update, values, batch, mean, deviation)
    self._losses.append(values['loss'])
    return True

  def _spike(self, update: int, values: dict, batch: dict, mean: float, deviation: float) -> None:
    usual = {'mean': mean, 'standard_deviation': deviation, 'losses': len(self._losses)}
    where = 'it is one of many, and not kept'
    if self._spikes < _SPIKES:
      where = f'batch and example ids are in {self._keep("spike", update, values, batch, {"usual": usual})}'
    self._spikes += 1
    self._say(f'update {update}: the loss jumped to {values["loss"]:.4g} from {mean:.4g} +- {deviation:.2g}; {where}.')

  @property
  def ends(self) -> bool:
    """Whether the run ends with the next update that is not finite."""
    return self._policy.nonfinite == 'stop' or self._skipped >= self._policy.most_skipped

  def broken(self, update: int, values: dict, batch: dict, tensor: str | None, tensor_value: np.ndarray | None) -> None:
    """An update was not finite.

    Args:
      update: its number.
      values: its metrics.
      batch: this process's rows of it.
      tensor: name of the first that is not finite, in the order in which the step computes.
      tensor_value: that tensor.

    Raises:
      UserError: the run ends here.
    """
    ends = self.ends
    found: dict[str, Any] = {'first_bad_tensor': tensor}
    if tensor_value is not None:
      bad = ~np.isfinite(tensor_value)
      found |= {
        'shape': list(tensor_value.shape),
        'not_finite': int(bad.sum()),
        'first_at': np.argwhere(bad)[0].tolist(),
      }
    folder = self._keep('nonfinite', update, values, batch, found, tensor_value)
    self._skipped += 1
    what = f'update {update} is not finite (loss {values["loss"]}, gradient norm {values["grad_norm"]}'
    what += f', first in {tensor})' if tensor else ')'
    ids = ', '.join(map(str, _ids(batch)[:4])) + (', ...' if len(_ids(batch)) > 4 else '')
    kept = f'its batch (examples {ids}) and that tensor are in {folder}'
    if not ends:
      self._say(f'{what}: skipped; {kept}.')
      return
    many = f' after {self._skipped - 1} others in a row' if self._skipped > 1 else ''
    raise UserError(
      f'{what[0].upper()}{what[1:]}{many}: the run is stopped before it; {kept}. Run it again with unmask replay '
      f"--model_dir={self._model_dir} --step={update}; go on without it with --gin.AnomalyPolicy.nonfinite='skip', "
      'or lower LEARNING_RATE in a new MODEL_DIR.'
    )

  def _keep(
    self, kind: str, update: int, values: dict, batch: dict, more: dict, tensor: np.ndarray | None = None
  ) -> str:
    """Writes what is known of an update; returns the folder."""
    folder = files.path(self._model_dir) / 'anomalies' / f'{kind}-{update:08d}'
    try:
      folder.mkdir(parents=True, exist_ok=True)
      packed = io.BytesIO()
      np.savez_compressed(packed, **batch)
      (folder / f'batch-{jax.process_index()}.npz').write_bytes(packed.getvalue())
      if jax.process_index() == 0:
        if tensor is not None:
          packed = io.BytesIO()
          np.save(packed, tensor)
          (folder / 'first_bad_tensor.npy').write_bytes(packed.getvalue())
        known = {'kind': kind, 'step': update, 'example_ids': _ids(batch), **values, **more}
        (folder / 'report.json').write_text(json.dumps(_strict(known), indent=2))
    except Exception as error:  # whatever the disk or the bucket has: the run's own news are more important
      return f'nowhere ({folder}: {files.reason(error)})'
    return str(folder)

  @staticmethod
  def _say(line: str) -> None:
    if jax.process_index() == 0:
      say(line)


def _ids(batch: dict[str, np.ndarray]) -> list[int]:
  """Of the examples in this process's rows."""
  return [int(number) for number in batch['example_id'] if number >= 0]


def _strict(value: Any) -> Any:
  """For JSON, which knows neither NaN nor infinity: they become strings."""
  if isinstance(value, dict):
    return {name: _strict(each) for name, each in value.items()}
  return value if not isinstance(value, float) or math.isfinite(value) else str(value)
