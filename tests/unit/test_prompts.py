"""Prompted tasks: templates, T0's rates, what is held out, and the choices that the judge asks about."""

import dataclasses
import types

import numpy as np
import pytest
import seqio
import tensorflow as tf
import unmask
from unmask import UserError
from unmask.objectives import (
  AnswersOnly,
  AnyOrder,
  FillIn,
  Infill,
  LeftToRight,
  PrefixLeftToRight,
  PseudoLikelihood,
  SpanInfill,
)
from unmask.tasks import Prompt, pipeline, vocabularies
from unmask.tasks.prompts import prompted_text, registering
from unmask.tasks.questions import material, prompted

FIELDS = {'text': ['a b', 'c'], 'answer': ['yes', 'no'], 'others': ['yes|||no', 'no ||| maybe']}
PROMPT = Prompt('{{{text}}} so?', choices='{others}')


@pytest.fixture(autouse=True)
def _registries(seqio_registry):
  yield
  for name in [name for name in seqio.MixtureRegistry.names() if name.startswith('t_')]:
    seqio.MixtureRegistry.remove(name)


def _source(fields=FIELDS):
  return seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(fields), splits=('train', 'validation')
  )


def test_a_graph_asks_what_python_asks():
  examples = [dict(zip(FIELDS, values, strict=True)) for values in zip(*FIELDS.values(), strict=True)]
  assert [PROMPT.asked(one) for one in examples] == [('{a b} so?', 'yes', ['no']), ('{c} so?', 'no', ['maybe'])]
  for one in examples:
    made = PROMPT.tensors({name: tf.constant(value) for name, value in one.items()})
    assert tuple(made[name].numpy().decode() for name in ('inputs', 'targets')) == PROMPT.asked(one)[:2]


@pytest.mark.parametrize(('examples', 'rate'), [(2, 2), (500_000, 500_000), (500_001, 250_000)])
def test_a_task_counts_as_its_examples_up_to_a_limit(examples, rate):
  prompts = {'one': PROMPT, 'two': Prompt('{text}?', held_out=True)}
  assert registering.register_prompts('t_set', _source(), prompts, examples=examples) == {'t_set.one': rate}
  assert 't_set.two' in seqio.TaskRegistry.names()


def test_prompts_are_read_and_answers_scored():
  rates = unmask.tasks.register_prompts('t_set', _source(), {'one': PROMPT}, examples=2)
  unmask.tasks.register_mixture('t_mixed', rates)
  source = pipeline.Pipeline(mixture_or_task_name='t_mixed', task_feature_lengths={'targets': 32}).open()
  batch = next(source.batches(AnswersOnly(), 4))
  for tokens, targets, weights in zip(
    *(batch[f'decoder_{name}'] for name in ('input_tokens', 'target_tokens', 'loss_weights')), strict=True
  ):
    answer = source.vocabulary.decode(targets[weights > 0].tolist())
    asked = source.vocabulary.decode(tokens[1 : np.flatnonzero(weights)[0] + 1].tolist())
    assert (asked, answer) in {('{a b} so?', 'yes'), ('{c} so?', 'no')}


@pytest.mark.parametrize(
  ('prompt', 'examples', 'sign'),
  [
    (Prompt('{text'), 2, 'is malformed'),
    (Prompt('{text} {}'), 2, 'names no field'),
    (Prompt('{text:3}'), 2, 'names no field'),
    (Prompt('{txt}'), 2, "Task t_set.one: its prompt names 'txt'; its examples have the strings text"),
    (PROMPT, 0, 'it has 1 prompts and 0 examples'),
  ],
)
def test_what_is_wrong_is_named(prompt, examples, sign):
  def read():
    unmask.tasks.register_prompts('t_set', _source(), {'one': prompt}, examples=examples)
    pipeline.Pipeline(mixture_or_task_name='t_set.one', task_feature_lengths={'targets': 32}).open().rows('train')

  with pytest.raises(UserError, match=sign):
    read()


@dataclasses.dataclass(frozen=True)
class _Titled:
  """Documents with titles and labels."""

  def fingerprint(self):
    return 'titled'

  def documents(self):
    for i in range(120):
      label = ('north', 'south')[i % 2]
      yield {'id': f'{i}', 'title': f'Name{i}', 'label': label, 'text': f'Words about number {i}. More.'}


def test_held_out_documents_and_prompts_are_for_the_judge_alone(tmp_path):
  """A corpus with titles and labels; what is trained on and what is asked have no document and no prompt in common."""
  task = prompted_text.PromptedText(
    name='t_text',
    mixture='t_prompts',
    corpus=_Titled(),
    data_dir=str(tmp_path),
    vocabulary_size=None,
    validation_one_in=4,
  )
  source = pipeline.Pipeline(mixture_or_task_name='t_prompts', task_feature_lengths={'targets': 160}, task=task).open(
    say=lambda line: None
  )
  assert len(source.corpora) == 8
  assert source.text.folder == source.folder
  assert source.text.corpora == ()
  trained = [source.vocabulary.decode(row['targets'].tolist()) for row in source.rows('validation').as_numpy_iterator()]
  (test,) = prompted.Prompted(each=5).draw(material.Material(source.text))
  for query in (query for item in test.items for query in item.candidates):
    assert query.tokens[-1] == source.special.eos
    assert query.gaps[0][1] == len(query.tokens) - 1 < 160
  asked = [source.vocabulary.decode(item.candidates[0].tokens.tolist()) for item in test.items]
  held_out = {one['id'] for one in prompted_text.by_split(task.corpus, 4)['validation']}
  texts = {one['id']: f'number {one["id"]}.' for one in task.corpus.documents()}
  belongs = lambda text: {name for name, sign in texts.items() if sign in text}
  assert {label for item in test.items for label in item.labels} == {
    'topic',
    'filed',
    'title',
    'called',
    'about',
    'describes',
  }
  assert all(belongs(text) <= held_out for text in [*asked, *trained])
  seen = source.batches(AnswersOnly(), 64)
  read = [source.vocabulary.decode(row.tolist()) for row in next(seen)['decoder_input_tokens']]
  assert read
  assert not any(belongs(text) & held_out for text in read)
  assert not any('file this text' in text or 'called?' in text for text in read)
  with pytest.raises(UserError, match="names 'topics'; there are topic"):
    prompted_text.PromptedText(name='x', corpus=task.corpus, data_dir='x', data_sets=['topics'])


BYTES = vocabularies.byte_vocabulary()
SPECIAL = vocabularies.special_tokens(BYTES)
ENDS = {'sentinel': SPECIAL.sentinels[0], 'end_of_span': SPECIAL.end_of_span}


def _asked(question, answers, length=64):
  source = types.SimpleNamespace(vocabulary=BYTES)
  encode = lambda text: [SPECIAL.bos, *BYTES.encode(text)]
  asked = types.SimpleNamespace(source=source, special=SPECIAL, encode=encode, text_length=length)
  return prompted._item(asked, question, answers, ('data set', 'prompt'), 0)


@pytest.mark.parametrize(
  'scorer',
  [LeftToRight(), PrefixLeftToRight(begin=270), Infill(**ENDS), FillIn(**ENDS, pre=271, mid=272), SpanInfill(**ENDS)],
  ids=lambda scorer: type(scorer).__name__,
)
def test_a_choice_that_begins_another_pays_for_its_end(scorer):
  """Asked of a model to which every token is alike, but for the end of an answer that goes on."""
  answers = ['Rome Treaty', 'Rome', 'Rome Tr']
  item = _asked('What was signed? ', answers)
  scores = []
  for answer, query in zip(answers, item.candidates, strict=True):
    end = -0.1 if answer == 'Rome Treaty' else -9.0
    reads = [int(target) for row in scorer.candidate(query) for target in row.targets]
    assert sum(target in (SPECIAL.eos, SPECIAL.end_of_span) for target in reads) >= 1
    scores.append(sum(end if target in (SPECIAL.eos, SPECIAL.end_of_span) else -0.1 for target in reads))
  assert np.argmax(scores) == 0


@pytest.mark.parametrize(
  'scorer',
  [PseudoLikelihood(mask=SPECIAL.mask), PseudoLikelihood(mask=SPECIAL.mask, shifted=True), AnyOrder(mask=SPECIAL.mask)],
  ids=repr,
)
def test_masked_models_see_the_end_of_a_choice(scorer):
  """None of them learns to predict it: it is hidden in no training row."""
  for query in _asked('What was signed? ', ['Rome Treaty', 'Rome']).candidates:
    for row in scorer.candidate(query):
      assert row.inputs[-1] == SPECIAL.eos
      assert SPECIAL.eos not in row.targets


def test_a_choice_is_asked_where_its_whole_row_fits():
  question, answers = 'Where?', ['Rome', 'Paris']
  row = len([SPECIAL.bos, *BYTES.encode(f'{question}Paris'), SPECIAL.eos])
  assert _asked(question, answers, length=row) is not None
  assert _asked(question, answers, length=row - 1) is None
  assert _asked(question, ['Rome', ''], length=row) is None
