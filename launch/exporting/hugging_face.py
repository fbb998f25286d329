"""A checkpoint as a folder that `transformers` loads.

A model whose every layer is causal, without a prefix, and that predicts the next token is a LlamaForCausalLM. Any
other is a model of its own kind, 'unmask', with a class of its own for AutoModelForMaskedLM, so that nothing takes it
for a causal one.
"""

import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import seqio

from ... import UserError
from ...models.config import DecoderConfig
from ...models.decoder import Decoder
from ...objectives.base import Objective
from ...tasks import vocabularies
from ...tasks.pipeline import Pipeline
from .. import config, files, identity
from .. import state as state_lib
from ..checkpoints import Checkpoints
from . import card, llama, parameters, safetensors, tokenizer
from .facts import Facts

_DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(jnp.bfloat16)}
_CLASSES = 'modeling_unmask.py'
NOT_CAUSAL = 'silu, in a model that is not causal: load it by AutoModelForMaskedLM with trust_remote_code=True'
"""What 'hidden_act' says in place of 'silu' where LlamaForCausalLM must not load the weights: it knows no such function
and gives the name in its error."""


def export(
  *,
  model_dir: str,
  out: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  step: int | None = None,
  dtype: str | None = None,
  max_shard_size: str = '5GB',
) -> str:
  """Writes the folder; returns what to tell the user of it.

  Args:
    model_dir: a trained model.
    out: a folder that is not there yet, or is empty.
    model, objective, pipeline: as it was trained.
    step: of the checkpoint; None takes the newest.
    dtype: of the weights that are written, 'float32' or 'bfloat16'; None takes that of the parameters.
    max_shard_size: of a file of weights.

  Raises:
    UserError: nothing was written.
  """
  config.refuse_unused()
  shard_bytes = safetensors.parse_size(max_shard_size)
  dtype = dtype or model.param_dtype
  place = _free(out)
  saved = Checkpoints(model_dir)
  step = saved.require(step)  # before a corpus is opened, which may take minutes
  saved.close()
  source = pipeline.open()
  identity.check(model_dir, identity.of_run(model, objective, pipeline, source))
  model = model.with_vocabulary(source.vocabulary.vocab_size)
  facts = Facts(
    name=os.path.basename(os.path.normpath(model_dir)),
    step=step,
    model=model,
    objective=objective,
    scorer=objective.scorer(source.special),
    length=objective.model_length(pipeline.text_length),
    dtype=dtype,
  )
  _check_attention(facts)
  stored = parameters.Stored(files.path(model_dir) / 'checkpoints' / str(facts.step))
  write(facts, source.vocabulary, stored, place, shard_bytes)
  return card.summary(facts, str(place))


def write(
  facts: Facts, vocabulary: seqio.Vocabulary, stored: parameters.Stored, place: pathlib.Path, shard_bytes: int
) -> None:
  """Makes the folder, all at once.

  Args:
    facts: what is exported.
    vocabulary: the model's.
    stored: the checkpoint.
    place: a folder that is not there yet, or is empty.
    shard_bytes: of a file of weights.

  Raises:
    UserError: it cannot be written, or the checkpoint is of another model; nothing is left.
  """
  small = _small_files(facts, vocabulary)
  scratch = None
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f'.{place.name}-', dir=place.parent))
    for name, content in small.items():
      (scratch / name).write_bytes(content)
    write_weights(facts.model, stored, str(scratch), facts.dtype, shard_bytes)
    _publish(scratch, place)
  except OSError as error:
    raise files.unwritable(str(place), error) from error
  finally:
    if scratch is not None:
      shutil.rmtree(scratch, ignore_errors=True)


def _free(out: str) -> pathlib.Path:
  """The folder to make; UserError if there is something already."""
  if files.is_remote(out):
    raise UserError(f'--out={out} is in a bucket; export to a disk and copy the folder.')
  place = pathlib.Path(os.path.abspath(os.path.expanduser(out)))
  if place.exists() and not place.is_dir():
    raise UserError(f'--out={out} is a file; name a folder that is not there yet.')
  if place.exists() and any(place.iterdir()):
    raise UserError(f'--out={out} is not empty; name a folder that is not there yet.')
  return place


def _publish(scratch: pathlib.Path, place: pathlib.Path) -> None:
  """Moves the whole folder to its place, readable as the user's other files are."""
  umask = os.umask(0)
  os.umask(umask)
  scratch.chmod(0o777 & ~umask)
  os.replace(scratch, place)  # over an empty folder too, and over no other


def _check_attention(facts: Facts) -> None:
  if facts.attention.table is not None:
    raise UserError(
      f'{type(facts.objective).__name__} has an attention rule by groups of tokens, which a text alone does not say: '
      'it cannot be exported.'
    )


def write_weights(model: DecoderConfig, stored: parameters.Stored, folder: str, dtype: str, shard_bytes: int) -> None:
  """Writes all tensors, one stored part of one parameter in memory at a time.

  Args:
    model: with its vocabulary's size.
    stored: the checkpoint.
    folder: an empty one.
    dtype: of the weights.
    shard_bytes: of a file.

  Raises:
    UserError: the checkpoint is of another model.
    OSError: there is no room.
  """
  found = llama.tensors(model)
  shapes, _ = _shapes(model)
  leaves = {leaf: stored.open(leaf) for leaf in dict.fromkeys(tensor.leaf for tensor in found)}
  for leaf, opened in leaves.items():
    if opened.shape != shapes[leaf]:
      raise UserError(
        f'The checkpoint has {".".join(leaf)} of the shape {list(opened.shape)}; this model has {list(shapes[leaf])}.'
      )
  writer = safetensors.Writer(folder, {tensor.name: tensor.shape for tensor in found}, _DTYPES[dtype], shard_bytes)
  for leaf, opened in leaves.items():
    mine = [tensor for tensor in found if tensor.leaf == leaf]
    for where, values in opened.parts():
      for tensor in mine:
        _fill(writer, tensor, where, values)


def _shapes(model: DecoderConfig) -> tuple[dict[tuple[str, ...], tuple[int, ...]], Any]:
  """The parameters' shapes by path."""
  boxed = jax.eval_shape(lambda: state_lib.init_params(Decoder(model), jax.random.key(0)))
  tree = state_lib.unboxed(boxed)
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {tuple(part.key for part in path): shape.shape for path, shape in leaves}, tree


def _fill(writer: safetensors.Writer, tensor: llama.Tensor, where: tuple[slice, ...], values: np.ndarray) -> None:
  """Writes what a stored part holds of a tensor, if anything."""
  target, source = [], []
  for index, part in zip(tensor.index, where, strict=True):
    if isinstance(index, slice):
      target.append(part)
      source.append(slice(None))
    elif part.start <= index < part.stop:
      source.append(index - part.start)
    else:
      return
  piece = values[tuple(source)]
  if tensor.scale != 1.0:
    piece = piece * np.asarray(tensor.scale, piece.dtype)  # as the decoder does it
  with writer.open(tensor.name) as array:
    tensor.ours(array)[tuple(target)] = piece


def _small_files(facts: Facts, vocabulary: seqio.Vocabulary) -> dict[str, bytes]:
  """All but the weights, by name."""
  special, model = vocabularies.special_tokens(vocabulary), facts.model
  about = {
    'objective': repr(facts.objective),
    'step': facts.step,
    'attention': card.attention(facts),
    'compute_dtype': model.dtype,
  }
  ids = {'bos_token_id': special.bos, 'eos_token_id': special.eos, 'pad_token_id': special.pad}
  shape = llama.fields(model, facts.length, facts.dtype)
  result: dict[str, Any] = {}
  if facts.is_causal_lm:
    kind = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama'}
    result['generation_config.json'] = ids
  else:
    layers = range(model.num_layers)
    kind = {
      'architectures': ['UnmaskForMaskedLM'],
      'model_type': 'unmask',
      'auto_map': {
        'AutoConfig': 'modeling_unmask.UnmaskConfig',
        'AutoModelForMaskedLM': 'modeling_unmask.UnmaskForMaskedLM',
      },
      'causal_layers': [facts.attention.ordered_in(layer, model.num_layers) for layer in layers],
      'causal_block': facts.attention.block,
      'prediction_shift': facts.objective.shift,
      'mask_token_id': special.mask,
    }
    shape['hidden_act'] = NOT_CAUSAL
  result['config.json'] = {**kind, **shape, **ids, 'unmask': about}
  dumped = {name: json.dumps(value, indent=2).encode() + b'\n' for name, value in result.items()}
  if not facts.is_causal_lm:
    dumped[_CLASSES] = (pathlib.Path(__file__).parent / _CLASSES).read_bytes()
  named = lambda token: tokenizer.name(vocabulary, token)
  dumped['README.md'] = card.text(facts, facts.objective.embedding(special), named).encode()
  return dumped | tokenizer.files(vocabulary, facts.length)
