"""The examples of probes: what is asked, that it can be answered, and that no test text is trained on."""

import collections
import itertools
import json
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_text import source
from unmask import UserError
from unmask.tasks import corpora, pipeline
from unmask.tasks.probes import cloze, examples, material, named, rows, squad, topics
from unmask.tasks.probes.examples import Example, Sizes
from unmask.tasks.units.salience import Span

EVERYTHING = Sizes(train=10**6, dev=10**6, test=10**6)


# What SQuAD's evaluate-v1.1.py does, in its own order, written out.
def _slow_normalise(text):
  text = ''.join(character for character in text.lower() if character not in set(string.punctuation))
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def _slow_f1(answer, gold):
  left, common = list(_slow_normalise(gold).split()), 0
  for word in _slow_normalise(answer).split():
    if word in left:
      left.remove(word)
      common += 1
  if not common:
    return 0.0
  precision = common / len(_slow_normalise(answer).split())
  recall = common / len(_slow_normalise(gold).split())
  return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
  ('answer', 'gold', 'exact', 'f1'),
  [
    ('The Denver Broncos', 'Denver Broncos', 1, 1),
    ('denver  broncos.', 'the "Denver Broncos"', 1, 1),
    ("Levi's Stadium", 'Levis Stadium', 1, 1),
    ('Santa Clara, California', 'Santa Clara', 0, 0.8),
    ('an apple', 'a pear', 0, 0),
    ('theatre', 'atre', 0, 0),
    ('the', 'Denver', 0, 0),
    ('gold gold', 'gold', 0, 2 / 3),
  ],
)
def test_squad_marks(answer, gold, exact, f1):
  assert squad.exact_match(answer, [gold]) == exact
  assert squad.f1(answer, [gold]) == pytest.approx(f1)


_PHRASES = st.lists(st.sampled_from(['the', 'A', 'an,', 'Paris', 'paris.', 'of', '"New', 'York"', '-', "it's", ' ']))


@given(_PHRASES, st.lists(_PHRASES, min_size=1, max_size=3))
def test_squad_marks_are_those_of_the_plain_version(answer, golds):
  answer, golds = ' '.join(answer), [' '.join(gold) for gold in golds]
  assert squad.normalise(answer) == _slow_normalise(answer)
  assert squad.f1(answer, golds) == pytest.approx(max(_slow_f1(answer, gold) for gold in golds))
  assert squad.exact_match(answer, golds) == any(_slow_normalise(answer) == _slow_normalise(gold) for gold in golds)


def test_sentences():
  text = 'Dr. Ada Lee left St. Ives. J. Smith, aged 3.5, stayed! "Why?" he said.\nA line\n\nThe end.'
  spans = [Span(4, 11, 'NAME')]
  found = [text[a:b] for a, b in cloze.split(text, spans)]
  assert found == [
    'Dr. Ada Lee left St. Ives.',
    'J. Smith, aged 3.5, stayed!',
    '"Why?" he said.',
    'A line',
    'The end.',
  ]
  inside = 'He read The End. Again and again.'
  assert len(cloze.split(inside, [])) == 2
  assert len(cloze.split(inside, [Span(8, 22, 'NAME')])) == 1


@pytest.fixture(scope='module')
def of_default(default_task):
  """All examples of both probes of the default corpus, from some of its documents."""
  rows_of = pipeline.Pipeline(
    mixture_or_task_name='default_text', task_feature_lengths={'targets': 128}, task=default_task
  )
  opened = rows_of.open(say=lambda line: None)
  made = material.Material(opened, _Some(default_task.corpus, 7), EVERYTHING)
  return {name: named.load(name, made) for name in ('topic', 'span')} | {'material': made}


class _Some:
  """Every nth document of a corpus."""

  def __init__(self, corpus, nth):
    self._corpus, self._nth = corpus, nth

  def documents(self):
    return itertools.islice(self._corpus.documents(), 0, None, self._nth)


def test_topics_are_wikipedias(of_default):
  probe = of_default['topic']
  assert len(probe.classes) == 11
  assert 'Uncategorized' not in probe.classes
  of_all = [one for split in examples.SPLITS for one in probe.splits[split]]
  assert {one.cluster.split(':')[0] for one in of_all} == {'wiki'}
  said = {document['id']: document.get('label') for document in of_default['material'].corpus.documents()}
  assert all(said[one.id] == probe.classes[one.label] for one in of_all)
  assert sum(label is None and name.startswith('wiki:') for name, label in said.items()) > 50  # left out


def test_questions_can_be_answered(of_default):
  probe, made = of_default['span'], of_default['material']
  everything = [one for split in examples.SPLITS for one in probe.splits[split]]
  assert len(everything) > 300
  assert len({one.id for one in everything}) == len(everything)
  for one in everything:
    question, passage = one.texts
    start, end = one.gap
    answer = question[start:end]
    assert one.golds() == (answer,)
    assert passage.count(answer) >= len(one.answers) >= 1
    assert not re.search(rf'(?<!\w){re.escape(answer)}(?!\w)', question[:start] + question[end:])
    assert question not in passage
    names = {passage[a:b] for a, b in one.candidates}
    assert answer in names
    assert len(names) >= 3
    assert all(passage[a:b].strip() == passage[a:b] for a, b in one.candidates)
  assert max(collections.Counter(one.cluster for one in everything).values()) <= 8
  encoded = rows.encode(everything, made.encoder, made.tokens('span'), is_span=True)
  assert encoded.answerable().mean() > 0.99
  assert (encoded.features['tokens'] == made.encoder.special.mask).sum(1).tolist() == [1] * len(everything)


def test_marked_tokens_are_the_answer(of_default):
  """Each first token with the next last one gives a text that SQuAD's measure takes for the answer."""
  made, asked = of_default['material'], of_default['span'].splits['test']
  encoded = rows.encode(asked, made.encoder, made.tokens('span'), is_span=True)
  marked = 0
  for i, one in enumerate(asked):
    starts, ends = (np.flatnonzero(encoded.features[name][i]) for name in ('starts', 'ends'))
    for start, end in zip(starts, ends, strict=True):
      text = one.texts[1][encoded.characters[i, start, 0] : encoded.characters[i, end, 1]]
      marked += squad.exact_match(text, one.golds())
    assert encoded.features['passage'][i, starts].all()
    assert encoded.features['passage'][i, ends].all()
  assert marked >= 0.97 * sum(len(one.answers) for one in asked)  # a token may hold more than the name: "U.S.-led"


@pytest.mark.parametrize('name', ['topic', 'span'])
def test_no_test_text_is_trained_on(name, of_default):
  """By document and by runs of 13 words, counted here once more; and test is what pretraining held out."""
  probe = of_default[name]
  for split in examples.SPLITS:
    held_out = {corpora.is_validation(one.cluster, 20) for one in probe.splits[split]}
    assert held_out == {split == 'test'}
  clusters = {split: {one.cluster for one in probe.splits[split]} for split in examples.SPLITS}
  assert not clusters['train'] & clusters['dev']

  def ngrams(split):
    for one in probe.splits[split]:
      for text in one.texts:
        split_up = re.findall(r"\w+(?:['’]\w+)*", text.lower())
        yield from zip(*(split_up[i:] for i in range(13)), strict=False)

  test = set(ngrams('test'))
  assert len(test) > 1000
  assert test.isdisjoint(ngrams('train'))
  assert test.isdisjoint(ngrams('dev'))


def _example(i, text, label=0):
  return Example(f'e{i}', f'c{i}', (text,), label)


def test_what_overlaps_is_left_out():
  shared = ' '.join(f'w{i}' for i in range(13))
  parts = {
    'train': [
      _example(1, f'Some more, {shared.upper()}!', 0),
      _example(2, shared[:-4], 0),
      _example(3, 'x', 1),
      Example('e9', 'c4', ('other words about the same text',), 1),
    ],
    'dev': [_example(5, f'{shared} y', 1), _example(6, 'z')],
    'test': [_example(4, shared, 1)],
  }
  probe = examples.build('p', 'P', 'classification', parts, Sizes(), ('a', 'b'))
  assert {one.id for one in probe.splits['train']} == {'e2', 'e3'}
  assert {one.id for one in probe.splits['dev']} == {'e6'}
  assert probe.facts['left_out_for_overlap_with_test'] == 3
  other = dict(parts, dev=[_example(7, 'z')])
  assert probe.digest() == examples.build('p', 'P', 'classification', parts, Sizes(), ('a', 'b')).digest()
  assert probe.digest() != examples.build('p', 'P', 'classification', other, Sizes(), ('a', 'b')).digest()


def test_one_class_and_empty_splits_are_named():
  parts = {'train': [_example(1, 'a')], 'dev': [_example(2, 'b')], 'test': [_example(3, 'c', 1)]}
  with pytest.raises(UserError, match="training examples of the probe p are all of one class, 'no'"):
    examples.build('p', 'P', 'classification', parts, Sizes(), ('no', 'yes'))
  with pytest.raises(UserError, match='p has no example for its dev split'):
    examples.build('p', 'P', 'classification', dict(parts, dev=[]), Sizes(), ('no', 'yes'))


@pytest.mark.parametrize(
  ('change', 'sign'), [({'train': 0}, 'Sizes.train is 0'), ({'span_tokens': 4}, 'Sizes.span_tokens is 4')]
)
def test_sizes_are_checked(change, sign):
  with pytest.raises(UserError, match=sign):
    Sizes(**change)


def _local(tmp_path, records, **settings):
  (tmp_path / 'a.jsonl').write_text('\n'.join(json.dumps(record) for record in records))
  return corpora.LocalText(pattern=str(tmp_path / 'a.jsonl'), **settings)


def _topics(corpus):
  with source(['x' * 40], 64) as opened:
    return topics.topic(material.Material(opened, corpus, EVERYTHING))


def test_labels_of_a_local_corpus(tmp_path):
  records = [{'id': i, 'text': f'text {i}', 'label': ['cat', 'dog', 7][i % 3]} for i in range(200)]
  records += [{'id': 'unlabelled', 'text': 'x'}, {'id': 'odd', 'text': 'x', 'label': ['a', 'list']}]
  probe = _topics(_local(tmp_path, records))
  assert probe.classes == ('7', 'cat', 'dog')
  found = {one.id: probe.classes[one.label] for split in examples.SPLITS for one in probe.splits[split]}
  assert found == {f'a.jsonl:{i}': str(['cat', 'dog', 7][i % 3]) for i in range(200)}
  assert min(len(probe.splits[split]) for split in examples.SPLITS) > 3
  renamed = [{'id': i, 'text': f'text {i}', 'kind': 'cat' if i % 2 else 'dog'} for i in range(100)]
  assert _topics(_local(tmp_path, renamed, label_field='kind')).classes == ('cat', 'dog')


def test_a_corpus_without_labels_is_named(tmp_path):
  with pytest.raises(UserError, match='No training document of the corpus has a label'):
    _topics(_local(tmp_path, [{'text': f'text {i}'} for i in range(50)]))
  with pytest.raises(UserError, match="are all of one class, 'cat'"):
    _topics(_local(tmp_path, [{'text': f'text {i}', 'label': 'cat'} for i in range(90)]))
  with pytest.raises(UserError, match='There is no corpus to make a probe of'):
    _topics(None)


def test_spans_of_text_without_names_are_named(tmp_path):
  corpus = _local(tmp_path, [{'text': f'nothing here has a name {i}.'} for i in range(50)])
  with source(['x' * 40], 64) as opened, pytest.raises(UserError, match='probe_span has no example for its test split'):
    cloze.span(material.Material(opened, corpus, EVERYTHING))


@pytest.mark.parametrize('name', ['topics', '', 'tfds:', 'glue/sst2'])
def test_unknown_probes_are_named(name):
  with pytest.raises(UserError, match=f"There is no probe '{name}'; PROBES names 'topic', 'span', or 'tfds:NAME'"):
    named.check(name)


@pytest.fixture(scope='module')
def encoder():
  with source(['x'], 64) as opened:
    yield material.Encoder(opened.vocabulary)


def test_rows_say_what_the_texts_say(encoder):
  special = encoder.special
  one = Example('e', 'c', ('Who is X here?', 'It is X or Y.'), answers=((6, 7),), gap=(7, 8))
  made = rows.encode([one], encoder, 40, is_span=True)
  tokens, length = made.features['tokens'][0], int(made.features['lengths'][0])
  question = [*encoder.encode(['Who is '])[0], special.mask, *encoder.encode([' here?'])[0]]
  expected = [special.bos, *question, special.eos, *encoder.encode(['It is X or Y.'])[0], special.eos]
  assert tokens[:length].tolist() == expected
  assert not tokens[length:].any()
  begin = len(question) + 2
  assert np.flatnonzero(made.features['passage'][0]).tolist() == list(range(begin, length - 1))
  assert np.flatnonzero(made.features['starts'][0]).tolist() == [begin + 6]
  assert np.flatnonzero(made.features['ends'][0]).tolist() == [begin + 6]


def test_long_texts_lose_their_ends(encoder):
  pair = Example('e', 'c', ('a' * 30, 'b' * 10), 1)
  made = rows.encode([pair], encoder, 23, is_span=False)
  text = encoder.decode(made.features['tokens'][0])
  assert (text.count('a'), text.count('b')) == (10, 10)
  assert made.features['lengths'].tolist() == [23]
  assert made.features['labels'].tolist() == [1]
  cut = Example('e', 'c', ('q', 'b' * 30), answers=((25, 26),))
  assert not rows.encode([cut], encoder, 23, is_span=True).answerable().any()
  assert rows.encode([cut], encoder, 40, is_span=True).answerable().all()
  half = Example('e', 'c', ('q', 'b' * 30), answers=((15, 26),))  # begins in the row and ends behind it
  assert not rows.encode([half], encoder, 23, is_span=True).answerable().any()


def test_needed_length(encoder):
  one = Example('e', 'c', ('a' * 12,), 0)
  assert rows.needed_length([one], encoder, 100) == 16  # bos, 12, eos
  assert rows.needed_length([one], encoder, 8) == 8


def test_baseline_is_the_most_frequent_name_that_is_not_asked_with():
  passage = 'Bonn, Rome and Oslo. Rome and Oslo. Rome.'
  candidates = tuple(match.span() for match in re.finditer('Bonn|Rome|Oslo', passage))
  one = Example('e', 'c', ('X is far from Rome.', passage), answers=((0, 4),), gap=(0, 1), candidates=candidates)
  assert cloze.most_frequent(one) == 'Oslo'
  assert cloze.most_frequent(one._replace(texts=('X is far.', passage))) == 'Rome'
