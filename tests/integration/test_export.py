"""Exported models, as the real transformers loads them: the same logits and ids, or a refusal."""

import dataclasses
import json
import os
import pathlib
import random
import re
import shutil

import exports
import jax
import numpy as np
import pytest
import seqio
import test_gin_files
from unmask.launch import cli, networks, state
from unmask.launch.exporting import hugging_face, safetensors, tokenizer
from unmask.launch.step import hidden_states
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import AttentionSpec
from unmask.objectives.bottleneck import Bottleneck
from unmask.objectives.causal_masked import CausalMasked
from unmask.objectives.dup_mae import DupMAE
from unmask.objectives.masked_diffusion import MaskedDiffusion
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.meap import MEAP
from unmask.objectives.mixture import Mixture
from unmask.objectives.next_token import NextToken
from unmask.objectives.prefix_lm import PrefixLM
from unmask.objectives.span_corruption import SpanCorruption
from unmask.objectives.stages import Stages
from unmask.tasks import vocabularies


@pytest.fixture(scope='module')
def vocabulary(default_source):
  return default_source.vocabulary


def _ids(model: DecoderConfig, rows: int = 3, length: int = 17) -> np.ndarray:
  ids = np.random.default_rng(1).integers(0, model.vocab_size, (rows, length))
  ids[:, 0] = 2
  return ids.astype(np.int32)


def _logits(transformers, folder, ids, out, **how):
  loaded = transformers.ask('logits', folder=folder, ids=ids.tolist(), out=out, **how)
  assert loaded['problems'] == []
  return np.load(out), loaded


@pytest.mark.parametrize(
  ('shape', 'objective', 'dtype'),
  [
    ({'tied_embeddings': True}, NextToken(), 'float32'),
    ({'tied_embeddings': True, 'embedding_scale': 1.0}, MEAP(), 'float32'),
    ({'tied_embeddings': False}, CausalMasked(), 'float32'),
    ({'tied_embeddings': False, 'num_kv_heads': 6, 'param_dtype': 'bfloat16'}, NextToken(), 'bfloat16'),
    ({'tied_embeddings': False, 'num_kv_heads': 1}, NextToken(), 'bfloat16'),
  ],
  ids=lambda value: None if isinstance(value, dict) else str(value).split('(')[0],
)
def test_causal_models_are_llamas(shape, objective, dtype, transformers, vocabulary, tmp_path):
  model = DecoderConfig(**exports.SHAPE | shape).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  facts = exports.facts(model, objective, vocabulary, dtype)
  hugging_face.write(facts, vocabulary, stored, tmp_path / 'out', 1_000_000)
  assert len(list((tmp_path / 'out').glob('model-*.safetensors'))) > 1
  ids = _ids(model)
  ours = exports.our_logits(dataclasses.replace(model, dtype='float32'), params, objective, ids)
  for kind in ('causal', 'llama')[: 1 + (dtype == 'float32')]:
    theirs, loaded = _logits(transformers, tmp_path / 'out', ids, tmp_path / 'logits.npy', kind=kind)
    assert (loaded['class'], loaded['dtype']) == ('LlamaForCausalLM', f'torch.{dtype}')
    if dtype == 'float32':
      np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())
    else:  # products too are in bfloat16 there
      assert 0 < np.abs(theirs - ours).max() < 0.05 * np.abs(ours).max()
  assert facts.is_rounded == (model.param_dtype != dtype)
  assert ('rounded to bfloat16' in (tmp_path / 'out' / 'README.md').read_text()) == facts.is_rounded


@pytest.mark.parametrize(('attention', 'shifted'), [(False, False), (False, True), ((True, False, True), False)])
def test_models_that_are_not_causal_have_a_class_of_their_own(attention, shifted, transformers, vocabulary, tmp_path):
  objective = MaskedLM(attention=AttentionSpec(ordered=attention), shifted=shifted)
  model = DecoderConfig(**exports.SHAPE, tied_embeddings=not shifted).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  ids = _ids(model)
  real = np.ones_like(ids)
  real[1, 11:] = 0
  ours = exports.our_logits(model, params, objective, ids, real)
  if shifted:
    ours = np.concatenate([np.zeros_like(ours[:, :1]), ours[:, :-1]], axis=1)
  theirs, loaded = _logits(
    transformers, tmp_path / 'out', ids, tmp_path / 'logits.npy', kind='masked', mask=real.tolist()
  )
  assert loaded['class'] == 'UnmaskForMaskedLM'
  seen = real[:, :, None] > 0
  np.testing.assert_allclose(theirs * seen, ours * seen, atol=2e-5 * np.abs(ours).max())
  for case, answer in transformers.ask('refused', folder=tmp_path / 'out').items():
    assert answer.startswith('refused'), (case, answer)
    assert 'causal' in answer or 'trust_remote_code' in answer or 'Unrecognized configuration' in answer
  readme = (tmp_path / 'out' / 'README.md').read_text()
  assert 'not a causal model' in readme
  assert ('MNTP' in readme) == shifted


def test_blocks_leave_with_the_model(transformers, vocabulary, tmp_path):
  objective = MaskedDiffusion(attention=AttentionSpec(ordered=True, block=5))
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  ids = _ids(model)
  theirs, _ = _logits(transformers, tmp_path / 'out', ids, tmp_path / 'logits.npy', kind='masked')
  ours = exports.our_logits(model, params, objective, ids)
  np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())
  assert 'In every layer, inside blocks of the text, a position' in (tmp_path / 'out' / 'README.md').read_text()


def _vocabulary(kind: str, pieces):
  """One trained here, or one of seqio's, whose last ids are reserved."""
  if kind == 'pieces':
    return pieces
  if kind == 'bytes':
    return vocabularies.byte_vocabulary()
  model = pathlib.Path(seqio.__file__).parent / 'test_data' / 'sentencepiece' / 'sentencepiece.model'
  return seqio.SentencePieceVocabulary(str(model), extra_ids=40)


@pytest.mark.parametrize('specials', [1, 3])
@pytest.mark.parametrize('kind', ['pieces', 'bytes', 'extra ids'])
def test_vectors_leave_with_the_model(kind, specials, transformers, vocabulary, tmp_path):
  """What the README has one write are the special tokens, and their states are ours under the bottleneck's rule."""
  objective, vocabulary = Bottleneck(specials=specials), _vocabulary(kind, vocabulary)
  special = vocabularies.special_tokens(vocabulary)
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  readme = (tmp_path / 'out' / 'README.md').read_text()
  (written,) = re.findall(r'`(<special:.*?>)`', readme)
  assert written == ''.join(f'<special:{6 + k}>' for k in range(specials))
  (tmp_path / 'texts').write_text(json.dumps([f'This is a text.{written}']))
  (ids,) = transformers.ask('encode', folder=tmp_path / 'out', texts=tmp_path / 'texts')
  text, marks = [special.bos, *vocabulary.encode('This is a text.')], objective.special_ids(special)
  assert ids == [*text, *marks]
  last = range(len(text), len(ids))
  masks = [[int(place < len(text) or place == mine) for place in range(len(ids))] for mine in last]
  if specials > 1:
    assert '`attention_mask` is 0 on the others' in readme
  else:
    assert '`hidden_states[-1][:, -1]`' in readme
  out = tmp_path / 'states.npy'
  assert transformers.ask('states', folder=tmp_path / 'out', ids=[ids] * specials, out=out, mask=masks) == 'LlamaModel'
  theirs = np.mean([np.load(out)[k, place] for k, place in enumerate(last)], axis=0)
  index = np.arange(len(ids))[None]
  batch = {'decoder_input_tokens': np.array([ids]), 'decoder_positions': index, 'decoder_segment_ids': index * 0 + 1}
  batch |= {'decoder_groups': (index >= len(text)).astype(np.int32)}
  ours = np.asarray(hidden_states(Decoder(model), params, batch, objective.attention))[0, len(text) :].mean(0)
  np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())


def test_the_last_token_may_be_a_text_s_vector(vocabulary, tmp_path):
  objective = DupMAE(attention=AttentionSpec(ordered=True), bottleneck='last')
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  stored = exports.save(tmp_path / 'run', model, exports.random_params(model))
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  assert 'state of `</s>`, put behind the text' in (tmp_path / 'out' / 'README.md').read_text()


def test_a_text_s_vector_leaves_with_the_model(transformers, vocabulary, tmp_path):
  """DupMAE's: the state of the first token, as the README says; the layer that rebuilt texts stays behind."""
  objective = DupMAE()
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  beside = networks.beside(objective, model)
  every = params | state.unboxed(networks.initial(beside, jax.random.key(1)))
  stored = exports.save(tmp_path / 'run', model, every, beside=beside)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  readme = (tmp_path / 'out' / 'README.md').read_text()
  assert '`hidden_states[-1][:, 0]`' in readme
  assert 'no part of this folder' in readme
  ids = _ids(model)
  asked = transformers.ask(
    'states', folder=tmp_path / 'out', ids=ids.tolist(), out=tmp_path / 'states.npy', kind='masked'
  )
  assert asked == 'UnmaskForMaskedLM'
  batch = {'decoder_input_tokens': ids, 'decoder_positions': np.broadcast_to(np.arange(17), ids.shape)}
  batch |= {'decoder_segment_ids': np.ones_like(ids)}
  ours = np.asarray(hidden_states(Decoder(model), params, batch, objective.attention))[:, 0]
  np.testing.assert_allclose(np.load(tmp_path / 'states.npy')[:, 0], ours, atol=2e-5 * np.abs(ours).max())


@pytest.mark.parametrize('several', ['mixture', 'stages'])
@pytest.mark.parametrize(('shifted', 'answers_as', 'kind'), [(True, 'masked', 'unmask'), (False, 'causal', 'llama')])
def test_of_several_objectives_the_one_that_answers_says_what_it_is(
  several, shifted, answers_as, kind, transformers, vocabulary, tmp_path
):
  """Rows of the others may be seen otherwise; a masked part that reads output i - 1 makes no causal model."""
  parts = {'masked': MaskedLM(shifted=shifted), 'causal': NextToken()}
  more = {'order': [('masked', 1), ('causal', 1)], 'steps': 8} if several == 'stages' else {}
  objective = {'mixture': Mixture, 'stages': Stages}[several](parts=parts, answers_as=answers_as, **more)
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  assert json.loads((tmp_path / 'out' / 'config.json').read_text())['model_type'] == kind
  assert ('not a causal model' in (tmp_path / 'out' / 'README.md').read_text()) == (kind == 'unmask')
  ids = _ids(model)
  ours = exports.our_logits(model, params, parts[answers_as], ids)
  if kind == 'unmask':
    ours = np.concatenate([np.zeros_like(ours[:, :1]), ours[:, :-1]], axis=1)
  how = {'unmask': 'masked', 'llama': 'causal'}[kind]
  theirs, _ = _logits(transformers, tmp_path / 'out', ids, tmp_path / 'logits.npy', kind=how)
  np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())


@pytest.mark.parametrize('objective', [PrefixLM(), SpanCorruption()], ids=lambda one: type(one).__name__)
def test_a_prefix_leaves_with_the_model(objective, transformers, vocabulary, tmp_path):
  """With a prefix the logits are ours under it; without one, those of the shortest."""
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  ids = _ids(model)
  levels = np.where(np.arange(ids.shape[1]) < np.array([[1], [6], [12]]), 0, np.arange(ids.shape[1])).astype(np.int32)
  causal = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
  for rule, given in ((levels, {'levels': levels.tolist()}), (causal, {})):
    ours = exports.our_logits(model, params, objective, ids, levels=rule)
    ours = np.concatenate([np.zeros_like(ours[:, :1]), ours[:, :-1]], axis=1)
    theirs, loaded = _logits(transformers, tmp_path / 'out', ids, tmp_path / 'logits.npy', kind='masked', **given)
    assert loaded['class'] == 'UnmaskForMaskedLM'
    np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())
  assert all(answer.startswith('refused') for answer in transformers.ask('refused', folder=tmp_path / 'out').values())
  readme = (tmp_path / 'out' / 'README.md').read_text()
  assert 'give it `levels`' in readme
  assert ('fills in spans' in readme) == isinstance(objective, SpanCorruption)


def test_causal_attention_alone_makes_no_next_token_model(transformers, vocabulary, tmp_path):
  """Output i is that of token i: a Llama with these weights would be read one token off."""
  objective = MaskedLM(attention=AttentionSpec(ordered=True))
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  stored = exports.save(tmp_path / 'run', model, exports.random_params(model))
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  assert json.loads((tmp_path / 'out' / 'config.json').read_text())['model_type'] == 'unmask'
  assert 'not a next-token model' in (tmp_path / 'out' / 'README.md').read_text()
  assert transformers.ask('saved_again', folder=tmp_path / 'out', out=tmp_path / 'again') == 0


def test_bits_do_not_depend_on_the_devices_of_the_run(vocabulary, tmp_path):
  model = DecoderConfig(**exports.SHAPE, tied_embeddings=False).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  facts = exports.facts(model, NextToken(), vocabulary)
  folders = []
  for devices in (1, 8):
    stored = exports.save(tmp_path / f'run{devices}', model, params, fsdp=devices)
    assert len(list(stored.open(('embedding',)).parts())) == devices
    folders.append(tmp_path / f'out{devices}')
    hugging_face.write(facts, vocabulary, stored, folders[-1], 10**9)
  one, eight = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
  assert one == eight
  reader = safetensors.Reader(str(folders[0]))
  np.testing.assert_array_equal(
    reader.read('model.layers.1.mlp.up_proj.weight'), params['blocks']['mlp']['gate_up'][1, :, 1].T
  )


def _odd_texts(count: int) -> list[str]:
  rng = random.Random(0)
  kept = [
    '',
    ' ',
    '   a',
    ' a',
    'a ',
    '\n\n a',
    '\t',
    '-' * 40,
    'a' * 31,
    '▁',
    '▁▁ x',
    '<0x41>',
    'e\u0301',
    '\ufeff',
    '日本語 🤷🏽‍♀️',
  ]
  some = ['the', ' ', '  ', '\n', '-', '=', '.', 'aa', '\u00a0', '1990', 'é', '\u200d']
  draw = lambda: chr(rng.choice([rng.randrange(32, 127), rng.randrange(1, 0xD000), rng.randrange(0x10000, 0x1FFFF)]))
  pieces = lambda: (rng.choice([draw(), rng.choice(some)]) for _ in range(rng.randrange(1, 40)))
  return kept + [''.join(pieces()) for _ in range(count)]


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
def test_the_tokenizer_gives_our_ids(kind, transformers, default_task, vocabulary, tmp_path):
  """Of 5,000 lines of real text and 2,000 odd ones, and back."""
  vocabulary = vocabulary if kind == 'pieces' else vocabularies.byte_vocabulary()
  lines = []
  for document in default_task.corpus.documents():
    lines += document['text'].split('\n')
    if len(lines) >= 5000:
      break
  texts = [*lines, document['text'], *_odd_texts(2000)]
  for name, content in tokenizer.files(vocabulary, 64).items():
    (tmp_path / name).write_bytes(content)
  (tmp_path / 'texts').write_text(json.dumps(texts))
  ours = [list(map(int, vocabulary.encode(text))) for text in texts]
  theirs = transformers.ask('encode', folder=tmp_path, texts=tmp_path / 'texts', add_special_tokens=False)
  different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
  assert different == []
  (tmp_path / 'ids').write_text(json.dumps(ours))
  decoded = transformers.ask('decode', folder=tmp_path, ids=tmp_path / 'ids')
  assert decoded == [vocabulary.decode(ids) for ids in ours]
  special = vocabularies.special_tokens(vocabulary)
  found = transformers.ask('tokens', folder=tmp_path)
  assert {name: found[name] for name in ('bos', 'eos', 'pad', 'mask')} == {
    'bos': special.bos,
    'eos': special.eos,
    'pad': special.pad,
    'mask': special.mask,
  }
  assert {special.end_of_span, *special.sentinels} <= set(found['all'])
  assert found['size'] == vocabulary.vocab_size


def test_special_tokens_stand_where_rows_have_them(transformers, vocabulary, tmp_path):
  for name, content in tokenizer.files(vocabulary, 64).items():
    (tmp_path / name).write_bytes(content)
  texts = ['The capital of [MASK] is Paris.', '[MASK] is', 'in <mask:0>, it is. <mask:0>']
  (tmp_path / 'texts').write_text(json.dumps(texts))
  special, encode = vocabularies.special_tokens(vocabulary), vocabulary.tokenizer.encode
  comma = encode('x,')[len(encode('x')) :]
  sentinel = special.sentinels[0]
  assert transformers.ask('encode', folder=tmp_path, texts=tmp_path / 'texts') == [
    [special.bos, *encode('The capital of'), special.mask, *encode('is Paris.')],
    [special.bos, special.mask, *encode('is')],
    [special.bos, *encode('in'), sentinel, *comma, *encode('it is.'), sentinel],
  ]


@pytest.fixture(scope='module')
def runs(default_task, tmp_path_factory) -> pathlib.Path:
  """Two trained runs."""
  folder = tmp_path_factory.mktemp('runs')
  for name in ('next_token', 'mntp'):
    files = ('gin/runs/pretrain.gin', f'gin/objectives/{name}.gin')
    assert test_gin_files.train(folder / name, *files, **test_gin_files.HOME) == 0
  return folder


def _export(model_dir, out, *more) -> int:
  return cli.main(['export', '--to=hf', f'--model_dir={model_dir}', f'--out={out}', *more])


def test_a_trained_run(runs, transformers, tmp_path, capsys):
  assert _export(runs / 'next_token', tmp_path / 'out') == 0
  assert 'LlamaForCausalLM' in capsys.readouterr().out
  written = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert (written['model_type'], written['architectures']) == ('llama', ['LlamaForCausalLM'])
  assert oct((tmp_path / 'out').stat().st_mode)[-3:] == oct(0o777 & ~_umask())[-3:]
  assert sorted(path.name for path in tmp_path.iterdir()) == ['out']
  assert _export(runs / 'mntp', tmp_path / 'masked', '--step=2', '--dtype=bfloat16') == 0
  said = capsys.readouterr().out
  assert 'AutoModelForMaskedLM' in said
  assert 'rounded' in said
  found = transformers.ask('fill_mask', folder=tmp_path / 'masked', text='The United [MASK] of America')
  assert len(found) == 3


def _umask() -> int:
  umask = os.umask(0)
  os.umask(umask)
  return umask


@pytest.mark.parametrize(
  ('more', 'sign'),
  [
    (['--step=1'], 'no checkpoint 1'),
    (['--max_shard_size=much'], 'is no size'),
    (['--gin.MaskedLM.rate=0.3'], 'MaskedLM'),
    (['--gin.DecoderConfig.num_layers=3'], 'another run'),
  ],
)
def test_what_cannot_be_exported(more, sign, runs, tmp_path, capsys):
  assert _export(runs / 'next_token', tmp_path / 'out', *more) == 2
  assert sign in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(runs, tmp_path, capsys):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'mine').write_text('precious')
  assert _export(runs / 'next_token', tmp_path / 'out') == 2
  assert 'not empty' in capsys.readouterr().err
  assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine']


def test_a_damaged_checkpoint_is_refused(runs, tmp_path, capsys):
  shutil.copytree(runs / 'next_token', tmp_path / 'run')
  largest = max((tmp_path / 'run' / 'checkpoints').rglob('*'), key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(content)
  assert _export(tmp_path / 'run', tmp_path / 'out') == 2
  assert 'damaged' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()
