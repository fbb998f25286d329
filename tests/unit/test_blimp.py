"""BLiMP's files: a folder or an archive gives the same questions, and what is wrong with them is said."""

import io
import json
import re
import tarfile

import pytest
from plain_text import source
from unmask import UserError
from unmask.tasks.questions import blimp
from unmask.tasks.questions.material import Material

TEXTS = [f'Line {n} of a plain text about {n * 37} other things of no name.' for n in range(9)]

_FLAGS = dict.fromkeys(('simple_LM_method', 'one_prefix_method', 'two_prefix_method', 'lexically_identical'), False)


def _pair(name: str, number: int, field: str = 'syntax') -> dict:
  good, bad = f'The cats number {number} sleep.', f'The cats number {number} sleeps.'
  return {'sentence_good': good, 'sentence_bad': bad, 'field': field, 'linguistics_term': 'agreement', 'UID': name}


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'sets').mkdir()
  for name, field in (('second_set', 'syntax/semantics'), ('first_set', 'syntax')):
    lines = [json.dumps(_pair(name, number, field)) for number in range(20)]
    (tmp_path / 'sets' / f'{name}.jsonl').write_text('\n'.join(lines) + '\n')
  (tmp_path / 'sets' / 'README').write_text('no set')
  return tmp_path / 'sets'


def _draw(length: int = 64, **settings):
  with source(TEXTS, length) as opened:
    material = Material(opened)
    return blimp.Blimp(**settings).draw(material), material


def test_pairs_of_a_folder(folder):
  (test, causal), material = _draw(path=str(folder), per_set=None)
  assert (test.name, causal.name, causal.causal) == ('blimp', 'blimp_causal', True)
  assert len(test.items) == 40
  for number, item in enumerate(test.items):
    good, bad = (material.text(query.tokens) for query in item.candidates)
    assert (good, bad) == (f'The cats number {number % 20} sleep.', f'The cats number {number % 20} sleeps.')
    assert all(query.gaps == () and query.tokens[0] == material.special.bos for query in item.candidates)
  assert {item.labels for item in test.items} == {
    ('agreement', 'syntax', 'first_set'),
    ('agreement', 'syntax_semantics', 'second_set'),
  }
  assert test.settings['path'] == 'sets'


@pytest.mark.parametrize('mode', ['w', 'w:gz', 'w:xz'])
def test_an_archive_is_the_folder(folder, mode, tmp_path):
  path = tmp_path / 'sets.tar'
  with tarfile.open(path, mode) as archive:
    archive.add(folder, 'blimp/data')
    info = tarfile.TarInfo('blimp/data/._first_set.jsonl')  # what macOS leaves in archives
    info.size = 4
    archive.addfile(info, io.BytesIO(b'\0\1\2\3'))
  for per_set in (5, None):
    (whole, _), _ = _draw(path=str(folder), per_set=per_set)
    (packed, _), _ = _draw(path=str(path), per_set=per_set)
    assert packed.digest() == whole.digest()


def test_so_many_of_each_set_by_seed(folder):
  (few, _), _ = _draw(path=str(folder), per_set=5)
  assert [item.labels[2] for item in few.items] == ['first_set'] * 5 + ['second_set'] * 5
  (other, _), _ = _draw(path=str(folder), per_set=5, seed=1)
  assert other.digest() != few.digest()


def test_sentences_longer_than_a_row_are_left_out_and_said(folder):
  path = folder / 'first_set.jsonl'
  long = _pair('first_set', 99) | {'sentence_bad': 'The cats ' * 20}
  path.write_text(f'{path.read_text()}{json.dumps(long)}\n')
  (test, _), material = _draw(path=str(folder), per_set=None)
  assert len(test.items) == 40
  assert material.notes == ['1 pairs of BLiMP are longer than a row of 64 tokens.']


def test_without_a_path_it_is_left_out_and_said():
  tests, material = _draw()
  assert tests == []
  assert '--gin.BLIMP=FOLDER' in material.notes[0]


@pytest.mark.parametrize(
  ('name', 'content', 'sign'),
  [
    ('nowhere', None, 'cannot be read (No such file'),
    ('x.tar.xz', b'no archive', 'cannot be read ('),
    ('x', {}, "holds no '.jsonl' file"),
    ('x', {'a.jsonl': '{"sentence_good": "A"}\n'}, 'a.jsonl line 1 is no pair of BLiMP'),
    ('x', {'a.jsonl': f'{json.dumps(_pair("a", 1))}\n[1\n'}, 'a.jsonl line 2 is no pair of BLiMP'),
  ],
)
def test_what_is_wrong_is_said(name, content, sign, tmp_path):
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    path.mkdir()
    for file, text in content.items():
      (path / file).write_text(text)
  with pytest.raises(UserError, match=re.escape(sign)):
    _draw(path=str(path))


def test_per_set_is_checked():
  with pytest.raises(UserError, match=r'Blimp.per_set is 0'):
    blimp.Blimp(per_set=0)


@pytest.mark.filterwarnings('ignore:label.. is deprecated')  # TFDS's own
def test_tfds_gives_the_same_pairs(folder, tmp_path, monkeypatch):
  """TFDS's own builder reads the files and writes its records; only the download is replaced."""
  import tensorflow_datasets as tfds

  data_dir, cls = str(tmp_path / 'tfds'), tfds.builder_cls('blimp')
  names = list(cls.builder_configs)[:2]
  for name in names:
    lines = [json.dumps(_pair(name, number) | _FLAGS | {'pairID': str(number)}) for number in range(20)]
    (folder / f'{name}.jsonl').write_text('\n'.join(lines))
    given = lambda self, urls: {config: str(folder / f'{config}.jsonl') for config in urls}
    monkeypatch.setattr(tfds.download.DownloadManager, 'download_and_extract', given)
    cls(config=name, data_dir=data_dir).download_and_prepare()
  for name in ('first_set', 'second_set'):
    (folder / f'{name}.jsonl').unlink()
  monkeypatch.setattr(cls, 'builder_configs', {name: cls.builder_configs[name] for name in names})
  load = tfds.load
  monkeypatch.setattr(tfds, 'load', lambda name, split: load(name, split=split, data_dir=data_dir, download=False))
  (tests, _), (files, _) = _draw(path='tfds', per_set=None)[0], _draw(path=str(folder), per_set=None)[0]
  one_order = lambda test: sorted((item.labels, item.candidates[0].tokens.tobytes()) for item in test.items)
  assert one_order(tests) == one_order(files)
  assert len(tests.items) == 40


def test_tfds_that_cannot_download_is_said(monkeypatch, tmp_path):
  import tensorflow_datasets as tfds

  load = tfds.load
  monkeypatch.setattr(tfds, 'load', lambda name, split: load(name, split=split, data_dir=str(tmp_path), download=False))
  with pytest.raises(UserError, match="TensorFlow Datasets cannot give 'blimp'"):
    _draw(path='tfds')
