"""Weights & Biases beside 'metrics.jsonl' and TensorBoard, where its package is there and its own variables ask for it.

WANDB_PROJECT, WANDB_API_KEY or WANDB_MODE (online, offline; disabled turns it off) are Weights & Biases' own names
(docs.wandb.ai, environment variables). A run that goes on goes on there too: its id lies in 'wandb.json'.
"""

import importlib.util
import json
import os
import secrets
import sys
import tempfile
from typing import Any

from etils import epath

from .. import UserError
from . import bindings, files

_ASKS = ('WANDB_PROJECT', 'WANDB_API_KEY', 'WANDB_MODE')
_MODES = ('online', 'offline', 'disabled', 'shared', 'dryrun', 'run')
_LOGIN_SECONDS = 30  # a prompt for a key that nobody answers may not hold a run


def wanted() -> bool:
  """Whether Weights & Biases is asked for.

  Raises:
    UserError: it is, and its package is missing, or WANDB_MODE is none of its modes.
  """
  mode = os.environ.get('WANDB_MODE', '')
  if mode and mode not in _MODES:
    raise UserError(f'WANDB_MODE is {mode!r}; it is one of {", ".join(_MODES[:3])}.')
  asked = [name for name in _ASKS if os.environ.get(name)]
  if not asked or mode == 'disabled':
    return False
  if importlib.util.find_spec('wandb') is None:
    raise UserError(
      f'{asked[0]} asks for Weights & Biases, which is not installed: pip install wandb, or unset {asked[0]}.'
    )
  return True


class WeightsAndBiases:
  """Hands scalars and the configuration to a run of Weights & Biases; its failure ends no training."""

  def __init__(self, folder: epath.Path):
    """Begins a run, or goes on with that of the folder."""
    self._folder, self._warned, self._run = folder, False, None
    try:
      self._run = self._begin()
    except Exception as error:  # of the network, of a key, of a disk: many kinds
      self._warn(error)

  def _begin(self) -> Any:
    import wandb

    told, name = self._folder / 'wandb.json', os.path.basename(os.fspath(self._folder).rstrip('/'))
    known = json.loads(told.read_text()) if told.exists() else {'id': secrets.token_hex(4)}
    quiet = wandb.Settings(silent=True, console='off', login_timeout=_LOGIN_SECONDS)
    self._scratch = tempfile.mkdtemp(prefix='unmask-wandb-') if files.is_remote(self._folder) else None
    run = wandb.init(
      project=os.environ.get('WANDB_PROJECT') or 'unmask',
      name=os.environ.get('WANDB_NAME') or name,
      id=known['id'],
      resume='allow',
      dir=self._scratch or os.fspath(self._folder),
      settings=quiet,
    )
    run.define_metric('*', step_metric='step')  # a run that goes on tells some steps again, which wandb's own may not
    files.write_atomically(told, json.dumps(known))
    return run

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds scalars of a step."""
    self._do(lambda run: run.log({'step': step, **values}))

  def configuration(self, operative: str) -> None:
    """Adds the run's bindings, by name."""
    self._do(lambda run: run.config.update(bindings.values(operative), allow_val_change=True))

  def close(self) -> None:
    """Nothing more comes."""
    self._do(lambda run: run.finish())
    self._run = None

  def _do(self, what: Any) -> None:
    if self._run is None:
      return
    try:
      what(self._run)
    except Exception as error:
      self._warn(error)

  def _warn(self, error: Exception) -> None:
    if not self._warned:
      reason = files.reason(error)
      print(f'unmask: Weights & Biases is left out: {reason}; metrics.jsonl has all.', file=sys.stderr, flush=True)
    self._warned = True
