"""What the checkpoints of a model directory are of: 'model.json', and the refusal to mix two runs in one directory."""

import dataclasses
import json
import os

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from ..tasks import vocabularies
from ..tasks.pipeline import Pipeline, Source
from . import bindings, config, files
from .optimizers import Optimizer

# Settings that change neither the parameters nor what they mean: memory, speed and precision.
_FREE = ('dtype', 'attention', 'remat', 'scan_unroll', 'loss_chunk', 'vocab_size')


def facts(model: DecoderConfig, objective: Objective, pipeline: Pipeline) -> dict:
  """What can be said before the text is opened: the shape of the model, the objective, the rows."""
  shape = {name: value for name, value in dataclasses.asdict(model).items() if name not in _FREE}
  return shape | {
    'objective': repr(objective),
    'task': pipeline.mixture_or_task_name,
    'text_length': pipeline.text_length,
  }


def of_training(batch_size: int, seed: int, optimizer: Optimizer, z_loss: float) -> dict:
  """What a data position counts in, where the random numbers come from, and what an update does."""
  return {'batch_size': batch_size, 'seed': seed, 'optimizer': repr(optimizer), 'z_loss': z_loss}


def of_source(source: Source, model: DecoderConfig) -> dict:
  """What is known once the text is open: the corpus with its settings, and the vocabulary, by content."""
  return {
    'corpus': os.path.basename(source.folder) if source.folder else None,
    'vocabulary': vocabularies.fingerprint(source.vocabulary),
    'vocab_size': model.vocab_size,
  }


def of_run(model: DecoderConfig, objective: Objective, pipeline: Pipeline, source: Source) -> dict:
  """All that a trained model must agree with before it is asked anything."""
  return facts(model, objective, pipeline) | of_source(source, model.with_vocabulary(source.vocabulary.vocab_size))


def check(model_dir: str, now: dict, save: bool = False) -> None:
  """Compares with 'model.json' and raises UserError naming what differs; writes it where there is none and `save`."""
  path = files.path(model_dir) / 'model.json'
  if path.exists():
    before = json.loads(path.read_text())
    changed = {name: (before[name], now[name]) for name in now if name in before and before[name] != now[name]}
    if changed:
      saved = files.path(model_dir) / 'operative_config.gin'
      changed = (bindings.differences(saved.read_text(), config.operative()) if saved.exists() else {}) or changed
      each = '; '.join(f'{name} was {old} and is now {new}' for name, (old, new) in changed.items())
      raise UserError(f'{model_dir} holds another run: {each}. Use a new MODEL_DIR or the old settings.')
  elif save:
    files.write_atomically(path, json.dumps(now, indent=2))
