"""Weights of a Llama, as transformers saves them, as the start of a run; and out again, to the bit."""

import dataclasses
import json
import pathlib
import shutil

import exports
import jax
import numpy as np
import pytest
import test_gin_files
from unmask import UserError
from unmask.launch import cli, initial, mesh
from unmask.launch.exporting import hugging_face, llama, safetensors, tokenizer
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.next_token import NextToken
from unmask.tasks import vocabularies

LLAMA = {
  'vocab_size': 8192,
  'hidden_size': 48,
  'intermediate_size': 56,
  'num_hidden_layers': 3,
  'num_attention_heads': 6,
  'num_key_value_heads': 2,
  'head_dim': 10,
  'rms_norm_eps': 2e-5,
  'rope_parameters': {'rope_type': 'default', 'rope_theta': 5000.0},
}


@pytest.fixture(scope='module')
def saved(transformers, tmp_path_factory) -> pathlib.Path:
  """A sharded Llama in float32 with untied tables."""
  folder = tmp_path_factory.mktemp('llama')
  names = transformers.ask('make_llama', folder=folder, shard='900KB', **LLAMA)
  assert sum(name.endswith('.safetensors') for name in names) > 1
  return folder


def _tensors(folder) -> dict[str, np.ndarray]:
  reader = safetensors.Reader(str(folder))
  return {name: np.asarray(reader.read(name)) for name in reader.shapes}


def _params(found: initial.OfLlama, model: DecoderConfig, devices: int = 1, seed: int = 0) -> dict:
  on = mesh.MeshConfig(fsdp=devices).build(jax.devices()[:devices])
  return jax.tree.map(np.asarray, found.params(Decoder(model), on, seed))


@pytest.mark.parametrize(('tied', 'dtype'), [(True, 'float32'), (False, 'bfloat16')])
def test_logits_and_tensors_are_theirs(tied, dtype, transformers, default_source, tmp_path):
  """Read, run, and written again."""
  transformers.ask('make_llama', folder=tmp_path / 'in', dtype=dtype, tie_word_embeddings=tied, **LLAMA)
  found = initial.OfLlama(str(tmp_path / 'in'))
  assert (found.model.tied_embeddings, found.model.rope_theta, found.model.norm_epsilon) == (tied, 5000.0, 2e-5)
  model = found.model if dtype == 'float32' else dataclasses.replace(found.model, param_dtype=dtype)
  params = _params(found, model)
  ids = np.random.default_rng(0).integers(0, 8192, (2, 15)).astype(np.int32)
  if dtype == 'float32':
    transformers.ask('logits', folder=tmp_path / 'in', ids=ids.tolist(), out=tmp_path / 'logits.npy', kind='llama')
    ours = exports.our_logits(model, params, NextToken(), ids)
    np.testing.assert_allclose(np.load(tmp_path / 'logits.npy'), ours, atol=2e-5 * np.abs(ours).max())
  stored = exports.save(tmp_path / 'run', model, params)
  vocabulary = default_source.vocabulary
  hugging_face.write(exports.facts(model, NextToken(), vocabulary, dtype), vocabulary, stored, tmp_path / 'out', 10**9)
  before, after = _tensors(tmp_path / 'in'), _tensors(tmp_path / 'out')
  assert before.keys() == after.keys()
  assert ('lm_head.weight' in after) != tied
  for name, tensor in before.items():
    assert tensor.dtype == after[name].dtype
    assert tensor.tobytes() == after[name].tobytes(), name


def test_every_mesh_reads_the_same_and_new_rows_are_like_the_others(saved):
  found = initial.OfLlama(str(saved))
  model = dataclasses.replace(found.model, vocab_size=8320)
  one, eight, other = _params(found, model), _params(found, model, devices=8), _params(found, model, seed=1)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
    np.testing.assert_array_equal(a, b)
  theirs = _tensors(saved)['model.embed_tokens.weight']
  new = one['embedding'][8192:]
  np.testing.assert_array_equal(one['embedding'][:8192], theirs)
  np.testing.assert_allclose(new.std(axis=0), theirs.std(axis=0), rtol=0.4)
  assert len(np.unique(new, axis=0)) == 128
  assert (other['embedding'][8192:] != new).any()
  assert (one['output'][8192:] != new).any()


def _with(folder, source, **fields) -> pathlib.Path:
  shutil.copytree(source, folder)
  config = json.loads((folder / 'config.json').read_text()) | fields
  (folder / 'config.json').write_text(json.dumps(config))
  return folder


@pytest.mark.parametrize(
  ('fields', 'sign'),
  [
    ({'model_type': 'mistral'}, "type 'mistral'"),
    ({'hidden_act': 'gelu'}, "hidden_act='gelu'"),
    ({'attention_bias': True}, 'attention_bias=True'),
    ({'mlp_bias': True}, 'mlp_bias=True'),
    ({'rope_parameters': {'rope_type': 'llama3', 'factor': 8.0, 'rope_theta': 5e5}}, "'rope_type': 'llama3'"),
    ({'rope_scaling': {'type': 'linear', 'factor': 2.0}}, "rope_scaling={'type': 'linear'"),
    ({'num_hidden_layers': 4}, 'model.layers.3.input_layernorm.weight is missing'),
    ({'num_hidden_layers': 2}, 'model.layers.2.input_layernorm.weight is not of a Llama'),
    ({'intermediate_size': 60}, r'mlp.gate_proj.weight has the shape \[56, 48\] instead of \[60, 48\]'),
    ({'vocab_size': None}, 'does not say vocab_size'),
    ({'quantization_config': {'bits': 4}}, 'quantization_config'),
  ],
)
def test_what_cannot_be_read_is_named(fields, sign, saved, tmp_path):
  with pytest.raises(UserError, match=sign):
    initial.OfLlama(str(_with(tmp_path / 'in', saved, **fields)))


@pytest.mark.parametrize('damage', ['cut', 'gone', 'index', 'header'])
def test_damaged_files_are_named(damage, saved, tmp_path):
  shutil.copytree(saved, tmp_path / 'in')
  file = sorted((tmp_path / 'in').glob('*.safetensors'))[1]
  index = tmp_path / 'in' / safetensors.INDEX
  if damage == 'cut':
    file.write_bytes(file.read_bytes()[:-1])
  elif damage == 'gone':
    file.unlink()
  elif damage == 'index':
    index.write_text(index.read_text().replace(file.name, f'../{file.name}'))
  else:
    file.write_bytes(b'\xff' * 8 + file.read_bytes()[8:])
  with pytest.raises(UserError, match=r'not a file beside|no whole file|is missing'):
    initial.OfLlama(str(tmp_path / 'in'))


@pytest.mark.parametrize(
  ('field', 'value'),
  [('rope_theta', 1e4), ('norm_epsilon', 1e-5), ('vocab_size', 8064), ('num_kv_heads', 3), ('embedding_scale', 2.0)],
)
def test_a_decoder_of_another_shape_is_named(field, value, saved):
  found = initial.OfLlama(str(saved))
  found.check(found.model)
  with pytest.raises(UserError, match=f'{field} is {value}'):
    found.check(dataclasses.replace(found.model, **{field: value}))


def test_another_vocabulary_is_named(saved, default_source, tmp_path):
  folder = _with(tmp_path / 'in', saved)
  found = initial.OfLlama(str(folder))
  for name, content in tokenizer.files(default_source.vocabulary, 64).items():
    (folder / name).write_bytes(content)
  found.check_vocabulary(default_source.vocabulary)
  with pytest.raises(UserError, match="id 3 is '<0x00>' here and '<unk>' there"):
    found.check_vocabulary(vocabularies.byte_vocabulary())


def test_sizes_are_counted_once():
  model = DecoderConfig(**exports.SHAPE, tied_embeddings=False, vocab_size=100)
  params = exports.random_params(model)
  assert llama.sizes(llama.tensors(model)) == sum(x.size for x in jax.tree.leaves(params))


def _train(model_dir, small_text, *files, **more) -> int:
  """On a small text, with updates of size 0."""
  shape = {name: value for name, value in test_gin_files.SHRINK.items() if not name.startswith('DecoderConfig')}
  still = {'TRAIN_STEPS': 1, 'EVAL_PERIOD': 0, 'LEARNING_RATE': 0.0, 'TEXT_PATTERN': small_text}
  given = shape | still | {'MODEL_DIR': model_dir, 'DATA_DIR': model_dir.parent / 'data'} | more
  argv = [f'--gin_file={file}' for file in ('gin/runs/pretrain.gin', 'gin/tasks/local_text.gin', *files)]
  return cli.main(['train', *argv, *(f'--gin.{name}={value}' for name, value in given.items())])


def test_from_a_folder_to_a_folder(saved, small_text, default_source, tmp_path, capsys):
  """import, train (masked), export: the weights are those that came, where updates are of size 0. Then another run
  begins with that run's, under another objective.
  """
  folder = _with(tmp_path / 'in', saved)
  for name, content in tokenizer.files(default_source.vocabulary, 64).items():
    (folder / name).write_bytes(content)
  gin = tmp_path / 'llama.gin'
  assert cli.main(['import', '--from=hf', f'--dir={folder}', f'--write={gin}']) == 0
  assert _train(tmp_path / 'masked', small_text, gin, 'gin/objectives/mlm.gin') == 0
  assert cli.main(['export', '--to=hf', f'--model_dir={tmp_path / "masked"}', f'--out={tmp_path / "out"}']) == 0
  before, after = _tensors(folder), _tensors(tmp_path / 'out')
  assert before.keys() == after.keys()
  assert all(before[name].tobytes() == after[name].tobytes() for name in before)

  again = {'train.initial_weights': tmp_path / 'masked'}
  assert _train(tmp_path / 'causal', small_text, gin, 'gin/objectives/next_token.gin', **again) == 0
  assert cli.main(['export', '--to=hf', f'--model_dir={tmp_path / "causal"}', f'--out={tmp_path / "llama"}']) == 0
  assert all(before[name].tobytes() == tensor.tobytes() for name, tensor in _tensors(tmp_path / 'llama').items())
  capsys.readouterr()
  # The same directory with other weights, weights that do not fit, and none at all.
  assert _train(tmp_path / 'causal', small_text, gin, 'gin/objectives/next_token.gin') == 2
  assert 'initial_weights' in capsys.readouterr().err
  narrow = {'DecoderConfig.mlp_dim': 64, **again}
  assert _train(tmp_path / 'other', small_text, gin, 'gin/objectives/next_token.gin', **narrow) == 2
  assert 'mlp_dim is 64 and the weights have 56' in capsys.readouterr().err
  nothing = {'train.initial_weights': tmp_path}
  assert _train(tmp_path / 'other', small_text, gin, 'gin/objectives/next_token.gin', **nothing) == 2
  assert 'holds no weights' in capsys.readouterr().err
