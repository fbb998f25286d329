"""Words, marks and line ends of a text, and which of them owns each character."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from unmask.tasks.units import words

_settings = hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("ab1_ '\u2019.\n-\t\u00e9")), max_size=40)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('', []),
    (' \t\r', []),
    ("Don't stop", ["Don't", 'stop']),
    ('don\u2019t', ['don\u2019t']),
    ("'quoted' dogs'", ["'", 'quoted', "'", 'dogs', "'"]),
    ("rock'n'roll's", ["rock'n'roll's"]),
    ('well-known, 3.5%', ['well', '-', 'known', ',', '3', '.', '5', '%']),
    ('a\n\nb', ['a', '\n', '\n', 'b']),
    ('na\u00efve \u65e5\u672c\u3002', ['na\u00efve', '\u65e5\u672c', '\u3002']),
    ('snake_case _x', ['snake_case', '_x']),
    ('...', ['.', '.', '.']),
  ],
)
def test_split(text, expected):
  assert words.split(text).texts == expected


def test_is_word_tells_words_from_marks_and_line_ends():
  document = words.split("It's 1990, _x \u00e9!\n")
  assert document.texts == ["It's", '1990', ',', '_x', '\u00e9', '!', '\n']
  assert document.is_word() == [True, True, False, True, True, False, False]


@hypothesis.given(_TEXT)
@_settings
def test_split_keeps_every_visible_character_once_and_in_order(text):
  document = words.split(text)
  assert [text[b:e] for b, e in zip(document.begins, document.ends, strict=True)] == document.texts
  assert all(document.texts)
  assert (document.begins[1:] >= document.ends[:-1]).all()
  assert ''.join(document.texts) == ''.join(c for c in text if c == '\n' or not c.isspace())
  assert document.begins.dtype == document.ends.dtype == np.int64
  for token, is_word in zip(document.texts, document.is_word(), strict=True):
    assert is_word == bool(re.fullmatch(r"\w(['\u2019\w]*\w)?", token))
    assert is_word or len(token) == 1


@hypothesis.given(_TEXT)
@_settings
def test_words_are_as_long_as_can_be(text):
  document = words.split(text)
  is_word = document.is_word()
  for i in range(len(document.texts) - 1):
    touching = document.ends[i] == document.begins[i + 1]
    assert not (touching and is_word[i] and is_word[i + 1])


def test_normalise_folds_case_and_apostrophes():
  assert words.normalise('Don\u2019T') == "don't" == words.normalise("DON'T")
  assert words.normalise('\u00c9t\u00e9') == '\u00e9t\u00e9'


@hypothesis.given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8), st.integers(0, 5))
@_settings
def test_owner_of_characters_is_a_scan(gaps_and_sizes, tail):
  begins, ends, at = [], [], 0
  for gap, size in gaps_and_sizes:
    begins.append(at + gap)
    at = at + gap + size
    ends.append(at)
  length = at + tail
  expected = [-1] * length
  for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
    expected[begin:end] = [number] * (end - begin)
  owner = words.owner_of_characters(np.array(begins, np.int64), np.array(ends, np.int64), length)
  assert owner.dtype == np.int64
  assert owner.tolist() == expected
