"""docs/objectives.md holds every objective that ships: what it does, its source, our deviation, what it is for."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / 'gin' / 'objectives').glob('*.gin'))
PAGE = (ROOT / 'docs' / 'objectives.md').read_text()


def _rows(first_line: str) -> dict[str, list[str]]:
  """The rows of the table that begins with this line, by gin file; its bars inside `code` are no columns."""
  table = PAGE[PAGE.index(first_line) :].split('\n\n')[0].splitlines()[2:]
  cells = [[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in table]
  return {row[0].strip('`'): row[1:] for row in cells}


WHAT = _rows('| gin file | what it does | source | deviation |')
FOR = _rows('| gin file | choose it for |')


def test_the_tables_have_these_objectives_and_no_others():
  assert sorted(WHAT) == sorted(FOR) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_nothing_is_left_open(name):
  does, source, deviation = WHAT[name]
  (purpose,) = FOR[name]
  assert all((does, source, deviation, purpose))  # "–" says that there is none
