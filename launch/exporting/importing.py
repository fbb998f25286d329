"""What stands between somebody else's model and `unmask train`: a gin file, and a vocabulary with the reserved ids."""

import dataclasses
import os

from ... import UserError
from ...models.config import DecoderConfig
from ...tasks import reserving, vocabularies
from .. import files
from ..initial import OfLlama
from . import llama

_FIELDS = (*llama.SHAPE, 'embedding_scale')


def write_gin(folder: str, vocabulary_file: str | None, out: str) -> str:
  """Writes a gin file that binds a decoder's shape and its first weights; returns what to tell of it.

  Args:
    folder: of the weights.
    vocabulary_file: their vocabulary with the reserved ids; None takes 'tokenizer.model' in the folder.
    out: the file; it must not be there yet.

  Raises:
    UserError: nothing was written.
  """
  folder = os.path.abspath(os.path.expanduser(folder))
  found = OfLlama(folder)
  path = _vocabulary(folder, vocabulary_file)
  vocabulary = vocabularies.from_file(path)
  found.check_vocabulary(vocabulary)
  rows = max(found.model.vocab_size or 0, -(-vocabulary.vocab_size // 128) * 128)
  model = dataclasses.replace(found.model, vocab_size=rows)
  _write(out, _gin(model, folder, path, out).encode())
  more = f', {rows - (found.model.vocab_size or 0)} of them new' if rows > (found.model.vocab_size or 0) else ''
  values = llama.sizes(llama.tensors(found.model))
  return (
    f'{out}: a decoder of {model.num_layers} layers of width {model.embed_dim}, {values:,} weights, {rows:,} rows of '
    f'ids{more}\n  unmask train --gin_file=gin/runs/pretrain.gin --gin_file=gin/tasks/local_text.gin '
    f"--gin.TEXT_PATTERN='corpus/*.txt' --gin_file={out} --gin_file=gin/objectives/mlm.gin --gin.MODEL_DIR=runs/mine"
  )


def _vocabulary(folder: str, given: str | None) -> str:
  if given is not None:
    return os.path.abspath(os.path.expanduser(given))
  for name in ('tokenizer.model', 'tokenizer.json'):
    if os.path.exists(path := os.path.join(folder, name)):
      return path
  raise UserError(f'There is no tokenizer.model in {folder}: name the vocabulary of the weights by --vocabulary.')


def _gin(model: DecoderConfig, folder: str, vocabulary: str, out: str) -> str:
  lines = [
    f'# A decoder that begins with the weights in {folder}, to be given after the files of a run and a task:',
    f'#   unmask train --gin_file=gin/runs/pretrain.gin --gin_file=gin/tasks/local_text.gin --gin_file={out} ...',
    'from __gin__ import dynamic_registration',
    'from unmask.launch import loop',
    'from unmask.models import config',
    'from unmask.tasks import text_task',
    '',
    'MODEL = @config.DecoderConfig()',
  ]
  named = {name: getattr(model, name) for name in ('vocab_size', *_FIELDS)}
  lines += [f'config.DecoderConfig.{name} = {value!r}' for name, value in named.items() if value is not None]
  lines += [
    'config.DecoderConfig.scan_unroll = 1',  # of the file it overrides
    f'loop.train.initial_weights = {folder!r}',
    f'text_task.TextTask.vocabulary_file = {vocabulary!r}',
  ]
  return '\n'.join(lines) + '\n'


def convert_vocabulary(path: str, out: str, append: bool) -> str:
  """Writes a vocabulary with the reserved ids; returns what to tell of it.

  Args:
    path: a SentencePiece model or a tokenizer.json.
    out: the file; it must not be there yet.
    append: whether new ids may be added.

  Raises:
    UserError: nothing was written.
  """
  try:
    with open(os.path.expanduser(path), 'rb') as file:
      content = file.read()
  except OSError as error:
    raise UserError(f'Cannot read {path}: {files.reason(error)}.') from error
  is_json = content.lstrip()[:1] == b'{'
  if out.endswith('.json') != is_json:
    raise UserError(f'--out={out} should end with {".json" if is_json else ".model"}, as its kind does.')
  done = reserving.convert(content, path, append)
  if not done.taken and not done.added:
    return f'{path} has the reserved ids already; use it as it is.'
  _write(out, done.content)
  shown = [f'  {token:>7}  {before} -> {name}' for token, before, name in done.taken]
  shown += [f'  {token:>7}  {name} (new)' for token, name in done.added]
  new = f'{len(done.added)} new ones behind its {done.size:,}' if done.added else 'its size unchanged'
  return '\n'.join([f'{out}: {len(done.taken)} ids that were to spare have names, {new}', *shown])


def _write(out: str, content: bytes) -> None:
  path = os.path.abspath(os.path.expanduser(out))
  if os.path.exists(path):
    raise UserError(f'{out} is there already; name another file.')
  if not os.path.isdir(os.path.dirname(path)):
    raise UserError(f'{out} cannot be written: there is no folder {os.path.dirname(path)}.')
  files.write_atomically(files.path(path), content)
