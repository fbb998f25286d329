"""What the checkpoints of a model directory are of: 'model.json', and the refusal to mix two runs in one directory."""

import dataclasses
import json
import os
from typing import Any

from etils import epath

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives import scoring
from ..objectives.base import Objective
from ..tasks import vocabularies
from ..tasks.pipeline import Pipeline, Source
from . import bindings, config, files
from .optimizers import Optimizer

# Settings that change neither the parameters nor what they mean: memory, speed and precision.
FREE = frozenset(('dtype', 'attention', 'remat', 'scan_unroll', 'loss_chunk', 'vocab_size'))


def facts(model: DecoderConfig, objective: Objective, pipeline: Pipeline) -> dict:
  """What can be said before the text is opened: the shape of the model, the objective, the rows."""
  shape = {name: value for name, value in dataclasses.asdict(model).items() if name not in FREE}
  return shape | {
    'objective': repr(objective),
    'task': pipeline.mixture_or_task_name,
    'text_length': pipeline.text_length,
  }


def of_training(
  *,
  batch_size: int,
  seed: int,
  optimizer: Optimizer,
  z_loss: float,
  train_steps: int,
  initial_weights: str | None = None,
  **_: Any,
) -> dict:
  """What a data position counts in, where a run begins and what an update does, of train's arguments."""
  update = {'optimizer': repr(optimizer), 'z_loss': z_loss, 'train_steps': train_steps}
  return {'batch_size': batch_size, 'seed': seed, 'initial_weights': initial_weights} | update


def of_source(source: Source, model: DecoderConfig) -> dict:
  """What is known once the text is open: the corpus with its settings, and the vocabulary, by content."""
  return {
    'corpus': os.path.basename(source.folder) if source.folder else None,
    'vocabulary': vocabularies.fingerprint(source.vocabulary),
    'vocab_size': model.vocab_size,
  }


def of_reading(objective: Objective, source: Source) -> dict:
  """How the model reads, for whoever asks it beside another model; see `frozen`."""
  return {'left_to_right': scoring.left_to_right(objective.scorer(source.special), objective.attention)}


def of_run(model: DecoderConfig, objective: Objective, pipeline: Pipeline, source: Source) -> dict:
  """All that a trained model must agree with before it is asked anything."""
  return facts(model, objective, pipeline) | of_source(source, model.with_vocabulary(source.vocabulary.vocab_size))


def of_other(model_dir: str) -> dict:
  """What another run's 'model.json' says; UserError, without an end, if it cannot be read."""
  path = files.path(model_dir) / 'model.json'
  try:
    return dict(json.loads(path.read_text()))
  except (OSError, ValueError, TypeError) as error:
    raise UserError(f'{path} cannot be read ({files.reason(error)})') from error


def check(model_dir: str, now: dict, save: bool = False) -> None:
  """Compares with 'model.json', and writes it where there is none and `save`.

  A run may be made longer or shorter: that its learning rates are others from here on is only told. A directory in
  which no update was applied, since the first one did not fit in memory say, is another run's as well as this one's.

  Raises:
    UserError: something else differs; names the bindings.
  """
  path = files.path(model_dir) / 'model.json'
  before = _read(path) if path.exists() else {}
  changed = {name: (before[name], now[name]) for name in now if name in before and before[name] != now[name]}
  steps = changed.pop('train_steps', None)
  if changed and not _begun(model_dir):
    before, changed, steps = {}, {}, None
    if save:
      (files.path(model_dir) / 'realised.json').unlink(missing_ok=True)
  if changed:
    saved = files.path(model_dir) / 'operative_config.gin'
    bound = bindings.differences(saved.read_text(), config.operative()) if saved.exists() else {}
    each = '; '.join(f'{name} was {old} and is now {new}' for name, (old, new) in (bound or changed).items())
    raise UserError(f'{model_dir} holds another run: {each}. Use a new MODEL_DIR or the old settings.')
  if save and before != now:
    if steps:
      print(f'TRAIN_STEPS was {steps[0]} and is now {steps[1]}: the learning rates are other ones from here on.')
    files.write_atomically(path, json.dumps(before | now, indent=2))


def _begun(model_dir: str) -> bool:
  """Whether it has a checkpoint or a line of metrics."""
  folder = files.path(model_dir)
  checkpoints, told = folder / 'checkpoints', folder / 'metrics.jsonl'
  saved = checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())
  return saved or (told.exists() and told.stat().length > 0)


def _read(path: epath.Path) -> dict:
  try:
    return dict(json.loads(path.read_text()))
  except (ValueError, TypeError, OSError) as error:
    raise UserError(
      f'{path} is damaged ({error}), so nobody knows what run this is: bring it back from a copy, or delete it if you '
      'are sure of your settings.'
    ) from error
