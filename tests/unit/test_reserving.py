"""Reserved ids in somebody else's vocabulary: its text and its size stay, or it is said why they cannot."""

import json
import random

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import unmask
from unmask.launch import cli
from unmask.tasks import vocabularies

TEXTS = ['the one caf\u00e9 1990', '  two spaces ', 'abc\nabc', '\u65e5\U0001f600 -- a']


def _lines(count: int = 300) -> list[str]:
  rng = random.Random(0)
  known = [''.join(rng.choice('abcdefghijklmnopqrst') for _ in range(rng.randint(1, 7))) for _ in range(120)]
  return [
    ' '.join(rng.choice([*known, 'the', 'one', 'caf\u00e9', '1990']) for _ in range(10)) + '.' for _ in range(count)
  ]


def _foreign(folder, **more) -> str:
  """A SentencePiece model as others make them: Llama's order, no padding of its own."""
  prefix = str(folder / 'foreign')
  settings = {'model_type': 'bpe', 'vocab_size': 480, 'byte_fallback': True, 'normalization_rule_name': 'identity'}
  settings |= {'unk_id': 0, 'bos_id': 1, 'eos_id': 2, 'minloglevel': 2} | more
  sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(_lines()), model_prefix=prefix, **settings)
  return f'{prefix}.model'


def _convert(path, out, *more) -> int:
  return cli.main(['convert-vocab', f'--vocabulary={path}', f'--out={out}', *more])


def _same_text(before: str, after: str) -> None:
  one, other = (sentencepiece.SentencePieceProcessor(model_file=str(path)) for path in (before, after))
  for text in [*TEXTS, *_lines(50)]:
    assert one.encode(text) == other.encode(text)
    assert other.decode(other.encode(text)) == one.decode(one.encode(text))


@pytest.mark.parametrize(('model_type', 'size'), [('bpe', 480), ('unigram', 420)])
def test_ids_to_spare_get_names(model_type, size, tmp_path, capsys):
  spare = [f'<unused{i}>' for i in range(20)]
  path = _foreign(tmp_path, model_type=model_type, vocab_size=size, user_defined_symbols=spare)
  assert _convert(path, tmp_path / 'mine.model') == 0
  assert '<unused0> -> [MASK]' in capsys.readouterr().out
  vocabulary = vocabularies.from_file(str(tmp_path / 'mine.model'))
  assert vocabulary.vocab_size == size
  special = vocabularies.special_tokens(vocabulary)
  assert [special.mask, special.end_of_span, *special.sentinels] == list(range(3, 21))
  assert (special.pad, special.bos, special.eos, special.text) == (0, 1, 2, (23, size))
  _same_text(path, tmp_path / 'mine.model')
  assert _convert(tmp_path / 'mine.model', tmp_path / 'again.model') == 0
  assert 'already' in capsys.readouterr().out
  assert not (tmp_path / 'again.model').exists()


@pytest.mark.parametrize(('spare', 'sign'), [(0, 'has none to spare'), (7, 'has only 7 to spare')])
def test_too_few_to_spare_is_said_and_new_ones_are_added_on_request(spare, sign, tmp_path, capsys):
  path = _foreign(tmp_path, control_symbols=[f'<reserved_{i}>' for i in range(spare)])
  assert _convert(path, tmp_path / 'mine.model') == 2
  error = capsys.readouterr().err
  assert sign in error
  assert '--append' in error
  assert not (tmp_path / 'mine.model').exists()
  assert _convert(path, tmp_path / 'mine.model', '--append') == 0
  vocabulary = vocabularies.from_file(str(tmp_path / 'mine.model'))
  assert vocabulary.vocab_size == 480 + 18 - spare
  special = vocabularies.special_tokens(vocabulary)
  reserved = [special.mask, special.end_of_span, *special.sentinels]
  assert reserved == [*range(3, 3 + spare), *range(480, 480 + 18 - spare)]
  _same_text(path, tmp_path / 'mine.model')
  found = vocabularies.Encoder(vocabulary)
  (ids,) = found.encode(['the one'])
  assert special.is_text(ids).all()


def test_a_vocabulary_without_a_beginning_gets_one(tmp_path):
  path = _foreign(tmp_path, unk_id=2, pad_id=0, eos_id=1, bos_id=-1)
  assert _convert(path, tmp_path / 'mine.model', '--append') == 0
  special = vocabularies.special_tokens(vocabularies.from_file(str(tmp_path / 'mine.model')))
  assert (special.eos, special.bos) == (1, 498)


def _tokenizer(folder, spare: int):
  """A byte-level BPE as GPT-2's, with Llama 3's spare tokens."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  made = tokenizers.Tokenizer(models.BPE())
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
  )
  made.train_from_iterator(_lines(), trainer)
  names = ['<|begin_of_text|>', '<|end_of_text|>', *(f'<|reserved_special_token_{i}|>' for i in range(spare))]
  made.add_special_tokens(names)
  path = folder / 'tokenizer.json'
  made.save(str(path))
  return path, made


def test_a_hugging_face_tokenizer(tmp_path, capsys):
  path, before = _tokenizer(tmp_path, spare=20)
  assert _convert(path, tmp_path / 'mine.json') == 0
  assert '<|reserved_special_token_0|> -> [MASK]' in capsys.readouterr().out
  vocabulary = vocabularies.from_file(str(tmp_path / 'mine.json'))
  special, size = vocabularies.special_tokens(vocabulary), before.get_vocab_size()
  assert vocabulary.vocab_size == size
  text = special.text[1]
  assert (special.pad, special.text[0], special.bos, special.eos, special.mask) == (0, 1, text, text + 1, text + 2)
  encoder = vocabularies.Encoder(vocabulary)
  for sample in TEXTS:
    ids = before.encode(sample).ids
    assert vocabulary.encode(sample) == ids
    assert vocabulary.encode_tf(sample).numpy().tolist() == ids
    (in_graph,) = tf.data.Dataset.from_tensors(sample).map(vocabulary.encode_tf)
    assert in_graph.numpy().tolist() == ids
    assert vocabulary.decode(ids) == sample
    (found,) = encoder.encode([sample])
    begins, ends = encoder.offsets(found, sample)
    assert found.tolist() == ids
    assert ends[-1] == len(sample)
    assert (np.diff(ends) >= 0).all()
    words = [sample[begin:end] for begin, end in zip(begins, ends, strict=True)]
    assert all(word == word.lstrip(' ') or not word.strip(' ') for word in words)
  assert vocabularies.decode(vocabulary, [*vocabulary.encode('the one'), special.mask]) == 'the one [MASK]'


def test_a_hugging_face_tokenizer_with_none_to_spare(tmp_path, capsys):
  path, before = _tokenizer(tmp_path, spare=0)
  assert _convert(path, tmp_path / 'mine.json') == 2
  assert 'has none to spare' in capsys.readouterr().err
  assert _convert(path, tmp_path / 'mine.json', '--append') == 0
  vocabulary = vocabularies.from_file(str(tmp_path / 'mine.json'))
  assert vocabulary.vocab_size == before.get_vocab_size() + 18
  assert vocabulary.tokenizer.encode('the[MASK]').ids[-1] == vocabularies.special_tokens(vocabulary).mask


@pytest.mark.parametrize(
  ('name', 'content', 'sign'),
  [
    ('a.model', b'nonsense', 'neither a SentencePiece model nor a tokenizer.json'),
    ('a.json', b'{"model": {}}', 'is no tokenizer.json'),
    ('a.json', json.dumps({'model': {'vocab': {'a': 0}}}).encode(), 'no end-of-text token'),
  ],
)
def test_what_is_no_vocabulary(name, content, sign, tmp_path, capsys):
  (tmp_path / name).write_bytes(content)
  assert _convert(tmp_path / name, tmp_path / f'out.{name}', '--append') == 2
  assert sign in capsys.readouterr().err
  assert len(list(tmp_path.iterdir())) == 1


def test_files_are_not_written_over(tmp_path, capsys):
  path = _foreign(tmp_path)
  (tmp_path / 'mine.model').write_text('precious')
  assert _convert(path, tmp_path / 'mine.model', '--append') == 2
  assert (tmp_path / 'mine.model').read_text() == 'precious'
  assert _convert(path, tmp_path / 'mine.json', '--append') == 2
  assert 'should end with .model' in capsys.readouterr().err


def test_a_vocabulary_without_reserved_ids_names_the_command(tmp_path):
  with pytest.raises(unmask.UserError, match='unmask convert-vocab'):
    vocabularies.from_file(_foreign(tmp_path))
  path, _ = _tokenizer(tmp_path, spare=3)
  with pytest.raises(unmask.UserError, match=r'no \[MASK\].*unmask convert-vocab'):
    vocabularies.from_file(str(path))
