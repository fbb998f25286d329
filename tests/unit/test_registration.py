"""The helpers that register other people's corpora, and what is said when one is registered or read wrongly."""

import itertools
import re

import numpy as np
import pytest
import seqio
import tensorflow as tf
import unmask
from unmask.launch import config
from unmask.tasks import pipeline

LENGTH = {'targets': 32}
TEXTS = [f'Line {i} of a text that fills a row or two.' for i in range(30)]
BYTES = unmask.tasks.byte_vocabulary()


@pytest.fixture(autouse=True)
def _registries(seqio_registry):
  yield
  for name in [name for name in seqio.MixtureRegistry.names() if name.startswith('t_')]:
    seqio.MixtureRegistry.remove(name)


def _source(examples, splits=('train', 'validation')):
  return seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(examples), splits=splits
  )


def _open(name):
  return pipeline.Pipeline(mixture_or_task_name=name, task_feature_lengths=LENGTH).open()


def _first(name, objective=unmask.objectives.NextToken(), split='train'):
  return next(_open(name).batches(objective, 4, split))


@pytest.mark.parametrize('key', ['text', 'targets', 'ids', 'bare'])
def test_a_corpus_becomes_rows_of_its_text(key):
  ids = [np.array(BYTES.encode(text), np.int64) for text in TEXTS]
  if key == 'ids':
    tensors = tf.data.Dataset.from_generator(
      lambda: ({'targets': one} for one in ids), output_signature={'targets': tf.TensorSpec([None], tf.int64)}
    )
    source = seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: tensors, splits=('train', 'validation'))
  else:
    source = _source(TEXTS if key == 'bare' else {key: TEXTS})
  task = unmask.tasks.register('t_letters', source)
  assert seqio.TaskRegistry.get('t_letters') is task
  rows = list(_open('t_letters').rows('train').as_numpy_iterator())
  special = unmask.tasks.special_tokens(BYTES)
  tokens = np.concatenate([row['targets'][special.is_text(row['targets'])] for row in rows])
  assert BYTES.decode(tokens.tolist()) == ''.join(TEXTS)


def test_a_corpus_of_ours_is_split_by_its_ids(tmp_path):
  (tmp_path / 'a.txt').write_text('\n##\n'.join(TEXTS))
  corpus = unmask.tasks.LocalText(pattern=str(tmp_path / '*.txt'), separator='\n##\n')
  unmask.tasks.register('t_ours', corpus, validation_one_in=3)
  ends = lambda split: sum(int((row['targets'] == 1).sum()) for row in _open('t_ours').rows(split).as_numpy_iterator())
  counts = [ends(split) for split in ('train', 'validation')]
  assert sum(counts) == len(TEXTS)
  assert 0 < counts[1] < counts[0]


def test_a_task_may_end_in_an_objective():
  objective = unmask.objectives.Mixture(
    parts={'mlm': unmask.objectives.MaskedLM(), 'cm3': unmask.objectives.CausalMasked(spans_per_row=2)}
  )
  unmask.tasks.register('t_rows', _source({'text': TEXTS}))
  unmask.tasks.register('t_mixed', _source({'text': TEXTS}), objective=objective, seed=5)
  given = seqio.get_mixture_or_task('t_mixed').get_dataset(LENGTH, 'train', shuffle=False)
  special = unmask.tasks.special_tokens(BYTES)
  made = unmask.objectives.corrupt_rows(objective, special, 5)(_open('t_rows').rows('train'))
  for one, other in itertools.islice(zip(given.as_numpy_iterator(), made.as_numpy_iterator(), strict=True), 20):
    for name in unmask.tasks.output_features(BYTES, objective):
      np.testing.assert_array_equal(one[name], other[name])
  with pytest.raises(unmask.UserError, match='t_mixed ends in an objective already'):
    _open('t_mixed')


def test_batches_of_a_mixture_count_each_corpus():
  unmask.tasks.register('t_a', _source({'text': TEXTS}))
  unmask.tasks.register('t_b', _source({'text': TEXTS}))
  unmask.tasks.register_mixture('t_mix', {'t_a': 3, 't_b': 1})
  source = _open('t_mix')
  assert source.corpora == ('t_a', 't_b')
  batches = list(itertools.islice(source.batches(unmask.objectives.NextToken(), 16), 20))
  totals = sum(batch['corpus_tokens'] for batch in batches)
  assert totals.sum() == sum(batch['text_tokens'].sum() for batch in batches)
  assert 0.65 < totals[0] / totals.sum() < 0.85
  halves = [next(source.batches(unmask.objectives.NextToken(), 16, host=h, num_hosts=2)) for h in (0, 1)]
  for half in halves:  # of the global batch on every host
    np.testing.assert_array_equal(half['corpus_tokens'], batches[0]['corpus_tokens'])
  assert 'corpus_tokens' not in next(source.batches(unmask.objectives.NextToken(), 16, 'validation'))


def _registered(name='t_x', **how):
  unmask.tasks.register(name, **({'source': _source({'text': TEXTS})} | how))


def _by_hand(name='t_x', features=None, preprocessors=(), examples=None, splits=('train', 'validation')):
  examples = {'targets': TEXTS} if examples is None else examples
  features = features or {'targets': seqio.Feature(BYTES, add_eos=False)}
  seqio.TaskRegistry.add(
    name, source=_source(examples, splits), preprocessors=list(preprocessors), output_features=features
  )


def _mixed(rates, **parts):
  for name, how in parts.items():
    _registered(f't_{name}', **how)
  unmask.tasks.register_mixture('t_mix', rates)


def _twice():
  _registered()
  _registered()


REGISTERED_WRONGLY = {
  'twice': (_twice, "A seqio Task named 't_x' is registered already.*TaskRegistry.remove"),
  'name': (lambda: _registered('t x'), "name of a Task or Mixture is 't x'"),
  'class': (lambda: _registered(objective=unmask.objectives.MEAP), r'Task t_x: objective=MEAP .*make one: MEAP\(\)'),
  'text': (lambda: _registered(objective='meap'), "Task t_x: objective='meap' is no objective"),
  'units': (
    lambda: _registered(objective=unmask.objectives.PMIMasking()),
    'Task t_x: PMIMasking reads word_ids.*TextTask',
  ),
  'vocabulary': (
    lambda: _registered(vocabulary=seqio.ByteVocabulary()),
    'Task t_x: The vocabulary has extra_ids=0.*19',
  ),
  'source': (lambda: _registered(source=TEXTS), 'Task t_x: source=.*neither a seqio DataSource nor a corpus'),
  'unknown': (lambda: _mixed({'t_q': 1}), "Mixture t_mix names 't_q', which is not registered"),
  'rate': (lambda: _mixed({'t_a': 0}, a={}), 'Mixture t_mix gives t_a the rate 0'),
  'empty': (lambda: _mixed({}), 'Mixture t_mix has no Task'),
  'features': (
    lambda: _mixed({'t_a': 1, 't_b': 1}, a={}, b={'objective': unmask.objectives.MEAP()}),
    'Mixture t_mix: t_a gives segment_ids, targets and t_b decoder_causal_attention, .*register both in the same way',
  ),
  'vocabularies': (
    lambda: _mixed({'t_a': 1, 't_b': 1}, a={}, b={'vocabulary': seqio.ByteVocabulary(extra_ids=40)}),
    "Mixture t_mix: t_a and t_b differ in the vocabulary of 'targets'",
  ),
}


@pytest.mark.parametrize('case', REGISTERED_WRONGLY)
def test_a_malformed_registration_names_the_task_and_the_mend(case):
  wrong, said = REGISTERED_WRONGLY[case]
  with pytest.raises(unmask.UserError, match=said) as caught:
    wrong()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('wrong', 'said'),
  [
    ("unmask.tasks.register('t_x', source)", "A seqio Task named 't_x' is registered already: .* first"),
    ("seqio.TaskRegistry.add('t_x', source, {})", "A seqio Task or Mixture named 't_x' is registered already: .* once"),
    ("unmask.tasks.regster('t_x', source)", "gin: module 'unmask.tasks' has no attribute 'regster'"),
  ],
)
def test_a_module_that_a_gin_file_names_says_what_is_wrong_with_it(wrong, said, monkeypatch, tmp_path):
  _registered()
  name = f'wrong_{abs(hash(wrong))}'
  lines = ['import seqio', 'import unmask', "source = seqio.TextLineDataSource({'train': 'x.txt'})", wrong]
  (tmp_path / f'{name}.py').write_text('\n'.join(lines))
  (tmp_path / 'run.gin').write_text(f'from __gin__ import dynamic_registration\nimport {name}\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(unmask.UserError) as caught:
    config.load(['run.gin'], [], [str(tmp_path)])
  assert re.fullmatch(rf'{said} \(\S+/run\.gin, line 2: import {name}\)\.', str(caught.value)), str(caught.value)


_TOKENIZE = seqio.preprocessors.tokenize
READ_WRONGLY = {
  'no targets': (
    lambda: _by_hand(features={'text': seqio.Feature(BYTES)}, examples={'text': TEXTS}),
    't_x has no feature "targets"; .*rekey',
  ),
  'no vocabulary': (
    lambda: _by_hand(features={'targets': seqio.Feature(seqio.PassThroughVocabulary(300), add_eos=False)}),
    "t_x has no vocabulary for 'targets'",
  ),
  'small vocabulary': (
    lambda: _by_hand(features={'targets': seqio.Feature(seqio.ByteVocabulary(extra_ids=3), add_eos=False)}),
    't_x: The vocabulary has extra_ids=3',
  ),
  'not tokenized': (_by_hand, 'Task t_x cannot be read .*string.*mend its preprocessors'),
  'strings': (
    lambda: _by_hand(features={'targets': seqio.Feature(BYTES, add_eos=False, dtype=tf.string)}),
    "t_x gives 'targets' as string.*token ids",
  ),
  'no such feature': (
    lambda: _registered(source=_source({'body': TEXTS})),
    "Task t_x: its examples hold body; one of them must be called 'targets' or 'text'",
  ),
  'floats': (
    lambda: _registered(source=_source({'targets': [[0.5], [1.5]]})),
    "Task t_x: 'targets' is float32 of rank 1; it must be a string, or token ids",
  ),
  'no split': (
    lambda: _by_hand(preprocessors=[_TOKENIZE], splits=('test',)),
    "t_x has no split 'train'; it has test.*give its source those splits",
  ),
  'rows left out': (
    lambda: _by_hand(preprocessors=[_TOKENIZE], features=unmask.tasks.output_features(BYTES)),
    'Task t_x cannot be read .*segment_ids.*mend its preprocessors or its output_features',
  ),
  'unknown': (lambda: None, "No seqio Task or Mixture is named 't_x'; .*import their_package.tasks"),
}


@pytest.mark.parametrize('case', READ_WRONGLY)
def test_a_task_that_cannot_be_read_is_named_with_the_mend(case):
  wrong, said = READ_WRONGLY[case]
  wrong()
  with pytest.raises(unmask.UserError, match=said) as caught:
    _first('t_x')
  assert '\n' not in str(caught.value)


def test_a_split_that_only_evaluation_misses_is_named():
  _by_hand(preprocessors=[_TOKENIZE], splits=('train',))
  _first('t_x')
  with pytest.raises(unmask.UserError, match="t_x has no split 'validation'; it has train"):
    _first('t_x', split='validation')
