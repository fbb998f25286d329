"""Units of tokens against a slow scan over characters."""

import dataclasses
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from unmask.tasks import vocabularies
from unmask.tasks.units import annotate, lexicon, rule_tagger, salience, segmentation, words

_settings = hypothesis.settings(max_examples=80, deadline=None, derandomize=True)
_FUNCTION = frozenset({'the', 'in', 'by'})
_ENTRIES = ('the way', 'by the way', 'new york', 'york city hall')
_SEGMENTER = segmentation.Segmenter(
  lexicon.Lexicon(tuple(lexicon.Entry(tuple(e.split()), 20, 1.0) for e in _ENTRIES), 0.5)
)
_TAGGER = rule_tagger.RuleTagger(salience.Gazetteer(_FUNCTION, _FUNCTION))
_ASCII = [
  *(
    'by the way',
    'New York',
    'New',
    'York City Hall',
    'the',
    'In',
    'April 1990',
    'way',
    'unseen',
    '44 BC',
    'J. S. Bach',
  ),
  *('unseen', '44 BC', 'J. S. Bach', ' ', ' ', ' ', '  ', '\n', '.', ', ', '-', "Ada's", '\t', '?'),
]
_OTHER = [
  '\u00c9mile',
  'caf\u00e9',
  '\u2014',
  '\u65e5\u672c',
  '\U0001f600',
  '\u201cAda\u201d',
  '\u00a0',
  'Br\u00fbl\u00e9',
]


def _texts(fragments):
  return st.lists(st.sampled_from(fragments), max_size=14).map(''.join)


@pytest.fixture(scope='module')
def annotators(tmp_path_factory):
  rng = random.Random(0)
  path = str(tmp_path_factory.mktemp('vocabulary') / 'vocabulary.model')
  known = [part for part in _ASCII if part.strip()]
  vocabularies.train_sentencepiece(
    (' '.join(rng.choices(known, k=8)).replace('\n', ' ') for _ in range(200)), path, 400
  )
  made = {'pieces': vocabularies.sentencepiece_vocabulary(path), 'bytes': vocabularies.byte_vocabulary()}
  return {kind: annotate.Annotator(vocabulary, _SEGMENTER, _TAGGER) for kind, vocabulary in made.items()}


def _ranges(annotator, text):
  """Ids and the characters [begin, end) of each token, its leading space left out."""
  encoder = vocabularies.Encoder(annotator.vocabulary)
  (ids,) = encoder.encode([text])
  if annotator.vocabulary.vocab_size < 300:  # bytes
    owner = [i for i, c in enumerate(text) for _ in c.encode()]
    return ids, [(i, i + 1) for i in owner]
  return ids, list(zip(*(edges.tolist() for edges in encoder.offsets(ids, text)), strict=True))


def _expected(annotator, identity, text):
  ids, ranges = _ranges(annotator, text)
  document = words.split(text)
  entries = _SEGMENTER.entries(document)
  units = segmentation.units(entries, len(document.texts), identity)
  (spans,) = _TAGGER.tag([text])
  rows = []
  for begin, end in ranges:
    at = min(begin, len(text) - 1)  # a space at the end has no character behind it
    places = enumerate(zip(document.begins, document.ends, strict=True))
    word = next((i for i, (b, e) in places if b <= at < e), None)
    salient = next((i for i, s in enumerate(spans) if s.start <= at < s.end and end <= s.end), -1)
    rows.append([0, 0, 0, salient + 1] if word is None else [word + 1, 0, units[word], salient + 1])
  for first, past in entries:
    tokens = [i for i, row in enumerate(rows) if first < row[0] <= past]
    if tokens and rows[tokens[0]][0] == first + 1:
      rows[tokens[0]][1] = tokens[-1] + 1 - tokens[0]
  return ids.tolist(), [(0, 0, 0, 0), *map(tuple, rows), (0, 0, 0, 0)]


def _check(annotator, texts):
  documents = [(f'document {i}', text) for i, text in enumerate(texts)]
  found = annotator.annotate(documents)
  assert len(found) == len(texts)
  special = vocabularies.special_tokens(annotator.vocabulary)
  for (identity, text), features in zip(documents, found, strict=True):
    ids, units = _expected(annotator, identity, text)
    assert set(features) == set(annotate.FEATURES)
    assert all(value.dtype == np.int32 for value in features.values())
    assert features['targets'].tolist() == [special.bos, *ids, special.eos]
    rows = zip(*(features[name].tolist() for name in annotate.UNIT_FEATURES), strict=True)
    assert list(rows) == units


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
@hypothesis.given(texts=st.lists(_texts(_ASCII), max_size=3))
@_settings
def test_units_of_every_token(annotators, kind, texts):
  _check(annotators[kind], texts)


@hypothesis.given(text=_texts([*_ASCII, *_OTHER]))
@_settings
def test_units_of_every_byte(annotators, text):
  _check(annotators['bytes'], [text])


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
@pytest.mark.parametrize('text', ['', ' ', '\n', '\n\n', '.', 'a', ' a', 'a ', 'Ada', ' Ada ', 'the way'])
def test_short_texts(annotators, kind, text):
  _check(annotators[kind], [text])


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
def test_every_byte_of_a_word_is_in_the_word(annotators, kind):
  text = 'the Caf\u00e9 \u65e5\u672c\u2014so'
  (features,) = annotators[kind].annotate([('x', text)])
  tokens = features['targets'].tolist()
  by_word = {i: [t for t, w in zip(tokens, features['word_ids'], strict=True) if w == i] for i in range(1, 6)}
  encoder = vocabularies.Encoder(annotators[kind].vocabulary)
  assert [encoder.decode(ids).strip() for ids in by_word.values()] == [
    'the',
    'Caf\u00e9',
    '\u65e5\u672c',
    '\u2014',
    'so',
  ]


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
def test_every_byte_of_a_name_is_salient(annotators, kind):
  (features,) = annotators[kind].annotate([('x', 'we met Ren\u00e9e and Andr\u00e9 there')])
  encoder = vocabularies.Encoder(annotators[kind].vocabulary)
  salient = [features['targets'][features['salient_ids'] == i] for i in (1, 2)]
  assert [encoder.decode(ids).strip() for ids in salient] == ['Ren\u00e9e', 'Andr\u00e9']


@dataclasses.dataclass(frozen=True)
class _OneSpan:
  start: int
  end: int

  def tag(self, texts):
    return [[salience.Span(self.start, self.end, 'NAME')] for _ in texts]


@pytest.mark.parametrize(
  ('start', 'end', 'salient'), [(4, 7, True), (4, 6, False), (5, 7, False), (5, 6, False), (3, 7, True), (4, 8, True)]
)
def test_a_token_is_salient_only_as_a_whole(annotators, start, end, salient):
  annotator = dataclasses.replace(annotators['pieces'], tagger=_OneSpan(start, end))
  (features,) = annotator.annotate([('x', 'the way the')])
  encoder = vocabularies.Encoder(annotator.vocabulary)
  names = [encoder.decode([token]).strip() for token in features['targets']]
  assert names == ['<s>', 'the', 'way', 'the', '</s>']
  assert features['salient_ids'].tolist() == [0, 0, int(salient), 0, 0]


@pytest.mark.parametrize('kind', ['pieces', 'bytes'])
def test_a_worked_example(annotators, kind):
  text = 'By the way, Ada left\nNew York in April 1990.'
  (features,) = annotators[kind].annotate([('x', text)])
  encoder = vocabularies.Encoder(annotators[kind].vocabulary)

  def groups(name):
    ids = features[name]
    return [encoder.decode(features['targets'][ids == i]).strip() for i in np.unique(ids[ids > 0])]

  lines = [['By', 'the', 'way', ',', 'Ada', 'left'], [''], ['New', 'York', 'in', 'April', '1990', '.']]
  assert groups('word_ids') == [word for line in lines for word in line]
  found = [unit.replace(' ', '') for unit in groups('collocation_ids')]
  assert found == ['Bytheway', ',', 'Ada', 'left', '', 'NewYork', 'in', 'April', '1990', '.']
  assert groups('salient_ids') == ['Ada', 'New York', 'April 1990']
