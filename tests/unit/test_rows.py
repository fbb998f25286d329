"""Rows cut from documents against a plain Python cutter."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import unmask
from unmask.objectives.base import SpecialTokens
from unmask.tasks import rows

_SPECIAL = SpecialTokens(pad=0, eos=1, bos=2, mask=4, end_of_span=5, sentinels=tuple(range(6, 22)), text=(32, 100))
_UNITS = ('word_ids', 'salient_ids')
_settings = hypothesis.settings(max_examples=12, deadline=None, derandomize=True)


@st.composite
def _document(draw, max_size=24):
  """Tokens with units: words of one to three tokens, some of them salient, with or without bos and eos."""
  sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6), st.booleans()), max_size=max_size // 3))
  tokens, word_ids, salient_ids = [], [], []
  for number, (size, salient_size, is_salient) in enumerate(sizes, 1):
    size = salient_size + 1 if is_salient else size
    tokens += [32 + (7 * number + i) % 60 for i in range(size)]
    word_ids += [number] * size
    salient_ids += [number * is_salient] * size
  if tokens and draw(st.booleans()):
    tokens, word_ids, salient_ids = [2, *tokens], [0, *word_ids], [0, *salient_ids]
  if tokens and draw(st.booleans()):
    tokens, word_ids, salient_ids = [*tokens, 1], [*word_ids, 0], [*salient_ids, 0]
  return {'targets': tokens, 'word_ids': word_ids, 'salient_ids': salient_ids}


def _plain(tokens):
  return {'targets': tokens, 'word_ids': [1] * len(tokens), 'salient_ids': [0] * len(tokens)}


def _make(documents, length, units=_UNITS):
  names = ('targets', *_UNITS)
  signature = {name: tf.TensorSpec([None], tf.int32) for name in names}
  arrays = [{name: np.array(document[name], np.int32) for name in names} for document in documents]
  dataset = tf.data.Dataset.from_generator(lambda: iter(arrays), output_signature=signature)
  made = rows.make_rows(dataset, length, _SPECIAL, units)
  assert made.element_spec['example_id'].dtype == tf.int64
  for name in ('targets', 'segment_ids', *units):
    assert made.element_spec[name] == tf.TensorSpec([length], tf.int32)
  return list(made.as_numpy_iterator())


def _closed(document):
  """The document with bos and eos, as (token, word, salient) triples."""
  triples = list(zip(*(document[name] for name in ('targets', *_UNITS)), strict=True))
  front = [] if triples[0][0] == 2 else [(2, 0, 0)]
  back = [] if triples[-1][0] == 1 else [(1, 0, 0)]
  return [*front, *triples, *back]


def _expected(documents, length):
  """Rows as dictionaries of lists, cut with loops over single tokens."""
  kept = [_closed(document) for document in documents if document['targets']]
  found = []
  stream = [(n, *triple) for n, document in enumerate(kept) for triple in document]
  place = {}  # the places of each run of one salient id
  run = 0
  for i, (n, _, _, salient) in enumerate(stream):
    run += i > 0 and (n, salient) != (stream[i - 1][0], stream[i - 1][3])
    place.setdefault(run, []).append(i)
  whole = {i for places in place.values() for i in places if places[0] // (length - 1) == places[-1] // (length - 1)}
  stream = [(n, t, w, s * (i in whole)) for i, (n, t, w, s) in enumerate(stream)]
  for low in range(0, len(stream), length - 1):
    piece = stream[low : low + length - 1]
    if piece[0][1] != 2:
      piece = [(piece[0][0], 2, 0, 0), *piece]
    order = sorted({n for n, *_ in piece})
    row = {
      'targets': [t for _, t, _, _ in piece],
      'word_ids': [w for _, _, w, _ in piece],
      'salient_ids': [s for _, _, _, s in piece],
      'segment_ids': [1 + order.index(n) for n, *_ in piece],
    }
    row = {name: values + [0] * (length - len(values)) for name, values in row.items()}
    found.append(row | {'example_id': len(found)})
  return found


@pytest.fixture(scope='module')
def monkeypatch_module():
  with pytest.MonkeyPatch.context() as patch:
    yield patch


def _same(made, expected):
  assert [{name: np.asarray(value).tolist() for name, value in row.items()} for row in made] == expected


@hypothesis.given(documents=st.lists(_document(), max_size=8), length=st.integers(4, 12))
@_settings
def test_rows_are_those_of_a_plain_cutter(documents, length):
  _same(_make(documents, length), _expected(documents, length))


@hypothesis.given(documents=st.lists(_document(), max_size=8), length=st.integers(4, 12))
@_settings
def test_every_token_is_in_one_row_and_every_segment_starts_with_bos(documents, length):
  made = _make(documents, length)
  kept = [[token for token, _, _ in _closed(document)] for document in documents if document['targets']]
  stream = []
  for row in made:
    tokens, segments = row['targets'], row['segment_ids']
    used = int((tokens != 0).sum())
    assert (tokens[:used] != 0).all()
    assert (segments[:used] > 0).all()
    assert (segments[used:] == 0).all()
    starts = np.flatnonzero(np.diff(segments[:used], prepend=0))
    assert segments[starts].tolist() == list(range(1, len(starts) + 1))
    assert starts.tolist() == np.flatnonzero(tokens == 2).tolist()
    carried_on = bool(stream) and stream[-1] != 1  # the row goes on with a document: its bos is an extra one
    stream += tokens[carried_on:used].tolist()
  assert stream == [token for document in kept for token in document]
  assert all((row['targets'] != 0).sum() >= length - 1 for row in made[:-1])
  assert [row['example_id'] for row in made] == list(range(len(made)))


def test_a_document_longer_than_many_rows():
  tokens = [32 + i % 60 for i in range(100)]
  made = _make([_plain(tokens)], 8)
  assert len(made) == 15  # 102 tokens, 7 a row
  assert made[0]['targets'].tolist() == [2, *tokens[:6], 0]
  for i, row in enumerate(made[1:-1], 1):
    assert row['targets'].tolist() == [2, *tokens[7 * i - 1 : 7 * i + 6]]
    assert row['segment_ids'].tolist() == [1] * 8
  assert made[-1]['targets'].tolist() == [2, tokens[97], tokens[98], tokens[99], 1, 0, 0, 0]
  assert made[-1]['segment_ids'].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_one_token_documents():
  made = _make([_plain([40]), _plain([41]), _plain([2]), _plain([1])], 7)
  assert [row['targets'].tolist() for row in made] == [[2, 40, 1, 2, 41, 1, 0], [2, 1, 2, 1, 0, 0, 0]]
  assert [row['segment_ids'].tolist() for row in made] == [[1, 1, 1, 2, 2, 2, 0], [1, 1, 2, 2, 0, 0, 0]]


def test_empty_documents_are_dropped():
  made = _make([_plain([]), _plain([40, 41]), _plain([]), _plain([42])], 8)
  assert [row['targets'].tolist() for row in made] == [[2, 40, 41, 1, 2, 42, 1, 0]]
  assert _make([_plain([]), _plain([])], 8) == []
  assert _make([], 8) == []


def test_bos_and_eos_are_not_doubled():
  made = _make([_plain([2, 40, 1]), _plain([2, 41]), _plain([42, 1])], 10)
  assert made[0]['targets'].tolist() == [2, 40, 1, 2, 41, 1, 2, 42, 1, 0]


@pytest.mark.parametrize(('first', 'size'), [(4, 3), (5, 2), (1, 20), (5, 9), (6, 8)])
def test_a_salient_run_that_a_row_edge_cuts_is_none(first, size):
  tokens = [40 + i for i in range(30)]
  salient = [0] * 30
  salient[first - 1 : first - 1 + size] = [7] * size  # behind the bos, `first` is a place in the stream
  kept = [0] * 28 + [9, 9]
  document = {'targets': tokens, 'word_ids': list(range(1, 31)), 'salient_ids': np.add(salient, kept).tolist()}
  made = _make([document], 7)
  crosses = first // 6 != (first + size - 1) // 6
  assert sum(int((row['salient_ids'] == 7).sum()) for row in made) == (0 if crosses else size)
  assert sum(int((row['salient_ids'] == 9).sum()) for row in made) == 0  # tokens 29 and 30: the edge is between them
  assert sorted(i for row in made for i in row['word_ids'] if i) == list(range(1, 31))  # words are kept


def test_runs_beside_an_edge_and_in_the_next_document_are_kept():
  one = {'targets': [40, 41, 42, 1], 'word_ids': [1, 2, 3, 0], 'salient_ids': [0, 0, 5, 5]}
  two = {'targets': [2, 50, 51, 52, 53], 'word_ids': [0, 1, 2, 3, 4], 'salient_ids': [5, 5, 0, 0, 6]}
  made = _make([one, two], 6)  # cut after each 5th token
  assert [row['targets'].tolist() for row in made] == [
    [2, 40, 41, 42, 1, 0],
    [2, 50, 51, 52, 53, 0],
    [2, 1, 0, 0, 0, 0],
  ]
  assert [row['salient_ids'].tolist() for row in made] == [[0, 0, 0, 5, 5, 0], [5, 5, 0, 0, 6, 0], [0] * 6]


def test_rows_as_the_last_preprocessor_of_a_task():
  documents = [_plain([40, 41, 42]), _plain([43])]
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(documents), output_signature={name: tf.TensorSpec([None], tf.int32) for name in documents[0]}
  )
  to_rows = rows.to_rows(_SPECIAL, _UNITS)
  _same(to_rows(dataset, {'targets': 5}).as_numpy_iterator(), _expected(documents, 5))
  for nothing in (None, {}, {'inputs': 5}):
    with pytest.raises(unmask.UserError, match='sequence_length'):
      to_rows(dataset, nothing)


@hypothesis.given(
  documents=st.lists(_document(), min_size=4, max_size=10), length=st.integers(4, 40), size=st.integers(1, 3)
)
@_settings
def test_rows_do_not_depend_on_how_many_documents_are_read_together(documents, length, size, monkeypatch_module):
  monkeypatch_module.setattr(rows, 'DOCUMENTS_PER_BLOCK', size)
  _same(_make(documents, length), _expected(documents, length))


def test_many_blocks_and_rows_without_units():
  documents = [_plain([32 + i % 60] * (1 + i % 5)) for i in range(150)]
  made = _make(documents, 9, units=())
  expected = _expected(documents, 9)
  _same(made, [{name: row[name] for name in ('targets', 'segment_ids', 'example_id')} for row in expected])
  assert [row['example_id'] for row in made] == list(range(len(made)))
