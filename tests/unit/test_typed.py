"""Which values fit which annotations, and the sentences about those that do not."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import pytest
from unmask.launch import typed
from unmask.tasks import corpora
from unmask.tasks.units import salience, spacy_tagger


class _Base:
  pass


class _Derived(_Base):
  pass


class _Reads(Protocol):
  field: int

  def read(self) -> str: ...


@dataclasses.dataclass
class _Reader:
  field: int

  def read(self) -> str:
    return ''


@pytest.mark.parametrize(
  ('value', 'hint', 'fits'),
  [
    (3, int, True),
    (True, int, False),
    (3.0, int, False),
    ('3', int, False),
    (3, float, True),
    (True, float, False),
    (float('nan'), float, False),
    (float('inf'), float, False),
    (1j, float, False),
    (None, int | None, True),
    (None, int, False),
    ('a', str, True),
    ('a\0', str, False),
    (None, str, False),
    ('a', Literal['a', 'b'], True),
    ('c', Literal['a', 'b'], False),
    ({}, Literal['a', 'b'], False),
    (True, bool, True),
    (1, bool, False),
    ([1, 2], Sequence[int], True),
    ((1, 'a'), Sequence[int], False),
    ('ab', Sequence[str], False),
    ((0.5, 1), tuple[float, ...], True),
    ((0.5, 'a'), tuple[float, ...], False),
    ((1, 'a'), tuple[int, str], True),
    ((1,), tuple[int, str], False),
    ({'targets': 3}, Mapping[str, int], True),
    ({'targets': '3'}, Mapping[str, int], False),
    (3, Mapping[str, int], False),
    (len, Callable[[Any], int], True),
    (3, Callable[[Any], int], False),
    (typed.Made(_Derived), _Base, True),
    (typed.Made(_Base), _Derived, False),
    (typed.Made(_Base), int, False),
    (typed.Made(_Base), _Base | None, True),
    (5, _Base, False),
    (typed.Made(_Reader), _Reads, True),
    (typed.Made(_Base), _Reads, False),
    ('text', _Reads, False),
    (typed.Made(corpora.LocalText), corpora.Corpus, True),
    (typed.Made(spacy_tagger.SpacyTagger), salience.SpanTagger | None, True),
    (typed.UNKNOWN, int, True),
    (object(), Any, True),
  ],
)
def test_fits(value, hint, fits):
  assert typed.fits(value, hint) is fits


@pytest.mark.parametrize(
  ('hint', 'words'),
  [
    (int | None, 'a whole number or None'),
    (Literal['a', 'b'], "one of 'a', 'b'"),
    (_Base, 'a _Base'),
    (Mapping[str, int], 'Mapping[str, int]'),
    (float | corpora.LocalText, 'a number or a LocalText'),
  ],
)
def test_described(hint, words):
  assert typed.described(hint) == words


def test_hints_are_of_the_parameters():
  assert typed.hints(corpora.LocalText) == {
    'pattern': str,
    'text_field': str,
    'label_field': str,
    'separator': str | None,
  }
  assert 'return' not in typed.hints(corpora.require)
