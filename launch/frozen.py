"""Networks beside the decoder that are never trained: their shape, whether they fit, and their parameters.

All come from the MODEL_DIR of the run that made them, when a run begins. Its own 'model.json' then has the shape and
its checkpoints the parameters, so that what goes on needs the other run no more.
"""

import dataclasses
import json
import os
from typing import Any

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from ..objectives.networks import Frozen
from ..tasks import vocabularies
from ..tasks.pipeline import Source
from . import files, identity
from . import state as state_lib
from .checkpoints import Checkpoints
from .program import Program


def settled(objective: Objective, model_dir: str | None = None) -> Objective:
  """The objective whose frozen networks have their shapes; any other as it is.

  Args:
    objective: as it was bound.
    model_dir: of the run; one that has checkpoints knows the shapes itself.

  Raises:
    UserError: there is no such run.
  """
  found: dict[str, Any] = {name: _settled(objective, name, said, model_dir) for name, said in _of(objective).items()}
  return dataclasses.replace(objective, **found) if found else objective


def facts(objective: Objective) -> dict[str, Any]:
  """For 'model.json': the shapes of a settled objective's frozen networks."""
  found = {name: {'checkpoint': said.checkpoint} | dict(said.shape) for name, said in _of(objective).items()}
  return {'frozen': found} if found else {}


def check(objective: Objective, source: Source) -> None:
  """Raises UserError unless every frozen network of an objective is there, sound, and can be asked about a text."""
  for said in _of(objective).values():
    found, named = _read(said), _named(said)
    if found.get('vocabulary') != vocabularies.fingerprint(source.vocabulary):
      raise UserError(
        f'{named} was trained with another vocabulary than this run reads: train it on the same text, or set '
        'TextTask.vocabulary_file of both to one.'
      )
    if 'left_to_right' not in found:
      raise UserError(
        f'{named} is older and does not say how its model reads; `unmask train` on it once more adds that.'
      )
    if not found['left_to_right']:
      raise UserError(
        f'{named} was trained by {found.get("objective")}, which gives a token no probability by what stands left of '
        'it alone; one that sees the token itself says nothing of it. Give a run of next_token, causal_masked or meap.'
      )
    _checkpoints(said, lambda saved: saved.require())


def params(program: Program) -> dict[str, dict]:
  """The parameters of a settled program's frozen networks by name, on its mesh; UserError if they cannot be read."""
  shapes, where = state_lib.params_and_shardings(program.decoder, program.mesh, program.beside)
  return {
    name: _checkpoints(said, lambda saved, name=name: saved.restore_params(shapes[name], where[name])[1])
    for name, said in _of(program.objective).items()
  }


def _of(objective: Objective) -> dict[str, Frozen]:
  return {name: said for name, said in objective.beside.items() if isinstance(said, Frozen)}


def _settled(objective: Objective, name: str, said: Frozen, model_dir: str | None) -> Frozen:
  if said.checkpoint is None:
    raise UserError(
      f"{type(objective).__name__}.{name} has no checkpoint: bind Frozen.checkpoint to a trained run's MODEL_DIR."
    )
  own = _own(model_dir).get(name, {})
  found = own if own.get('checkpoint') == said.checkpoint else _read(said)
  names = sorted({field.name for field in dataclasses.fields(DecoderConfig)} - identity.FREE | {'vocab_size'})
  shape = {name: found[name] for name in names if name in found}
  if 'vocab_size' not in shape:
    raise UserError(f'{_named(said)} holds no shape of a model in its model.json; train it once more.')
  return dataclasses.replace(said, shape=tuple(shape.items()))


def _own(model_dir: str | None) -> dict[str, dict]:
  """What a run that has checkpoints knows of its frozen networks."""
  path = files.path(model_dir) / 'model.json' if isinstance(model_dir, str) else None  # gin may leave it unbound
  if path is None or not (path.parent / 'checkpoints').exists() or not path.exists():
    return {}
  try:
    return dict(json.loads(path.read_text()).get('frozen', {}))
  except (OSError, ValueError, AttributeError):
    return {}  # `identity.check` names it


def _read(said: Frozen) -> dict[str, Any]:
  try:
    return identity.of_other(os.path.expanduser(said.checkpoint or ''))
  except UserError as error:
    raise UserError(f'{_named(said)} is no run: {error}. Give the MODEL_DIR of a trained one.') from error


def _checkpoints(said: Frozen, ask: Any) -> Any:
  """What `ask` finds in the checkpoints of a network; UserError with the network's name."""
  try:
    saved = Checkpoints(os.path.expanduser(said.checkpoint or ''))
    try:
      return ask(saved)
    finally:
      saved.close()
  except UserError as error:
    raise UserError(f'{_named(said)}: {error}') from error


def _named(said: Frozen) -> str:
  return f'Frozen.checkpoint={said.checkpoint!r}'
