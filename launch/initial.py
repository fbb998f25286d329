"""The weights that a run begins with, where they are not random: another run's, or those of a Llama.

Continued pretraining under another objective (Should We Still Pretrain Encoders with MLM?, arXiv 2507.00994) is this:
the decoder, its shape and its vocabulary are the same, and what is corrupted, seen and scored is another. The optimizer
begins anew.
"""

import json
import os
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
import seqio
from jax.sharding import Mesh

from .. import UserError
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..tasks import vocabularies
from ..tasks.hugging_face import HuggingFaceVocabulary, names
from ..tasks.pipeline import Source
from . import files, frozen, identity
from . import state as state_lib
from .checkpoints import Checkpoints
from .exporting import llama, safetensors
from .program import Program


class Weights(Protocol):
  """Where parameters come from."""

  def params(self, decoder: Decoder, mesh: Mesh, seed: int) -> dict:
    """The parameters on a mesh."""


def given(
  folder: str | None, model: DecoderConfig, source: Source, say: Callable[[str], None] = print
) -> Weights | None:
  """The weights in a folder, held against the model and the vocabulary; None for None.

  Args:
    folder: see the module.
    model: with its vocabulary's size.
    source: whose vocabulary the weights must be for.
    say: gets a line if that cannot be seen.

  Raises:
    UserError: there are none, or they do not fit; names what differs.
  """
  if folder is None:
    return None
  place = files.path(os.path.expanduser(folder))
  if (place / 'checkpoints').is_dir():
    return _OfRun(folder, model, source)
  if not (place / 'config.json').exists():
    raise UserError(
      f'initial_weights={folder!r} holds no weights: it is a MODEL_DIR, or a folder with the config.json and the '
      'safetensors of a Llama.'
    )
  if files.is_remote(place):
    raise UserError(f'initial_weights={folder!r} is in a bucket; copy the folder to a disk.')
  found = OfLlama(str(place))
  found.check(model)
  found.check_vocabulary(source.vocabulary, say)
  return found


def state(program: Program, seed: int, weights: Weights | None) -> state_lib.TrainState:
  """The first state of a run. Networks beside the decoder begin anew, whatever weights the decoder begins with.

  Those that are frozen have the parameters of their own runs.
  """
  decoder, mesh, beside = program.decoder, program.mesh, program.beside
  if weights is None:
    first = state_lib.create(decoder, program.optimizer, mesh, seed, beside)
  else:
    params = weights.params(decoder, mesh, seed)
    if beside:
      params = {**params, **state_lib.create_beside(decoder, mesh, seed, beside)}
    first = state_lib.of_params(params, decoder, program.optimizer, mesh, beside)
  return first.replace(params=first.params | frozen.params(program))


class _OfRun:
  """The newest sound checkpoint of another run."""

  def __init__(self, folder: str, model: DecoderConfig, source: Source):
    self._folder = folder
    try:
      facts = identity.of_other(folder)
    except UserError as error:
      raise UserError(f'initial_weights={folder!r}: {error}.') from error
    known = [name for name in (*llama.SHAPE, 'embedding_scale', 'vocab_size') if name in facts]
    other = [
      f'{name} is {getattr(model, name)} and the weights have {facts[name]}'
      for name in known
      if facts[name] != getattr(model, name)
    ]
    if facts.get('vocabulary') not in (None, vocabularies.fingerprint(source.vocabulary)):
      other.append('they were trained with another vocabulary')
    if other:
      raise UserError(f'initial_weights={folder!r} does not fit: {"; ".join(other)}.')

  def params(self, decoder: Decoder, mesh: Mesh, seed: int) -> dict:
    """See `Weights.params`."""
    del seed
    saved = Checkpoints(self._folder)
    _, params = saved.restore_params(*state_lib.params_and_shardings(decoder, mesh))
    saved.close()
    return params


class OfLlama:
  """A folder of Hugging Face's with a Llama's weights.

  Attributes:
    model: its shape, and as many ids as its tables have rows.
  """

  def __init__(self, folder: str):
    """UserError if it is no Llama that the decoder can be, or not whole."""
    self._folder = folder
    path = os.path.join(folder, 'config.json')
    try:
      with open(path) as file:
        fields = dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f'{path} cannot be read ({error}).') from error
    self.model = llama.decoder(fields, path)
    self._reader = safetensors.Reader(folder)
    self._tensors = llama.tensors(self.model)
    self._check_tensors()

  def _check_tensors(self) -> None:
    shapes = dict(self._reader.shapes)
    if llama.is_tied(self.model):
      shapes.pop('lm_head.weight', None)  # some writers keep both names of the one table
    wanted = {tensor.name: tensor.shape for tensor in self._tensors}
    problems = [f'{name} is missing' for name in wanted if name not in shapes]
    problems += [f'{name} is not of a Llama' for name in shapes if name not in wanted and 'rotary_emb' not in name]
    problems += [
      f'{name} has the shape {list(shapes[name])} instead of {list(shape)}'
      for name, shape in wanted.items()
      if shapes.get(name, shape) != shape
    ]
    if problems:
      more = f', and {len(problems) - 3} more' if len(problems) > 3 else ''
      raise UserError(f'The weights in {self._folder} do not fit their config.json: {"; ".join(problems[:3])}{more}.')

  def check(self, model: DecoderConfig) -> None:
    """Raises UserError naming what of a model's shape the weights contradict."""
    if other := llama.differences(model, self.model):
      raise UserError(
        f'DecoderConfig does not fit the weights in {self._folder}: {"; ".join(other)}. '
        '`unmask import` writes a gin file that does.'
      )

  def check_vocabulary(self, vocabulary: seqio.Vocabulary, say: Callable[[str], None] = print) -> None:
    """Raises UserError where an ordinary id has another piece than in the tokenizer beside the weights."""
    theirs, ours = pieces_beside(self._folder), _pieces_of(vocabulary)
    if theirs is None or ours is None:
      say(f'no tokenizer in {self._folder} that the vocabulary could be held against')
      return
    low, high = vocabularies.special_tokens(vocabulary).text
    for token in range(low, high):
      if theirs(token) != ours(token):
        raise UserError(
          f'The vocabulary is not that of the weights in {self._folder}: id {token} is {ours(token)!r} here and '
          f'{theirs(token)!r} there. Set TextTask.vocabulary_file to theirs (converted by unmask convert-vocab).'
        )

  def params(self, decoder: Decoder, mesh: Mesh, seed: int) -> dict:
    """The parameters on a mesh, a part of one of them at a time; rows that the tables have not are drawn.

    Such rows, of reserved ids, are normal with the mean and standard deviation of each column of the others: so
    they are unlike each other and as likely as others, as Hewitt shows (Initializing New Word Embeddings for Pretrained
    Language Models, 2021).
    """
    shapes, shardings = state_lib.params_and_shardings(decoder, mesh)

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct, sharding: jax.sharding.NamedSharding) -> jax.Array:
      names = tuple(part.key for part in path)
      mine = [tensor for tensor in self._tensors if tensor.leaf == names]
      read = lambda where: self._part(mine, shape, where, seed)
      return jax.make_array_from_callback(shape.shape, sharding, read)

    return jax.tree_util.tree_map_with_path(leaf, shapes, shardings)

  def _part(self, mine: list[llama.Tensor], shape: jax.ShapeDtypeStruct, where: Any, seed: int) -> np.ndarray:
    """The part `where` of a parameter."""
    where = tuple(slice(*part.indices(size)) for part, size in zip(where, shape.shape, strict=True))
    result = np.empty([part.stop - part.start for part in where], shape.dtype)
    for tensor in mine:
      value = tensor.ours(self._reader.read(tensor.name))
      if value.shape[0] < shape.shape[0] and value.ndim == len(shape.shape):  # a table with fewer rows
        value = self._grown(tensor.name, shape.shape[0], seed)
      target: list[int | slice] = []
      source: list[slice] = []
      for index, part in zip(tensor.index, where, strict=True):
        if isinstance(index, slice):
          target.append(slice(None))
          source.append(part)
        elif part.start <= index < part.stop:
          target.append(index - part.start)
        else:
          break
      else:
        result[tuple(target)] = value[tuple(source)]
    return result

  def _grown(self, name: str, rows: int, seed: int) -> np.ndarray:
    table = np.asarray(self._reader.read(name), np.float32)
    generator = np.random.default_rng([seed, rows, table.shape[0], len(name)])
    drawn = generator.standard_normal((rows - table.shape[0], table.shape[1]), np.float32)
    return np.concatenate([table, drawn * table.std(axis=0) + table.mean(axis=0)])


def pieces_beside(folder: str) -> Callable[[int], str | None] | None:
  """The names of the ids of a tokenizer that lies beside weights; None if there is none that can be read."""
  path = os.path.join(folder, 'tokenizer.json')
  try:
    if os.path.exists(path):
      with open(path, 'rb') as file:
        return names(json.load(file)).get
    path = os.path.join(folder, 'tokenizer.model')
    if os.path.exists(path):
      return _pieces_of(vocabularies.sentencepiece_vocabulary(path))
  except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError):
    pass
  return None


def _pieces_of(vocabulary: seqio.Vocabulary) -> Callable[[int], str | None] | None:
  if isinstance(vocabulary, HuggingFaceVocabulary):
    return vocabulary.names.get
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    processor = vocabulary.tokenizer
    return lambda token: processor.id_to_piece(token) if token < processor.vocab_size() else None
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return lambda token: f'<0x{token - 3:02X}>' if 3 <= token < 259 else None
  return None
