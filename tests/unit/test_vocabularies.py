"""Vocabularies: nothing is lost, nothing reserved is produced, and tokens lie on their characters."""

import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import seqio
import unmask
from unmask.tasks import vocabularies

_settings = hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
_BLANK = '\u2581'  # SentencePiece's own sign for a space; it has a test of its own
_TEXT = st.text(
  st.one_of(
    st.characters(exclude_categories=['Cs'], exclude_characters=_BLANK),
    st.sampled_from('the one \n\u00e9\u65e5\U0001f600'),
  ),
  max_size=30,
)
_SIZE = 480


def _lines(count=300):
  rng = random.Random(0)
  known = [''.join(rng.choice('abcdefghijklmnopqrst') for _ in range(rng.randint(1, 7))) for _ in range(120)]
  return [
    ' '.join(rng.choice([*known, 'the', 'one', 'caf\u00e9', '1990']) for _ in range(10)) + '.' for _ in range(count)
  ]


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> str:
  path = str(tmp_path_factory.mktemp('vocabulary') / 'vocabulary.model')
  vocabularies.train_sentencepiece(_lines(), path, _SIZE)
  return path


@pytest.fixture(scope='module')
def encoders(model) -> dict[str, vocabularies.Encoder]:
  made = {'pieces': vocabularies.sentencepiece_vocabulary(model), 'bytes': vocabularies.byte_vocabulary()}
  return {kind: vocabularies.Encoder(vocabulary) for kind, vocabulary in made.items()}


both = pytest.mark.parametrize('kind', ['pieces', 'bytes'])


def _surface(encoder, token):
  """The UTF-8 bytes of one ordinary token, a space for the blank sign."""
  if isinstance(encoder.vocabulary, seqio.ByteVocabulary):
    return bytes([token - 3])
  processor = encoder.vocabulary.tokenizer
  piece = processor.id_to_piece(int(token))
  return bytes([int(piece[3:5], 16)]) if processor.is_byte(int(token)) else piece.replace(_BLANK, ' ').encode()


def _characters(encoder, ids, text):
  """(first byte is a character's first, [begin, end)) of each token, found byte by byte."""
  artificial = isinstance(encoder.vocabulary, seqio.SentencePieceVocabulary) and len(ids) > 0
  owner = [-1] * artificial + [i for i, c in enumerate(text) for _ in c.encode()]
  first = [True] * artificial + [k == 0 for c in text for k in range(len(c.encode()))]
  at, found = 0, []
  for token in ids:
    surface = _surface(encoder, token)
    begin, end = owner[at], owner[at + len(surface) - 1] + 1
    begin += artificial and surface.startswith(b' ')  # a space alone begins where the next character does
    found.append((first[at], (max(begin, 0), end)))
    at += len(surface)
  assert at == len(owner)
  return found


@both
@hypothesis.given(text=_TEXT)
@_settings
def test_every_text_comes_back(encoders, kind, text):
  encoder = encoders[kind]
  (ids,) = encoder.encode([text])
  assert ids.dtype == np.int32
  assert encoder.vocabulary.decode(ids.tolist()) == text
  assert encoder.decode(ids) == text


@both
@pytest.mark.parametrize(
  'text',
  [
    '',
    '\0',
    'a\0b',
    ' ',
    '  a',
    'a  ',
    ' \n ',
    '\r\n',
    '\ufeffx',
    '\ufffd',
    '\u2028',
    '\ufb01',
    'e\u0301',
    '\u2585',
  ],
)
def test_difficult_texts_come_back(encoders, kind, text):
  encoder = encoders[kind]
  assert encoder.decode(encoder.encode([text])[0]) == text


@both
@hypothesis.given(text=_TEXT)
@_settings
def test_encode_gives_only_ordinary_ids(encoders, kind, text):
  encoder = encoders[kind]
  assert encoder.special.is_text(encoder.encode([text])[0]).all()


@both
def test_names_of_special_ids_in_a_text_are_text(encoders, kind):
  encoder = encoders[kind]
  text = '<s> </s> <pad> <unk> [MASK] <eoss> <mask:0> <special:3> <0x0A> <extra_id_0>'
  (ids,) = encoder.encode([text])
  assert encoder.special.is_text(ids).all()
  assert encoder.decode(ids) == text


def test_reserved_ids_of_a_trained_vocabulary(encoders):
  encoder = encoders['pieces']
  special, processor = encoder.special, encoder.vocabulary.tokenizer
  assert encoder.vocabulary.vocab_size == _SIZE
  reserved = [special.pad, special.eos, special.bos, 3, special.mask, special.end_of_span, *special.sentinels]
  assert reserved == list(range(22))
  assert special.text == (32, _SIZE)
  assert [processor.is_control(i) or processor.is_unknown(i) for i in range(_SIZE)] == [i < 32 for i in range(_SIZE)]
  names = [processor.id_to_piece(i) for i in range(4, 32)]
  assert names == ['[MASK]', '<eoss>', *(f'<mask:{i}>' for i in range(16)), *(f'<special:{i}>' for i in range(10))]


def test_reserved_ids_of_bytes(encoders):
  special = encoders['bytes'].special
  size = encoders['bytes'].vocabulary.vocab_size
  reserved = [special.pad, special.eos, special.bos, special.mask, special.end_of_span, *special.sentinels]
  assert len(set(reserved)) == 21
  assert special.text == (3, 259)
  assert not any(special.is_text(np.array(reserved)))
  assert all(0 <= i < size for i in reserved)


@both
@hypothesis.given(texts=st.lists(_TEXT, max_size=4))
@_settings
def test_a_batch_is_its_texts(encoders, kind, texts):
  together = encoders[kind].encode(texts)
  assert [row.tolist() for row in together] == [encoders[kind].encode([text])[0].tolist() for text in texts]


@both
@hypothesis.given(text=_TEXT)
@_settings
def test_offsets_of_tokens_that_begin_a_character(encoders, kind, text):
  encoder = encoders[kind]
  (ids,) = encoder.encode([text])
  begins, ends = encoder.offsets(ids, text)
  assert len(begins) == len(ends) == len(ids)
  for (whole, span), begin, end in zip(_characters(encoder, ids, text), begins, ends, strict=True):
    if whole:
      assert (begin, end) == span


@both
@pytest.mark.parametrize('text', ['\u65e5\u672c ok', 'na\u00efve \U0001f600', 'a\u2014b'])
def test_offsets_of_bytes_inside_a_character(encoders, kind, text):
  encoder = encoders[kind]
  (ids,) = encoder.encode([text])
  spans = list(zip(*(edges.tolist() for edges in encoder.offsets(ids, text)), strict=True))
  assert spans == [span for _, span in _characters(encoder, ids, text)]


@pytest.mark.parametrize('change', [lambda text: text + 'x', lambda text: text[1:]])
def test_offsets_that_do_not_add_up(encoders, change):
  encoder = encoders['pieces']
  with pytest.raises(unmask.UserError, match='normalisation'):
    encoder.offsets(encoder.encode(['the one'])[0], change('the one'))


@both
def test_decode_names_special_ids_and_leaves_padding_out(encoders, kind):
  encoder = encoders[kind]
  special = encoder.special
  (ids,) = encoder.encode(['the'])
  tokens = [special.bos, *ids, special.mask, special.sentinels[3], special.end_of_span, special.eos, special.pad]
  assert encoder.decode(tokens) == '<s> the [MASK] <mask:3> <eoss> </s>'


def test_training_is_repeatable(model, tmp_path):
  vocabularies.train_sentencepiece(_lines(), str(tmp_path / 'again.model'), _SIZE)
  with open(model, 'rb') as one, open(tmp_path / 'again.model', 'rb') as two:
    assert one.read() == two.read()


@pytest.mark.parametrize(('lines', 'size'), [([], 400), (['a b c'], 4000), (_lines(50), 40)])
def test_too_small_a_corpus(tmp_path, lines, size):
  with pytest.raises(unmask.UserError, match='VOCABULARY_SIZE') as caught:
    vocabularies.train_sentencepiece(lines, str(tmp_path / 'small.model'), size)
  assert f'{size} ids' in str(caught.value)
  assert '\n' not in str(caught.value)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('content', [None, b'', b'not a model'])
def test_damaged_models(tmp_path, content):
  path = tmp_path / 'damaged.model'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(unmask.UserError, match=r'damaged\.model'):
    vocabularies.sentencepiece_vocabulary(str(path))


@pytest.mark.parametrize('extra', [0, 18])
def test_a_foreign_vocabulary_needs_extra_ids(extra):
  with pytest.raises(unmask.UserError, match=f'extra_ids={extra}.*extra_ids=19'):
    vocabularies.special_tokens(seqio.ByteVocabulary(extra_ids=extra))


def test_a_foreign_sentencepiece_vocabulary(tmp_path):
  import sentencepiece

  prefix = str(tmp_path / 'foreign')
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(_lines()), model_prefix=prefix, vocab_size=200, model_type='bpe', bos_id=-1, minloglevel=2,
    pad_id=0, eos_id=1, unk_id=2,
  )  # fmt: skip
  with pytest.raises(unmask.UserError, match='extra_ids=18'):
    vocabularies.special_tokens(seqio.SentencePieceVocabulary(f'{prefix}.model', extra_ids=18))
  special = vocabularies.special_tokens(seqio.SentencePieceVocabulary(f'{prefix}.model', extra_ids=19))
  reserved = [special.mask, special.end_of_span, *special.sentinels, special.bos]
  assert reserved == list(range(218, 199, -1))
  assert (special.pad, special.eos, special.text) == (0, 1, (3, 200))
