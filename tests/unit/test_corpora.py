"""Where text comes from, and what a user is told when there is none."""

import json

import numpy as np
import pytest
import unmask
from unmask.tasks import corpora


def _write(tmp_path, **files):
  for name, content in files.items():
    path = tmp_path / name.replace('__', '.')
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _read(tmp_path, pattern='*', **settings):
  return list(corpora.LocalText(pattern=str(tmp_path / pattern), **settings).documents())


def _error(tmp_path, pattern='*', **settings):
  with pytest.raises(unmask.UserError) as caught:
    _read(tmp_path, pattern, **settings)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_a_text_file_is_one_document(tmp_path):
  _write(tmp_path, b__txt='second\n\n\nfile \u00e9', a__txt='first')
  one, two = str(tmp_path / 'a.txt'), str(tmp_path / 'b.txt')
  assert _read(tmp_path, '*.txt') == [
    {'id': 'a.txt:0', 'text': 'first', 'source': one},
    {'id': 'b.txt:0', 'text': 'second\n\n\nfile \u00e9', 'source': two},
  ]


def test_a_separator_splits_a_file(tmp_path):
  _write(tmp_path, a__txt='one\n==\n  \n==\ntwo\n==\nthree')
  documents = _read(tmp_path, separator='\n==\n')
  assert [d['text'] for d in documents] == ['one', 'two', 'three']  # a part without text is none
  assert len({d['id'] for d in documents}) == 3


def test_json_lines(tmp_path):
  records = [{'text': 'one\ntwo', 'id': 'x'}, {'text': 'caf\u00e9', 'id': 7}, {'text': 'three'}]
  _write(tmp_path, a__jsonl='\n'.join(map(json.dumps, records)) + '\n\n', b__json='{"text": "four"}')
  documents = _read(tmp_path)
  assert [d['text'] for d in documents] == ['one\ntwo', 'caf\u00e9', 'three', 'four']
  path = str(tmp_path / 'a.jsonl')
  assert [d['id'] for d in documents[:3]] == ['a.jsonl:x', 'a.jsonl:7', 'a.jsonl:3']
  assert {d['source'] for d in documents} == {path, str(tmp_path / 'b.json')}


def test_a_text_field_of_another_name(tmp_path):
  _write(tmp_path, a__jsonl='{"body": "one"}')
  assert [d['text'] for d in _read(tmp_path, text_field='body')] == ['one']


def test_patterns_reach_into_folders_and_skip_them(tmp_path):
  (tmp_path / 'x.txt').mkdir()
  (tmp_path / 'deep' / 'er').mkdir(parents=True)
  (tmp_path / 'deep' / 'er' / 'a.txt').write_text('one')
  assert [d['text'] for d in _read(tmp_path, '**/*.txt')] == ['one']


def test_no_match(tmp_path):
  message = _error(tmp_path, 'nothing*.txt')
  assert str(tmp_path / 'nothing*.txt') in message
  with pytest.raises(unmask.UserError, match='No file'):
    corpora.LocalText(pattern=str(tmp_path / 'nothing*.txt')).fingerprint()


def test_an_empty_corpus(tmp_path):
  _write(tmp_path, a__txt='', b__txt=' \n\t', c__jsonl='\n{"text": " "}\n')
  assert 'empty' in _error(tmp_path)
  assert str(tmp_path) in _error(tmp_path)


@pytest.mark.parametrize(
  ('name', 'content', 'what'),
  [
    ('a.txt', b'caf\xe9 in latin-1', 'not UTF-8 text (byte 3)'),
    ('a.txt', 'UTF-16'.encode('utf-16'), 'not UTF-8'),
    ('a.txt', b'\x7fELF\x00\x01\x02\x00\x00\x00', 'binary'),
    ('a.bin', bytes(range(128)) * 4, 'binary'),
    ('a.jsonl', b'{"text": "caf\xe9"}', 'line 1 is not UTF-8'),
    ('a.jsonl', b'{"text": "one"}\n{"text": "two"', 'line 2 is not a JSON object'),
    ('a.jsonl', b'{"text": "one"}\n\nplain', 'line 3 is not a JSON object'),
    ('a.jsonl', b'{"body": "one"}', "'text' field"),
    ('a.jsonl', b'["text"]', "'text' field"),
    ('a.jsonl', b'"text"', "'text' field"),
    ('a.jsonl', b'5', "'text' field"),
    ('a.json', b'{\n  "text": "pretty"\n}', 'line 1'),
  ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, what):
  (tmp_path / name).write_bytes(content)
  message = _error(tmp_path)
  assert str(tmp_path / name) in message
  assert what in message


def test_a_few_control_characters_are_text():
  text = 'a' * 990 + '\0' * 10
  assert corpora.decode(text.encode(), 'x') == text
  with pytest.raises(unmask.UserError, match='x looks like binary'):
    corpora.decode(('a' * 989 + '\0' * 11).encode(), 'x')


@pytest.mark.parametrize('value', ['null', '{"a": 1}', '["one"]', 'true'])
def test_a_text_field_that_holds_no_text_is_not_made_into_one(tmp_path, value):
  _write(tmp_path, a__jsonl=f'{{"text": "one"}}\n{{"text": {value}}}\n')
  assert f'{tmp_path / "a.jsonl"} line 2' in _error(tmp_path)


def test_half_a_character_in_a_json_line(tmp_path):
  _write(tmp_path, a__jsonl='{"text": "one \\ud83d"}')  # an escape that stands for no character
  assert f'{tmp_path / "a.jsonl"} line 1' in _error(tmp_path)


def test_ids_are_unique_over_files(tmp_path):
  _write(tmp_path, a__jsonl='{"text": "one", "id": 1}', b__jsonl='{"text": "two", "id": 1}')
  ids = [d['id'] for d in _read(tmp_path)]
  assert len(set(ids)) == 2


def test_fingerprint_follows_files_and_settings(tmp_path):
  _write(tmp_path, a__txt='one')
  corpus = corpora.LocalText(pattern=str(tmp_path / '*'))
  seen = [corpus.fingerprint(), corpora.LocalText(pattern=corpus.pattern, separator='x').fingerprint()]
  seen.append(corpora.LocalText(pattern=corpus.pattern, text_field='body').fingerprint())
  assert corpus.fingerprint() == seen[0]
  _write(tmp_path, a__txt='other')
  seen.append(corpus.fingerprint())
  _write(tmp_path, b__txt='two')
  seen.append(corpus.fingerprint())
  assert len(set(seen)) == 5


@pytest.fixture(scope='module')
def tfds_dir(tmp_path_factory) -> str:
  """A folder with one small prepared TFDS dataset, 'tiny_text'."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  folder = tmp_path_factory.mktemp('tfds')
  place = folder / 'tiny_text' / '1.0.0'
  place.mkdir(parents=True)
  features = tfds.features.FeaturesDict({'text': tfds.features.Text(), 'label': tfds.features.Scalar(np.int64)})
  template = tfds.core.ShardedFileTemplate(dataset_name='tiny_text', filetype_suffix='tfrecord', data_dir=place)
  splits = []
  for split, count in {'train': 12, 'test': 3}.items():
    with tf.io.TFRecordWriter(str(place / f'tiny_text-{split}.tfrecord-00000-of-00001')) as writer:
      for i in range(count):
        writer.write(features.serialize_example({'text': f'document {i} \u00e9', 'label': i}))
    info = {'name': split, 'shard_lengths': [count], 'num_bytes': 0}
    splits.append(tfds.core.SplitInfo(**info, filename_template=template.replace(split=split)))
  tfds.folder_dataset.write_metadata(data_dir=place, features=features, split_infos=splits, check_data=False)
  return str(folder)


# A field of its protocol buffers is on its way out.
_tfds_warns = pytest.mark.filterwarnings('ignore:label.. is deprecated:DeprecationWarning')


def _tfds(tfds_dir, name='tiny_text:1.0.0', **settings):
  return corpora.TfdsText(name=name, data_dir=tfds_dir, **settings)


@_tfds_warns
def test_tfds(tfds_dir):
  documents = list(_tfds(tfds_dir).documents())
  assert sorted(d['text'] for d in documents) == sorted(f'document {i} \u00e9' for i in range(12))
  assert [d['id'] for d in documents] == [f'tiny_text:1.0.0:{i}' for i in range(12)]
  assert {d['source'] for d in documents} == {'tiny_text:1.0.0'}
  assert documents == list(_tfds(tfds_dir).documents())  # a fixed order
  assert len(list(_tfds(tfds_dir, split='test').documents())) == 3
  changes = [{}, {'split': 'test'}, {'text_field': 'label'}, {'name': 'x'}]
  assert len({_tfds(tfds_dir, **change).fingerprint() for change in changes}) == 4


@_tfds_warns
def test_tfds_makes_a_dataset(tmp_path):
  import tensorflow_datasets as tfds

  features = tfds.features.FeaturesDict({'text': tfds.features.Text()})
  splits = {'train': [(0, {'text': 'one'}), (1, {'text': 'two'})]}
  tfds.dataset_builders.store_as_tfds_dataset('made_here', '1.0.0', features, splits, data_dir=tmp_path)
  documents = _tfds(str(tmp_path), name='made_here').documents()
  assert sorted(d['text'] for d in documents) == ['one', 'two']


@_tfds_warns
@pytest.mark.parametrize(
  ('settings', 'what'),
  [
    ({'split': 'missing'}, "split 'missing'"),
    ({'name': 'no_such_dataset_here'}, 'no_such_dataset_here'),
    ({'text_field': 'body'}, "'body'; it has"),
    ({'text_field': 'label'}, "'label'"),
  ],
)
def test_tfds_that_cannot_be_read(tfds_dir, settings, what):
  with pytest.raises(unmask.UserError) as caught:
    list(_tfds(tfds_dir, **settings).documents())
  assert what in str(caught.value)
  assert '\n' not in str(caught.value)


def _is_its_parts(corpus):
  assert isinstance(corpus, corpora.ShardedCorpus)
  parts = [list(corpora.read(corpus, shard)) for shard in corpora.shards(corpus)]
  assert [document for part in parts for document in part] == list(corpus.documents())
  return [len(part) for part in parts]


def test_local_text_is_read_file_by_file(tmp_path):
  _write(tmp_path, a__txt='one', b__txt=' ', c__jsonl='{"text": "x"}\n{"text": "y"}\n', d__txt='two')
  assert _is_its_parts(corpora.LocalText(pattern=f'{tmp_path}/*')) == [1, 0, 2, 1]


@_tfds_warns
def test_tfds_is_read_file_by_file(tfds_dir, tmp_path):
  import tensorflow as tf
  import tensorflow_datasets as tfds

  assert _is_its_parts(_tfds(tfds_dir)) == [12]
  place = tmp_path / 'many' / '1.0.0'
  place.mkdir(parents=True)
  features = tfds.features.FeaturesDict({'text': tfds.features.Text()})
  template = tfds.core.ShardedFileTemplate(
    dataset_name='many', filetype_suffix='tfrecord', data_dir=place, split='train'
  )
  lengths, count = [40, 0, 30, 5], 0
  for number, length in enumerate(lengths):
    with tf.io.TFRecordWriter(f'{place}/many-train.tfrecord-{number:05d}-of-00004') as writer:
      for _ in range(length):
        writer.write(features.serialize_example({'text': f'document {count}'}))
        count += 1
  split = tfds.core.SplitInfo(name='train', shard_lengths=lengths, num_bytes=0, filename_template=template)
  tfds.folder_dataset.write_metadata(data_dir=place, features=features, split_infos=[split], check_data=False)
  corpus = _tfds(str(tmp_path), 'many:1.0.0')
  assert _is_its_parts(corpus) == [40, 30, 5]
  assert [d['text'] for d in corpus.documents()] == [f'document {i}' for i in range(75)]  # file by file, in order
  assert _is_its_parts(_tfds(str(tmp_path), 'many:1.0.0', split='train[10:50]')) == [40]


def test_is_validation_takes_its_share_and_depends_on_the_id_alone():
  ids = [f'wiki:{i}' for i in range(20_000)]
  held_out = [corpora.is_validation(i, 20) for i in ids]
  assert sum(held_out) == pytest.approx(1000, abs=120)  # 4 standard deviations
  assert held_out == [corpora.is_validation(i, 20) for i in ids]
  assert [i for i in range(50) if corpora.is_validation(f'{i}', 10)] == [4, 42]
  assert all(corpora.is_validation(i, 1) for i in ids[:100])
  assert corpora.is_validation('caf\u00e9', 1)
