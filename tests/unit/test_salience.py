"""Names, dates, numbers and money by rules; which of them are salient; what the corpus teaches about words."""

import itertools
import time

import hypothesis
import hypothesis.strategies as st
import pytest
import unmask
from unmask.tasks.preparation import plain
from unmask.tasks.units import rule_tagger, salience, words

_FUNCTION = frozenset({'the', 'in', 'then', 'we', 'on', 'by', 'he', 'after'})
_TAGGER = rule_tagger.RuleTagger(salience.Gazetteer(_FUNCTION | {'human', 'rivers'}, _FUNCTION))
_settings = hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
_FRAGMENTS = [
  *('April', 'May', 'June 5', '1990', '1990s', '5th', 'century', '44 BC', 'AD', '-', '\u2013', '\n', '. ', '.', ','),
  *("'s", 'J', 'Bach', 'The', 'in', 'of', 'van', 'Mr', 'I', 'X\u2019s', '!', '?', ':', '"', '('),
  *(
    '\u00c9mile',
    '\u01c5',
    '\u0130',
    '$5',
    '20 euros',
    '3.5',
    '%',
    'million',
    'U.S.',
    'St. Louis',
    'the',
    'twenty',
    'BC',
  ),
  *[' '] * 6,
]
_PARTS = st.one_of(*[st.sampled_from(_FRAGMENTS)] * 4, st.text(max_size=4))
_TEXT = st.lists(_PARTS, max_size=16).map(''.join)


def _tag(text, tagger=_TAGGER):
  return [(text[span.start : span.end], span.label) for span in tagger.tag([text])[0]]


def _names(text):
  return [found for found, label in _tag(text) if label == 'NAME']


def _dates(text):
  return [found for found, label in _tag(text) if label == 'DATE']


def _figures(text):
  return [found for found in _tag(text) if found[1] in ('NUMBER', 'MONEY')]


_DATES = """
1990|1066|1990s|2008|1914-1918|1914 \u2013 1918|April|April 1990|April 5|April 5, 1990|5 April|5 April 1990
5th of May 1990|1st June|May 5|May 5th, 1821|44 BC|300 BCE|500 AD|70CE|19th century|3rd millennium
1914\u201318|1990-05-12|5/12/1990|Jan. 5, 1990|12 Sept 2001|Dec 1999|June 1\u20135, 1990|1st day of May 1990|Monday
Monday, June 5, 1990|Sunday 5 June|AD 500|A.D. 1000|500 B.C.|10,000 BC|500\u2013400 BC|1960s|1950s\u20131960s
18th-century|nineteenth century|13th and 10th centuries BC|twenty-first century|summer of 1990|winter 1941|2099|1000
"""


@pytest.mark.parametrize('date', _DATES.strip().replace('\n', '|').split('|'))
def test_dates(date):
  assert _dates(f'it was built in {date} by masons.') == [date]
  assert _dates(date) == [date]


@pytest.mark.parametrize(
  'text',
  [
    *('costs 1,990 dollars', 'weighs 1990.5 tons', 'number 2190', '12345 people', 'you may go', '5 AM', '999', '2100'),
    *('1500 metres', '1200 people', '1500%', '1900 million', '$1990', '1990 dollars', 'B1990', '1990a', 'a fall of 5'),
    *('last year', 'two days later', 'today', 'the next century', 'in recent decades', 'second of all', 'May I?'),
  ],
)
def test_no_dates(text):
  assert _dates(text) == []


def test_may_is_a_month_only_with_a_number_or_after_a_preposition():
  assert _dates('they met in May 1821 and May 5 but not May.') == ['May 1821', 'May 5']
  assert _dates('they met in May and since May, and you May go.') == ['May', 'May']


@pytest.mark.parametrize(
  ('text', 'found'),
  [
    ('it cost $5 then', [('$5', 'MONEY')]),
    ('it cost $3.5 million then', [('$3.5 million', 'MONEY')]),
    ('about US$ 5 each', [('US$ 5', 'MONEY')]),
    ('about \u20ac1,234,567.89.', [('\u20ac1,234,567.89', 'MONEY')]),
    ('some $14.7M. more', [('$14.7M', 'MONEY')]),
    ('for 20 euros.', [('20 euros', 'MONEY')]),
    ('for 2 million Canadian dollars', [('2 million Canadian dollars', 'MONEY')]),
    ('for twenty dollars', [('twenty dollars', 'MONEY')]),
    ('for two hundred and fifty dollars', [('two hundred and fifty dollars', 'MONEY')]),
    ('for EUR 300 or 300 USD', [('EUR 300', 'MONEY'), ('300 USD', 'MONEY')]),
    ('for 5 \u20ac and 3 cents', [('5 \u20ac', 'MONEY'), ('3 cents', 'MONEY')]),
    ('of 1,234 or 56.7', [('1,234', 'NUMBER'), ('56.7', 'NUMBER')]),
    ('of 3 million people', [('3 million', 'NUMBER')]),
    ('of 20% or 5.5 per cent', [('20%', 'NUMBER'), ('5.5 per cent', 'NUMBER')]),
    ('of 15\u201320 percent', [('15\u201320 percent', 'NUMBER')]),
    ('the 5th and 21st row', [('5th', 'NUMBER'), ('21st', 'NUMBER')]),
    ('of twenty-one ships and seven boats', [('twenty-one', 'NUMBER'), ('seven', 'NUMBER')]),
    ('of two hundred thousand men', [('two hundred thousand', 'NUMBER')]),
    ('two, three.', [('two', 'NUMBER'), ('three', 'NUMBER')]),
    ('no one knew', []),
    ('the x86 or 64bit or 1.2.3 of a 4-year term', []),
    ('weighs often tenfold', []),
    ('lost 20 pounds', [('20', 'NUMBER')]),
    ('from 5\nmillion or 3\tmillion', [('5', 'NUMBER'), ('3', 'NUMBER')]),
  ],
)
def test_money_and_numbers(text, found):
  assert _figures(text) == found


_TENS = 'twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety'
_TEENS = 'ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen'


@pytest.mark.parametrize('word', f'two|three|four|five|six|seven|eight|nine|one million|{_TEENS}|{_TENS}'.split('|'))
def test_every_spelled_number(word):
  assert _tag(f'of {word} or more') == [(word, 'NUMBER')]
  assert _tag(f'of {word} euros') == [(f'{word} euros', 'MONEY')]


_ORDINALS = 'first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth'


@pytest.mark.parametrize('word', _ORDINALS.split('|'))
def test_every_spelled_century(word):
  assert _dates(f'in the {word} century') == [f'{word} century']


_MONTHS = 'January|February|March|April|June|July|August|September|October|November|December'
_DAYS = 'Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday'
_SEASONS = 'spring|summer|autumn|fall|winter|Spring|Summer|Autumn|Fall|Winter'


@pytest.mark.parametrize('date', [*f'{_MONTHS}|{_DAYS}'.split('|'), *(f'{s} 1990' for s in _SEASONS.split('|'))])
def test_every_month_weekday_and_season(date):
  assert _dates(f'it was {date}.') == [date]


def test_one_place_has_one_label():
  text = 'in 1990 $1990 and 1990 euros and 1990.5 and 5 May'
  labels = ['DATE', 'MONEY', 'MONEY', 'NUMBER', 'DATE']
  assert [label for _, label in _tag(text)] == labels


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
    ('when Alexander the Great died', ['Alexander the Great']),
    ('at Johnson & Johnson', ['Johnson & Johnson']),
    ('a Republic of the Congo', ['Republic of the Congo']),
    ('up the R\u00edo de la Plata', ['R\u00edo de la Plata']),
    ('against COVID-19 now', ['COVID-19']),
    ('when Bakr al-Razi wrote', ['Bakr al-Razi']),
    ('to the U.S. Senate and the U.S. too', ['U.S. Senate', 'U.S.']),
    ('they reached the U.S. Then we left', ['U.S.']),
    ('near St. Louis and Mt. Fuji', ['St. Louis', 'Mt. Fuji']),
    ("when d'Artagnan spoke", ["d'Artagnan"]),
    ("in C\u00f4te d'Ivoire too", ["C\u00f4te d'Ivoire"]),
    ("an O'Brien spoke", ["O'Brien"]),
    ('Ada Byron on Monday Babbage left', ['Ada Byron', 'Babbage']),
    ('iPhone and eBay', []),
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


def test_a_name_is_what_dates_and_money_leave():
  assert _tag('it was Black April 1990 there') == [('Black', 'NAME'), ('April 1990', 'DATE')]
  assert _tag('to Berlin USD 5 went') == [('Berlin', 'NAME'), ('USD 5', 'MONEY')]


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
  (spans,) = _TAGGER.tag([text])
  assert spans == sorted(spans)
  assert all(0 <= span.start < span.end <= len(text) for span in spans)
  assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
  assert {span.label for span in spans} <= set(rule_tagger.LABELS)
  assert all(not text[span.start].isspace() and not text[span.end - 1].isspace() for span in spans)


@hypothesis.given(_TEXT)
@_settings
def test_spans_stay_inside_a_sentence(text):
  for span in _TAGGER.tag([text])[0]:
    assert not set('!?:;"(\n\t') & set(text[span.start : span.end])


@hypothesis.given(_TEXT)
@_settings
def test_names_are_whole_words(text):
  document = words.split(text)
  begins, ends = set(document.begins.tolist()), set(document.ends.tolist())
  ends |= {e - 2 for e, w in zip(document.ends.tolist(), document.texts, strict=True) if w.endswith(("'s", '\u2019s'))}
  for span in _TAGGER.tag([text])[0]:
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


@pytest.mark.parametrize('text', ['1' * 20_000, '1,111' * 5_000, 'two hundred' + ' hundred' * 5_000, 'A' * 20_000])
@pytest.mark.parametrize('tail', ['', '-', '.5.5', 'x', ' A.A'])
def test_no_text_takes_for_ever(text, tail):
  began = time.process_time()
  _TAGGER.tag([text + tail])
  assert time.process_time() - began < 1


def test_no_run_of_initials_takes_for_ever():
  """Where 'a' is a function word, every dot of these may end a sentence."""
  gazetteer = salience.Gazetteer(frozenset({'a', 'the'}), frozenset({'a', 'the'}))
  began = time.process_time()
  spans = rule_tagger.RuleTagger(gazetteer).tag(['A.' * 50_000, 'A. ' * 50_000, 'The ' * 50_000, 'A ' * 50_000])
  assert time.process_time() - began < 4
  assert len(spans[0]) > 20_000


def test_rules_are_sent_and_know_themselves():
  tagger = plain.load(plain.dump(_TAGGER), plain.anywhere)
  assert tagger == _TAGGER
  assert tagger.fingerprint() == _TAGGER.fingerprint()
  assert tagger.fingerprint() != rule_tagger.RuleTagger(salience.Gazetteer(_FUNCTION, _FUNCTION)).fingerprint()


class _Conll:
  """A tagger of CoNLL's labels: a word is a span of the label that it spells."""

  labels = (*salience.NAMES, 'DATE', 'NUMBER')

  def fingerprint(self):
    return 'conll'

  def tag(self, texts):
    splits = [words.split(text) for text in texts]
    return [[salience.Span(b, e, t) for t, b, e in zip(*split, strict=True) if t in self.labels] for split in splits]


@pytest.mark.parametrize(
  ('labels', 'kept', 'counted'),
  [
    (['NAME'], ['PER', 'LOC', 'ORG', 'MISC'], {'NAME': 5}),
    (['NAME', 'DATE'], ['PER', 'LOC', 'DATE', 'ORG', 'MISC'], {'NAME': 5, 'DATE': 1}),
    (['PER', 'NUMBER'], ['PER', 'NUMBER'], {'PER': 2, 'NUMBER': 1}),
    (['PER', 'NAME'], ['PER', 'LOC', 'ORG', 'MISC'], {'PER': 2, 'NAME': 3}),
    (('DATE',), ['DATE'], {'DATE': 1}),
  ],
)
def test_labels_are_chosen_and_counted(labels, kept, counted):
  chosen = salience.LabelFilter(_Conll(), labels)
  texts = ['a PER and a LOC', 'no entity', 'DATE NUMBER ORG', 'PER MISC']
  found = chosen.tag(texts)
  assert set(chosen.labels) == set(kept)
  assert list(dict.fromkeys(span.label for spans in found for span in spans)) == kept
  assert chosen.counts() == {'documents': 4, 'salient_documents': sum(map(bool, found)), 'spans': counted}
  assert all(f'{count} {label}' in chosen.report() for label, count in counted.items())
  assert f'in {sum(map(bool, found))} of 4 documents' in chosen.report()


def test_the_fingerprint_knows_the_labels():
  one, two = (salience.LabelFilter(_TAGGER, labels).fingerprint() for labels in (['NAME'], ['NAME', 'DATE']))
  assert one != two
  assert _TAGGER.fingerprint() in one


def test_no_span_at_all_is_said():
  chosen = salience.LabelFilter(_TAGGER)
  assert chosen.tag(['no name here', 'nor there']) == [[], []]
  assert chosen.counts() == {'documents': 2, 'salient_documents': 0, 'spans': {'NAME': 0, 'DATE': 0}}
  assert 'no salient span in any of 2 documents' in chosen.report()


@pytest.mark.parametrize(
  ('labels', 'sign'), [([], 'list of labels'), ('NAME', 'list of labels'), (['PER'], 'PER'), (['name', 'DATE'], 'name')]
)
def test_labels_that_the_tagger_does_not_find(labels, sign):
  with pytest.raises(unmask.UserError, match=sign) as caught:
    salience.LabelFilter(_TAGGER, labels)
  assert 'DATE' in str(caught.value)
  assert '\n' not in str(caught.value)
