"""`unmask lexicon` from the command line, on both engines: the same file to the byte, kept when nothing changed."""

import importlib
import json
import pathlib
import random
import sys

import pytest
import seqio
import tensorflow as tf
import unmask
from unmask.launch import cli
from unmask.tasks import corpora, text_task
from unmask.tasks.units import collocations, counting, lexicon

_TASK = '--gin_file=gin/tasks/local_text.gin'
# Beam 2.77 itself calls what Python and its own parts call deprecated.
pytestmark = [
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
  pytest.mark.filterwarnings('ignore::FutureWarning'),
]


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory) -> pathlib.Path:
  """Three files of text with collocations, capitals, accents and marks in it."""
  rng = random.Random(0)
  pool = [
    'New York',
    'by the way',
    "the dog's",
    'd\u00e9j\u00e0 vu',
    'Kuala Lumpur',
    'na\u00efve',
    '3.5%',
    'O\u2019Neil',
    '\u65e5\u672c',
  ]
  pool += [''.join(rng.choice('abcde') for _ in range(rng.randint(1, 3))) for _ in range(60)]
  weights = [1 / (1 + i) for i in range(len(pool))]
  folder = tmp_path_factory.mktemp('text')
  for name in ('a.jsonl', 'b.jsonl', 'c.txt'):
    texts = []
    for _ in range(40):
      words = rng.choices(pool, weights, k=rng.randint(1, 80))
      texts.append(''.join(word + rng.choice([' ', ' ', ' ', '. ', '\n', ' -- ']) for word in words))
    lines = [json.dumps({'text': text}) for text in texts] if name != 'c.txt' else texts
    (folder / name).write_text('\n'.join(lines), encoding='utf-8')
  return folder


def _build(folder, out, *flags, beam=()):
  argv = ['lexicon', 'build', _TASK, f'--gin.TEXT_PATTERN={folder}/*', f'--gin.DATA_DIR={out}', *flags]
  return cli.main([*argv, '--', *beam] if beam else argv)


@pytest.mark.parametrize('measure', lexicon.MEASURES)
def test_both_engines_write_the_same_file(folder, tmp_path, measure):
  how = (f'--gin.LEXICON_MEASURE={measure}', '--gin.LEXICON_MIN_COUNT=2', '--gin.VALIDATION_ONE_IN=4')
  how += ('--gin.LEXICON_SIZE=100',) if measure == 'frequency' else ('--gin.LEXICON_COVERAGE=0.97',)
  assert _build(folder, tmp_path, '--output', str(tmp_path / 'local.tsv'), *how) == 0
  beam = ('--runner=DirectRunner', f'--temp_location={tmp_path}/beam')
  assert _build(folder, tmp_path, '--output', str(tmp_path / 'beam.tsv'), '--engine=beam', *how, beam=beam) == 0
  data = (tmp_path / 'local.tsv').read_bytes()
  assert (tmp_path / 'beam.tsv').read_bytes() == data
  assert not list((tmp_path / 'beam').iterdir())
  found = lexicon.Lexicon.load(str(tmp_path / 'local.tsv'))
  assert len(found.entries) > 50
  assert found.size == 100 or found.coverage > 0.7
  task = _text_task(folder, tmp_path, validation_one_in=4)
  texts = [d['text'] for d in task.corpus.documents() if not corpora.is_validation(d['id'], 4)]
  assert found.corpus == task.training_fingerprint()
  assert 2 < found.entries[0].count <= ' '.join(texts).lower().count(found.entries[0].ngram[0])


def _text_task(folder, out, **settings):
  corpus = corpora.LocalText(pattern=f'{folder}/*')
  return text_task.TextTask(name='local_text', corpus=corpus, data_dir=str(out), vocabulary_size=None, **settings)


def test_it_is_kept_while_nothing_changes(folder, tmp_path, capfd):
  assert _build(folder, tmp_path) == 0
  said = capfd.readouterr().out
  path = tmp_path / 'lexicon-local_text-pmi.tsv'
  assert str(path) in said
  for sign in ('words a second', 'cover ', ' of 5 words', 'above 10'):
    assert sign in said
  before = path.stat().st_mtime_ns
  assert _build(folder, tmp_path) == 0
  assert 'nothing changed' in capfd.readouterr().out
  assert path.stat().st_mtime_ns == before
  for change in ('--gin.VALIDATION_ONE_IN=3', '--gin.LEXICON_MIN_COUNT=3', '--gin.LEXICON_COVERAGE=0.2'):
    assert _build(folder, tmp_path, change) == 0
    said = capfd.readouterr().out
    assert 'nothing changed' not in said
    assert 'counting' in said
  path.write_bytes(path.read_bytes()[:-5])
  assert _build(folder, tmp_path) == 0
  assert 'is damaged' in capfd.readouterr().out
  assert lexicon.Lexicon.load(str(path)).settings['min_count'] == 10


def test_show(folder, tmp_path, capfd):
  path = tmp_path / 'lexicon-local_text-pmi.tsv'
  assert _build(folder, tmp_path, '--gin.LEXICON_MIN_COUNT=2') == 0
  capfd.readouterr()
  assert cli.main(['lexicon', 'show', f'--file={path}', '--top=3']) == 0
  shown = capfd.readouterr().out
  built = lexicon.Lexicon.load(str(path))
  for n in lexicon.LENGTHS:
    entries = built.of_length(n)
    assert f'{n} words: {len(entries):,} of' in shown
    for entry in entries[:3]:
      assert f'{" ".join(entry.ngram)} ' in shown
      assert f'{entry.score:.3f}' in shown
  assert (
    f' {built.of_length(2)[3].score:.3f} ' not in shown or built.of_length(2)[3].score == built.of_length(2)[2].score
  )


@pytest.mark.parametrize(
  ('argv', 'sign'),
  [
    (['lexicon'], 'unmask lexicon build or unmask lexicon show'),
    (['lexicon', 'bild'], 'unmask lexicon build or unmask lexicon show'),
    (['lexicon', 'show'], '--file'),
    (['lexicon', 'show', '--file=/nowhere.tsv'], '/nowhere.tsv'),
    (['lexicon', 'show', '--file=/nowhere.tsv', '--top=0'], '--top'),
    (['lexicon', 'build', '--engine=spark'], '--engine'),
    (['lexicon', 'build', '--', '--runner=DirectRunner'], '--engine=beam'),
    (['lexicon', 'build', '--engine=beam', '--memory=512'], '--memory is of the local engine'),
    (['lexicon', 'build', _TASK, '--gin.TEXT_PATTERN=/nowhere/*'], '/nowhere/*'),
    (['lexicon', 'build', '--gin.LEXICON_MEASURE=pim'], "'pim'"),
    (['lexicon', 'build', '--gin.LEXICON_MEASUR=pmi'], 'LEXICON_MEASURE'),
    (['lexicon', 'build', '--gin.TASK=None'], 'SeqioText'),
    (
      ['lexicon', 'build', '--memory=0', _TASK, f'--gin.TEXT_PATTERN={__file__}', '--output=/tmp/unused/l.tsv'],
      '1 MiB',
    ),
  ],
)
def test_mistakes(argv, sign, capfd):
  assert cli.main(argv) == 2
  error = capfd.readouterr().err
  (line,) = [line for line in error.split('\n') if 'unmask: ' in line]
  assert sign in line
  assert 'Traceback' not in error


def test_files_that_are_something_else_are_left_alone(folder, tmp_path, capfd):
  (tmp_path / 'notes.txt').write_text('my notes')
  assert _build(folder, tmp_path, '--output', str(tmp_path / 'notes.txt')) == 2
  assert 'is no lexicon' in capfd.readouterr().err
  assert (tmp_path / 'notes.txt').read_text() == 'my notes'
  assert _build(folder, tmp_path, '--output', str(tmp_path / 'notes.txt' / 'l.tsv')) == 2
  assert 'Cannot make the folder' in capfd.readouterr().err
  (tmp_path / 'dots').mkdir()
  (tmp_path / 'dots' / 'a.txt').write_text('. . .')
  assert _build(tmp_path / 'dots', tmp_path) == 2
  assert 'has no words' in capfd.readouterr().err


def test_beams_mistakes(folder, tmp_path, capfd, monkeypatch):
  assert _build(folder, tmp_path, '--engine=beam', beam=['--runner=NoSuchRunner']) == 2
  assert 'NoSuchRunner' in capfd.readouterr().err
  assert _build(folder, tmp_path, '--engine=beam', beam=['--runner=FlinkRunner']) == 2
  assert 'FlinkRunner needs --temp_location' in capfd.readouterr().err
  for place in ('hdfs://nowhere/x', '/proc/nowhere'):
    assert _build(folder, tmp_path, '--engine=beam', beam=[f'--temp_location={place}']) == 2
    assert f'Cannot write in --temp_location {place}' in capfd.readouterr().err
  (tmp_path / 'bad').mkdir()
  (tmp_path / 'bad' / 'a.jsonl').write_text('{"text": "good"}\n{"txt": 1}\n')
  assert _build(tmp_path / 'bad', tmp_path, '--engine=beam', beam=['--runner=DirectRunner']) == 2
  (line,) = [line for line in capfd.readouterr().err.split('\n') if line.startswith('unmask: ')]
  assert 'a.jsonl line 2' in line
  assert 'while running' not in line
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  monkeypatch.delitem(sys.modules, 'unmask.tasks.units.beam_lexicon')
  with pytest.raises(unmask.UserError, match=r'requirements-beam\.txt'):
    importlib.import_module('unmask.tasks.units.beam_lexicon')


def test_a_task_takes_a_file_made_before(folder, tmp_path):
  made = tmp_path / 'made.tsv'
  how = {'lexicon': lexicon.Settings(measure='frequency', min_count=2, size=40), 'validation_one_in': 4}
  assert _build(folder, tmp_path, '--output', str(made), '--gin.LEXICON_MIN_COUNT=2', '--gin.VALIDATION_ONE_IN=4') == 0
  said = []
  task = _text_task(folder, tmp_path, lexicon_file=str(made), **how)
  copied = pathlib.Path(task.prepare(said.append)) / 'lexicon.tsv'
  assert copied.read_bytes() == made.read_bytes()
  own = pathlib.Path(_text_task(folder, tmp_path, **how).prepare(said.append)) / 'lexicon.tsv'
  assert own.parent != copied.parent
  assert lexicon.Lexicon.load(str(own)).settings['measure'] == 'frequency'
  other = _text_task(folder, tmp_path, lexicon_file=str(made), **how | {'validation_one_in': 5})
  with pytest.raises(unmask.UserError, match='lexicon_of_other_corpus=True'):
    other.prepare(said.append)
  meant = _text_task(
    folder, tmp_path, lexicon_file=str(made), lexicon_of_other_corpus=True, **how | {'validation_one_in': 5}
  )
  assert (pathlib.Path(meant.prepare(said.append)) / 'lexicon.tsv').read_bytes() == made.read_bytes()
  with pytest.raises(unmask.UserError, match='lexicon_of_other_corpus=True'):  # also once it was meant
    other.prepare(said.append)
  made.write_bytes(made.read_bytes()[:-9])
  with pytest.raises(unmask.UserError, match='is damaged'):
    _text_task(folder, tmp_path, lexicon_file=str(made), **how).prepare(said.append)
  made.unlink()
  with pytest.raises(unmask.UserError, match='lexicon_file'):
    _text_task(folder, tmp_path, lexicon_file=str(made), **how).prepare(said.append)


def test_seqio_tasks_of_others(tmp_path):
  def documents(split, shuffle_files=False, seed=None):
    del shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices({'inputs': ['by the way'] * 3 + [split], 'label': [1, 2, 3, 4]})

  seqio.TaskRegistry.add(
    'somebody',
    seqio.FunctionDataSource(documents, splits=('train', 'test'), num_input_examples={'train': 4, 'test': 4}),
    preprocessors=[],
    output_features={},
  )
  try:
    corpus = corpora.SeqioText(task='somebody')
    assert [d['text'] for d in corpus.documents()] == ['by the way'] * 3 + ['train']
    assert len({d['id'] for d in corpus.documents()}) == 4
    assert [d['text'] for d in corpora.SeqioText(task='somebody', split='test').documents()][-1] == 'test'
    with counting.LocalEngine(d['text'] for d in corpus.documents()) as engine:
      built = collocations.build(engine, lexicon.Settings(min_count=2, size=9), corpus.fingerprint())
    assert {e.ngram for e in built.entries} == {('by', 'the'), ('the', 'way'), ('by', 'the', 'way')}
    changes = [{}, {'split': 'test'}, {'text_field': 'inputs'}]
    assert len({corpora.SeqioText(**({'task': 'somebody'} | change)).fingerprint() for change in changes}) == 3
    assert ', 4)' in corpus.fingerprint()
    wrongs = [{'task': 'nobody'}, {'split': 'dev'}, {'text_field': 'label'}, {'text_field': 'body'}]
    for wrong in wrongs:
      with pytest.raises(unmask.UserError, match=f"{next(iter(wrong.values()))}'"):
        list(corpora.SeqioText(**({'task': 'somebody'} | wrong)).documents())
  finally:
    seqio.TaskRegistry.remove('somebody')
