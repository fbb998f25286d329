"""`unmask prepare` and what it makes: the same files from every engine and in every order, and bad corpora."""

import dataclasses
import importlib
import json
import os
import pathlib
import random
import re
import sys

import numpy as np
import pytest
import seqio
import unmask
from unmask.launch import cli
from unmask.objectives import masked_lm, pmi_masking
from unmask.tasks import corpora, pipeline, text_task
from unmask.tasks.preparation import builder, processes, stages
from unmask.tasks.units import lexicon

# Beam 2.77 itself calls what Python and its own parts call deprecated.
pytestmark = [
  pytest.mark.usefixtures('seqio_registry'),
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
  pytest.mark.filterwarnings('ignore::FutureWarning'),
]
_GIN = '--gin_file=gin/tasks/local_text.gin'
_DIRECT = ('--', '--runner=DirectRunner')


@dataclasses.dataclass(frozen=True)
class _Fixed:
  items: list

  def fingerprint(self):
    return 'fixed'

  def documents(self):
    yield from self.items


def _documents(count=150):
  rng = random.Random(0)
  known = [''.join(rng.choice('abcdefghij') for _ in range(rng.randint(2, 6))) for _ in range(60)]
  pool = [*known, *['New York', 'by the way', 'Ada', 'April 1990', 'caf\u00e9', 'It was', 'the', 'the end.\n'] * 4]
  for i in range(count):
    text = ' '.join(rng.choices(pool, k=rng.randint(1, 60))) + f'. Number {i}.'
    yield {'id': f'd{i}', 'text': text, 'license': f'L{i % 3}', 'source': 'a test'}


def _task(corpus, data_dir, **settings):
  small = {'name': 'small', 'vocabulary_size': 420, 'validation_one_in': 5, 'lexicon': lexicon.Settings(min_count=3)}
  return text_task.TextTask(corpus=corpus, data_dir=str(data_dir), **(small | settings))


def _made(folder) -> dict[str, bytes]:
  """All files of a prepared folder but the summary, which tells the time."""
  paths = [path for path in pathlib.Path(folder).rglob('*') if path.is_file() and path.name != 'summary.json']
  return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _summary(folder) -> dict:
  summary = json.loads((pathlib.Path(folder) / 'summary.json').read_text())
  del summary['seconds']
  return summary


def _silent(line):
  del line


def _equal(one, two):
  assert _summary(one) == _summary(two)
  first, second = _made(one), _made(two)
  assert first.keys() == second.keys()
  for name, data in first.items():
    assert data == second[name], name


def test_files_do_not_depend_on_the_order_of_reading(tmp_path):
  documents = [*_documents(), *({'id': 'twice', 'text': f'the same id, {text}'} for text in ('one', 'two'))]
  one = _task(_Fixed(documents), tmp_path / 'one', longest_document=200).prepare(_silent)
  random.Random(1).shuffle(documents)
  two = _task(_Fixed(documents), tmp_path / 'two', longest_document=200).prepare(_silent)
  _equal(one, two)
  assert _summary(one)['renamed_documents'] == 1
  assert _summary(one)['cut_documents'] > 20
  assert len([name for name in _made(one) if 'tfrecord-' in name]) == 16


def test_files_do_not_depend_on_the_number_of_processes(tmp_path):
  corpus = _Fixed(list(_documents()))
  made = [_task(corpus, tmp_path / str(count)).prepare(_silent, builder.LocalEngine(count)) for count in (1, 2)]
  _equal(*made)


def test_a_tagger_of_the_main_module_stays_in_this_process(tmp_path, monkeypatch):
  class Mine:
    labels = ('NAME',)

    def fingerprint(self):
      return 'mine'

    def tag(self, texts):
      return [[] for _ in texts]

  monkeypatch.setattr(Mine, '__module__', '__main__')
  monkeypatch.setattr(processes, '_Worker', None)
  task = _task(_Fixed(list(_documents())), tmp_path, tagger=Mine(), salient_labels=['NAME'])
  assert _summary(task.prepare(_silent, builder.LocalEngine(2)))['documents'] == 150


@pytest.mark.parametrize('settings', [{}, {'vocabulary_size': None, 'shards': 3, 'longest_document': 120}])
def test_both_engines_make_the_same_files(tmp_path, settings):
  from unmask.tasks.preparation import beam_engine

  (tmp_path / 'text').mkdir()
  lines = [json.dumps(document) for document in _documents(120)]
  for name in range(3):
    (tmp_path / 'text' / f'{name}.jsonl').write_text('\n'.join(lines[name::3]) + '\n')
  corpus = corpora.LocalText(pattern=str(tmp_path / 'text' / '*'))
  engines = {'local': None, 'beam': beam_engine.BeamEngine(['--runner=DirectRunner'])}
  made = [_task(corpus, tmp_path / name, **settings).prepare(_silent, engine) for name, engine in engines.items()]
  _equal(*made)
  assert _summary(made[0])['lexicon_entries'] > 5
  assert _summary(made[0])['salient']['spans']['DATE'] > 20
  assert len(os.listdir(tmp_path / 'beam')) == 1


def test_shards_without_documents(tmp_path):
  from unmask.tasks.preparation import beam_engine

  corpus = _Fixed([{'id': str(i), 'text': 'few words'} for i in range(12)])
  engines = (None, beam_engine.BeamEngine(['--runner=DirectRunner']))
  made = [
    _task(corpus, tmp_path / str(i), shards=40, vocabulary_size=None).prepare(_silent, engine)
    for i, engine in enumerate(engines)
  ]
  _equal(*made)
  config = {'mixture_or_task_name': 'small', 'task_feature_lengths': {'targets': 64}}
  task = _task(corpus, tmp_path / '0', shards=40, vocabulary_size=None)
  source = pipeline.Pipeline(task=task, **config).open(_silent)
  given = seqio.get_mixture_or_task('small').get_dataset({'targets': 64}, 'train', shuffle=False, use_cached=True)
  for one, other in zip(given.as_numpy_iterator(), source.rows('train').as_numpy_iterator(), strict=True):
    np.testing.assert_array_equal(one['targets'], other['targets'])


def _prepare(tmp_path, *flags):
  how = ('--gin.VOCABULARY_SIZE=420', '--gin.VALIDATION_ONE_IN=5', f'--gin.DATA_DIR={tmp_path}/made')
  return cli.main(['prepare', _GIN, f'--gin.TEXT_PATTERN={tmp_path}/text/*', *how, *flags])


def _refusal(capfd) -> str:
  """The one line that says what is wrong."""
  lines = [line.strip() for line in re.split('[\r\n]', capfd.readouterr().err)]
  (line,) = [line for line in lines if line.startswith('unmask: ')]
  return line


def test_the_command(tmp_path, capfd):
  (tmp_path / 'text').mkdir()
  (tmp_path / 'text' / 'a.jsonl').write_text('\n'.join(json.dumps(document) for document in _documents()))
  (tmp_path / 'text' / 'long.txt').write_text('many words of one document ' * 40)
  for again in (False, True):
    assert _prepare(tmp_path, '--gin.TextTask.longest_document=1000') == 0
    said = capfd.readouterr().out
    (folder,) = (tmp_path / 'made').iterdir()
    assert f'{folder} {"is there and nothing changed" if again else "written"}' in said
    assert ('1 of more than 1,000 characters cut into 2 pieces' in said) is not again
    summary = json.loads((folder / 'summary.json').read_text())
    for sign in (
      'documents',
      '151',
      '1, into 2 pieces',
      f'{summary["training_words"]:,}',
      'salient DATE',
      'words a second',
    ):
      assert sign in said


@pytest.mark.parametrize(
  ('flags', 'sign'),
  [
    (['--engine=spark'], '--engine'),
    (_DIRECT, '--engine=beam'),
    (['--engine=beam', '--', '--runner=DataflowRunner'], 'DataflowRunner cannot write to DATA_DIR'),
    (['--engine=beam', '--', '--runner=NoSuchRunner'], 'NoSuchRunner'),
    (['--gin.TextTask.shards=0'], 'TextTask.shards is 0'),
    (['--gin.TextTask.longest_document=0'], 'longest_document is 0'),
    (['--gin.TextTask.shard=4'], 'shard'),
  ],
)
def test_mistakes(tmp_path, flags, sign, capfd):
  (tmp_path / 'text').mkdir()
  (tmp_path / 'text' / 'a.jsonl').write_text('\n'.join(json.dumps(document) for document in _documents()))
  assert _prepare(tmp_path, *flags) == 2
  line = _refusal(capfd)
  assert sign in line
  assert not (tmp_path / 'made').exists() or not list((tmp_path / 'made').iterdir())


@pytest.mark.parametrize('engine', [('--engine=local',), ('--engine=beam', *_DIRECT)])
def test_bytes_that_are_no_text(tmp_path, engine, capfd):
  (tmp_path / 'text').mkdir()
  (tmp_path / 'text' / 'a.txt').write_text('good text')
  (tmp_path / 'text' / 'b.txt').write_bytes('caf\u00e9'.encode('latin-1'))
  assert _prepare(tmp_path, *engine) == 2
  line = _refusal(capfd)
  assert 'b.txt is not UTF-8 text (byte 3)' in line
  assert list((tmp_path / 'made').iterdir()) == []


def test_workers_that_do_not_see_the_folder(tmp_path):
  from unmask.tasks.preparation import beam_engine

  job = stages.Job(
    folder=str(tmp_path / 'elsewhere'),
    name='small',
    shards=2,
    validation_one_in=5,
    tagger=None,
    salient_labels=['NAME'],
  )
  with pytest.raises(unmask.UserError, match='DATA_DIR must be a folder that all workers share'):
    beam_engine.BeamEngine(['--runner=DirectRunner'])._check_shared(job)


def test_a_task_of_others_has_no_corpus(capfd):
  assert cli.main(['prepare', '--gin.TASK=None']) == 2
  assert 'corpora.SeqioText' in capfd.readouterr().err


def test_beam_is_not_installed(monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  for name in ('unmask.tasks.preparation.beam_engine', 'unmask.tasks.units.beam_lexicon'):
    monkeypatch.delitem(sys.modules, name, raising=False)
  with pytest.raises(unmask.UserError, match=r'requirements-beam\.txt'):
    importlib.import_module('unmask.tasks.preparation.beam_engine')


def test_a_vocabulary_is_trained_on_a_sample_of_a_large_corpus(tmp_path, monkeypatch):
  corpus, said = _Fixed(list(_documents())), []
  whole = _task(corpus, tmp_path / 'whole').prepare(said.append)
  assert not any('% of the lines' in line for line in said)
  monkeypatch.setattr(builder, 'VOCABULARY_CHARACTERS', 9000)
  made = [_task(corpus, tmp_path / name).prepare(said.append) for name in ('one', 'two')]
  _equal(*made)
  assert any('% of the lines' in line for line in said)
  assert _made(made[0])['vocabulary.model'] != _made(whole)['vocabulary.model']
  kept = []
  monkeypatch.setattr(stages.vocabularies, 'train_sentencepiece', lambda lines, *rest: kept.extend(lines) or 1 / 0)
  with pytest.raises(ZeroDivisionError):
    _task(corpus, tmp_path / 'three').prepare(_silent)
  assert 6000 < sum(map(len, kept)) < 12000


@pytest.mark.parametrize('objective', [masked_lm.MaskedLM(unit='word'), pmi_masking.PMIMasking()])
def test_words_longer_than_a_row_are_left_alone(tmp_path, objective):
  """A word of 5,000 letters fills rows of its own; there it is one unit beyond any budget: nothing of it is masked.

  Whole words above the budget are skipped; PMI-masking takes a unit that exceeds it by a few tokens at most.
  """
  documents = [document | {'text': document['text'] + ' ' + 'qzx' * 1700} for document in _documents(60)]
  task = _task(_Fixed(documents), tmp_path, vocabulary_size=None)
  source = pipeline.Pipeline(mixture_or_task_name='small', task_feature_lengths={'targets': 64}, task=task).open(
    _silent
  )
  rows = list(source.corrupted(objective, 'validation').as_numpy_iterator())
  assert len(rows) > 200
  alone = masked = 0
  for row in rows:
    corrupted = row['decoder_loss_weights'] > 0
    ids = row['word_ids'][row['segment_ids'] > 0]
    assert corrupted.sum() <= objective.max_supervised(64)
    long = np.bincount(ids).max() > 40
    alone += long
    masked += corrupted.sum() > 0
    if long:
      where = row['word_ids'] == np.bincount(ids).argmax()
      assert not corrupted[: len(where)][where].any()
  assert alone > 100
  assert masked > 5
