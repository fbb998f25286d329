"""Names and dates by rules."""

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
from unmask.tasks.units import salience, words

_FUNCTION = frozenset({'the', 'in', 'then', 'we', 'on', 'by', 'he', 'after'})
_TAGGER = salience.RuleTagger(salience.Gazetteer(_FUNCTION | {'human', 'rivers'}, _FUNCTION))
_settings = hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
_FRAGMENTS = [
  *('April', 'May', 'June 5', '1990', '1990s', '5th', 'century', '44 BC', 'AD', '-', '\u2013', '\n', '. ', '.', ','),
  *("'s", 'J', 'Bach', 'The', 'in', 'of', 'van', 'Mr', 'I', 'X\u2019s', '!', '?', ':', '"', '('),
  *('\u00c9mile', '\u01c5', '\u0130'),
  *[' '] * 6,
]
_PARTS = st.one_of(*[st.sampled_from(_FRAGMENTS)] * 4, st.text(max_size=4))
_TEXT = st.lists(_PARTS, max_size=16).map(''.join)


def _tag(text, tagger=_TAGGER):
  return [(text[span.start : span.end], span.label) for span in tagger.tag(text, words.split(text))]


def _names(text):
  return [found for found, label in _tag(text) if label == 'NAME']


def _dates(text):
  return [found for found, label in _tag(text) if label == 'DATE']


_DATES = """
1990|1066|1990s|2008|1914-1918|1914 \u2013 1918|April|April 1990|April 5|April 5, 1990|5 April|5 April 1990
5th of May 1990|1st June|May 5|May 5th, 1821|44 BC|300 BCE|500 AD|70CE|19th century|3rd millennium
"""


@pytest.mark.parametrize('date', _DATES.strip().replace('\n', '|').split('|'))
def test_dates(date):
  assert _dates(f'it was built in {date} by masons.') == [date]
  assert _dates(date) == [date]


@pytest.mark.parametrize(
  'text', ['costs 1,990 dollars', 'weighs 1990.5 tons', 'number 2190', '12345 people', 'you may go', '5 AM']
)
def test_no_dates(text):
  assert _dates(text) == []


def test_may_is_a_month_only_with_a_number():
  assert _dates('they met in May 1821 and May 5 but not in May.') == ['May 1821', 'May 5']


@pytest.mark.parametrize(
  'text', ['the emperor Augustus ruled', 'we flew to Juneau', 'the Marchand family', 'a 1500m race']
)
def test_a_date_does_not_end_inside_a_word(text):
  assert _dates(text) == []


def test_a_name_that_begins_like_a_month_is_a_name():
  assert _tag('it was the emperor Augustus Caesar of Rome') == [('Augustus Caesar of Rome', 'NAME')]


@pytest.mark.parametrize(
  ('text', 'names'),
  [
    ('they saw Berlin and New York City.', ['Berlin', 'New York City']),
    ('when Johann Sebastian Bach died', ['Johann Sebastian Bach']),
    ('when J. S. Bach died', ['J. S. Bach']),
    ('when J.S. Bach died', ['J.S. Bach']),
    ('when George W. Bush won', ['George W. Bush']),
    ('that Jean-Paul Sartre wrote', ['Jean-Paul Sartre']),
    ('the Bank of England lent', ['Bank of England']),
    ('and Vincent van Gogh painted', ['Vincent van Gogh']),
    ("they read Tolstoy's novel", ['Tolstoy']),
    ('they read Tolstoy\u2019s novel', ['Tolstoy']),
    ('about Mr Darcy and Dr Watson', ['Darcy', 'Watson']),
    ('and then I said that I\u2019ve gone', []),
    ('a river of gold', []),
    ('plan B failed', []),
    ('they saw Berlin, Paris and Rome', ['Berlin', 'Paris', 'Rome']),
    ('a Bank of england', ['Bank']),
    ('in \u00c9vreux they met', ['\u00c9vreux']),
  ],
)
def test_names(text, names):
  assert _names(text) == names


@pytest.mark.parametrize(
  ('text', 'found'),
  [
    ('Human geography is broad. Rivers flow.', []),
    ('Berlin is large. Paris is too.', [('Berlin', 'NAME'), ('Paris', 'NAME')]),
    ('The Nile is long.', [('Nile', 'NAME')]),
    ('In April they met.', [('April', 'DATE')]),
    ('In Berlin they met.', [('Berlin', 'NAME')]),
    ('The Rivers are a band.', [('Rivers', 'NAME')]),
    ('Human Rights Watch reports.', [('Human Rights Watch', 'NAME')]),
    ('they left. The Hague is far.', [('Hague', 'NAME')]),
    ('they read The Times daily.', [('The Times', 'NAME')]),
    ('they said: "The Nile!"', [('Nile', 'NAME')]),
    ('they left\nThe Nile', [('Nile', 'NAME')]),
    ('We met Ada in London on 5 May 1843.', [('Ada', 'NAME'), ('London', 'NAME'), ('5 May 1843', 'DATE')]),
  ],
)
def test_sentence_starts(text, found):
  assert _tag(text) == found


def test_a_date_takes_precedence_over_a_name():
  assert _tag('it was Black April 1990 there') == [('April 1990', 'DATE')]


@pytest.mark.parametrize(
  'text', ['they came in April\n1990 was cold', 'from 1990 -\n2000 people', 'ends at 44\nBC Hydro', 'Ada\nByron']
)
def test_no_span_crosses_a_line_end(text):
  assert not [found for found, _ in _tag(text) if '\n' in found]


def test_a_sentence_may_end_in_one_letter():
  assert _names('they chose plan B. Then Ada left') == ['Ada']


@hypothesis.given(_TEXT)
@_settings
def test_spans_are_disjoint_in_order_and_inside_the_text(text):
  spans = _TAGGER.tag(text, words.split(text))
  assert spans == sorted(spans)
  assert all(0 <= span.start < span.end <= len(text) for span in spans)
  assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
  assert {span.label for span in spans} <= {'NAME', 'DATE'}
  assert all(not text[span.start].isspace() and not text[span.end - 1].isspace() for span in spans)


@hypothesis.given(_TEXT)
@_settings
def test_spans_stay_inside_a_sentence(text):
  for span in _TAGGER.tag(text, words.split(text)):
    assert not set('!?:"(\n') & set(text[span.start : span.end])


@hypothesis.given(_TEXT)
@_settings
def test_names_are_whole_words(text):
  document = words.split(text)
  begins, ends = set(document.begins.tolist()), set(document.ends.tolist())
  ends |= {e - 2 for e, w in zip(document.ends.tolist(), document.texts, strict=True) if w.endswith(("'s", '\u2019s'))}
  for span in _TAGGER.tag(text, document):
    if span.label == 'NAME':
      assert span.start in begins
      assert span.end in ends


def _gazetteer(*texts):
  return salience.Gazetteer.build(words.split(text) for text in texts)


def test_gazetteer_counts_forms_inside_sentences():
  built = _gazetteer(*['a river, a River'] * 5, *['The man. The man'] * 5)
  assert 'river' in built.common
  assert 'river' not in built.function
  assert 'the' not in built.common | built.function  # never seen inside a sentence
  assert {'a', 'man'} <= built.common & built.function


@pytest.mark.parametrize(
  ('upper', 'lower', 'common', 'function'),
  [
    (3, 1, True, False),
    (4, 1, False, False),
    (1, 20, True, False),
    (1, 21, True, True),
    (0, 1, True, True),
    (5, 0, False, False),
  ],
)
def test_gazetteer_thresholds(upper, lower, common, function):
  built = _gazetteer(', '.join(['x', *['Word'] * upper, *['word'] * lower]))
  assert ('word' in built.common, 'word' in built.function) == (common, function)


def test_gazetteer_save_and_load(tmp_path):
  built = _gazetteer('the caf\u00e9 and The River. a river')
  built.save(str(tmp_path / 'gazetteer.json'))
  assert salience.Gazetteer.load(str(tmp_path / 'gazetteer.json')) == built
