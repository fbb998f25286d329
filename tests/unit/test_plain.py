"""Data between processes: the same after the way, and nothing that is read chooses what runs."""

import dataclasses
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unmask.tasks import spill
from unmask.tasks.preparation import plain, stages
from unmask.tasks.units import rule_tagger, salience, spacy_tagger

_KEYS = st.text().filter(lambda key: key != '=')
_VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.frozensets(st.text()),
  lambda inside: st.lists(inside) | st.lists(inside).map(tuple) | st.dictionaries(_KEYS, inside),
)
_JOB = {'folder': '/f', 'name': 'n', 'shards': 3, 'validation_one_in': 4, 'salient_labels': ('NAME',)}


@given(_VALUES)
def test_values_are_the_same_after_the_way(value):
  line = plain.dump(value)
  assert b'\n' not in line
  assert plain.load(line, plain.among()) == value


@pytest.mark.parametrize('dtype', ['int64', 'float32', 'bool', 'uint8'])
def test_arrays(dtype):
  value = np.arange(12).reshape(3, 4)[:, ::2].astype(dtype)
  found = plain.load(plain.dump(value), plain.among())
  np.testing.assert_array_equal(found, value)
  assert found.dtype == value.dtype
  found[0] = 1  # it can be written to


@pytest.mark.parametrize('tagger', [None, spacy_tagger.SpacyTagger(), rule_tagger.RuleTagger(salience.Gazetteer(
  frozenset({'a', 'b'}), frozenset({'c'})))], ids=['none', 'spacy', 'rules'])  # fmt: skip
@pytest.mark.parametrize('kind', [stages.Annotate, stages.WordForms])
def test_stages(kind, tagger):
  stage = kind(stages.Job(tagger=tagger, **_JOB))
  assert plain.load(plain.dump(stage), plain.anywhere) == stage


def test_functions_go_by_name():
  assert plain.load(plain.dump(spill.stream), plain.anywhere) is spill.stream


class _NoData:
  pass


@dataclasses.dataclass
class _Holds:
  value: object


def test_what_is_no_data_or_has_no_name_is_refused():
  @dataclasses.dataclass
  class Inside:
    pass

  for value in (_NoData(), {1: 2}, {'=': 1}, Inside(), lambda: 0, object, np.array(['a'], object), _Holds(_NoData())):
    with pytest.raises(TypeError, match=r'no data|by its name'):
      plain.dump(value)


def test_a_file_makes_nothing_but_what_is_known(tmp_path):
  found = plain.among(spill.Counts)
  assert plain.load(plain.dump(spill.Counts(documents=3)), found) == spill.Counts(documents=3)
  made = tmp_path / 'made'
  for name in ('os:system', 'pathlib:Path.touch', 'unmask.tasks.preparation.stages:Job', 'subprocess:run'):
    line = f'{{"=": "dataclass", "name": "{name}", "fields": {{"self": "{made}", "command": "touch {made}"}}}}'.encode()
    with pytest.raises(ValueError, match='no value of ours'):
      plain.load(line, found)
  with pytest.raises(ValueError, match='no value of ours'):
    plain.load(plain.dump(stages.WordForms(stages.Job(tagger=None, **_JOB))), found)
  with pytest.raises(ValueError, match='no value of ours'):
    plain.load(b'{"=": "dataclass", "name": "os:system", "fields": {"command": "true"}}', plain.anywhere)
  assert not pathlib.Path(made).exists()


@pytest.mark.parametrize(
  'line', [b'', b'{', b'\x80\x04K\x01.', b'{"=": "code"}', b'{"=": "tuple"}', b'\xff', b'{"=": []}']
)
def test_what_is_not_ours_is_refused(line):
  with pytest.raises(ValueError):
    plain.load(line, plain.anywhere)
