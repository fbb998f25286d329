"""Probes of TFDS, from datasets that the real TFDS wrote to a disk."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from plain_text import source
from tensorflow_datasets.core.download import downloader
from unmask import UserError
from unmask.tasks.probes import examples, material, named
from unmask.tasks.probes.examples import Sizes

# A field of TFDS's protocol buffers is on its way out.
pytestmark = pytest.mark.filterwarnings('ignore:label.. is deprecated:DeprecationWarning')
F = tfds.features


def _store(folder, name, features, splits) -> None:
  """A prepared dataset; `splits` are lists of records."""
  numbered = {split: list(enumerate(records)) for split, records in splits.items()}
  tfds.dataset_builders.store_as_tfds_dataset(name, '1.0.0', F.FeaturesDict(features), numbered, data_dir=folder)


def _load(folder, name, **sizes):
  with source(['x' * 40], 64) as opened:
    made = material.Material(opened, _Nothing(), Sizes(**sizes), tfds_data_dir=str(folder))
    return named.load(f'tfds:{name}', made)


class _Nothing:
  """A corpus of one text, of which the tagger knows its words."""

  def documents(self):
    return iter([{'id': 'a', 'text': 'the river and the city are old'}])


LABEL = F.ClassLabel(names=['bad', 'good'])


def _reviews(count):
  return [{'idx': i, 'sentence': f'review {i} is fine', 'label': i % 2} for i in range(count)]


def test_classification(tmp_path):
  features = {'idx': F.Scalar(np.int64), 'sentence': F.Text(), 'label': LABEL}
  hidden = [dict(one, label=-1) for one in _reviews(9)]  # as GLUE's tests
  _store(tmp_path, 'tiny_sst2', features, {'train': _reviews(60), 'validation': _reviews(5), 'test': hidden})
  probe = _load(tmp_path, 'tiny_sst2', train=1000, dev=1000)
  assert (probe.name, probe.kind, probe.classes) == ('tfds:tiny_sst2', 'classification', ('bad', 'good'))
  assert sorted(one.texts for one in probe.splits['test']) == [(f'review {i} is fine',) for i in range(5)]
  assert all(one.label == int(one.texts[0].split()[1]) % 2 for one in probe.splits['train'])
  clusters = {split: {one.cluster for one in probe.splits[split]} for split in examples.SPLITS}
  assert not clusters['train'] & (clusters['dev'] | clusters['test'])
  assert not clusters['dev'] & clusters['test']
  assert len(probe.splits['train']) + len(probe.splits['dev']) == 55  # five texts are also in the test
  assert len(_load(tmp_path, 'tiny_sst2:1.0.0', test=2, train=7).splits['train']) == 7


def test_pairs(tmp_path):
  label = F.ClassLabel(num_classes=3)
  features = {'premise': F.Text(), 'hypothesis': F.Text(), 'label': label, 'idx': F.Scalar(np.int64)}
  pairs = [{'premise': f'p {i}', 'hypothesis': f'h {i}', 'label': i % 3 - (i == 3), 'idx': i} for i in range(40)]
  _store(tmp_path, 'tiny_mnli', features, {'train': pairs[:36], 'validation_matched': pairs[36:]})
  probe = _load(tmp_path, 'tiny_mnli')
  texts = {one.texts for split in examples.SPLITS for one in probe.splits[split]}
  assert texts == {(f'h {i}', f'p {i}') for i in range(40) if i != 3}  # by name; one has no label


def _squad(count, first=0):
  passage = 'Old Bonn lies on the Rhine {}. The town of Bonn is small; Köln is large.'
  return [
    {
      'id': str(i),
      'title': 't',
      'context': passage.format(i),
      'question': f'Where is {i}?',
      'answers': {'text': ['Bonn', 'Köln', 'wrong'], 'answer_start': [4, passage.format(i).index('Köln'), 0]},
    }
    for i in range(first, first + count)
  ]


def test_spans(tmp_path):
  features = {
    'id': F.Text(),
    'title': F.Text(),
    'context': F.Text(),
    'question': F.Text(),
    'answers': F.Sequence({'text': F.Text(), 'answer_start': F.Scalar(np.int64)}),
  }
  unanswerable = [dict(_squad(1)[0], answers={'text': [], 'answer_start': []})]
  _store(tmp_path, 'tiny_squad', features, {'train': _squad(40), 'validation': _squad(6, 100) + unanswerable})
  probe = _load(tmp_path, 'tiny_squad')
  assert (probe.kind, probe.classes, len(probe.splits['test'])) == ('span', (), 6)
  for one in probe.splits['test']:
    assert one.golds() == ('Bonn', 'Köln')
    assert one.texts[0].startswith('Where is 10')
    assert {'Bonn', 'Köln'} & {one.texts[1][a:b] for a, b in one.candidates}


def test_what_is_no_probe_is_named(tmp_path):
  _store(tmp_path, 'tiny_text', {'text': F.Text()}, {'train': [{'text': 'a'}], 'test': [{'text': 'b'}]})
  with pytest.raises(UserError, match=r"'tiny_text' is neither a classification .* it has text"):
    _load(tmp_path, 'tiny_text')
  only = {'train': _reviews(3)}
  _store(tmp_path, 'tiny_train', {'idx': F.Scalar(np.int64), 'sentence': F.Text(), 'label': LABEL}, only)
  with pytest.raises(UserError, match=r"'tiny_train' needs a split .train. and one of .*; it has train"):
    _load(tmp_path, 'tiny_train')


def test_one_class_is_named(tmp_path):
  features = {'idx': F.Scalar(np.int64), 'sentence': F.Text(), 'label': LABEL}
  same = [dict(one, label=1) for one in _reviews(40)]
  _store(tmp_path, 'tiny_same', features, {'train': same[5:], 'validation': same[:5]})
  with pytest.raises(UserError, match="tfds:tiny_same are all of one class, 'good'"):
    _load(tmp_path, 'tiny_same')


def test_unknown_names_are_named(tmp_path):
  with pytest.raises(UserError, match="TFDS cannot give the probe 'no_such_dataset'"):
    _load(tmp_path, 'no_such_dataset')


def test_without_network_a_download_is_named(tmp_path, monkeypatch):
  """A dataset that TFDS knows and this machine has not; every address leads nowhere."""
  for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.setenv(name, 'http://127.0.0.1:9')
  monkeypatch.setattr(downloader, 'MAX_RETRIES', 1)  # of 10, which take three minutes
  with pytest.raises(UserError, match=r"TFDS cannot give the probe 'glue/sst2': .*onnect"):
    _load(tmp_path, 'glue/sst2')
  assert not list(tmp_path.rglob('*.tfrecord*'))
