"""Questions and answers of somebody else's seqio Task, fine-tuned through the real entry."""

import json

import numpy as np
import pytest
import runs
import seqio
import tensorflow as tf
from test_gin_files import HOME, SHRINK
from unmask import UserError
from unmask.launch import cli
from unmask.tasks import answers, vocabularies

NAME = 'questions_and_answers'


@pytest.fixture(scope='module')
def task():
  """Bytes: a question of 20 to 60 tokens, an answer of 3 to 90."""
  vocabulary = vocabularies.byte_vocabulary()
  special = vocabularies.special_tokens(vocabulary)
  generator = np.random.default_rng(0)
  letters = lambda low, high: ''.join(generator.choice(list('abcdef '), generator.integers(low, high)))
  examples = {
    'inputs': [letters(20, 60) for _ in range(400)],
    'targets': [letters(3, 90) for _ in range(400)],
  }
  seqio.TaskRegistry.add(
    NAME,
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(examples),
      splits=('train', 'validation'),
    ),
    preprocessors=[answers.to_answer_rows(vocabulary)],
    output_features={
      'targets': seqio.Feature(vocabulary, add_eos=False),
      'segment_ids': seqio.Feature(seqio.PassThroughVocabulary(2**31 - 1), add_eos=False),
      'answer_ids': seqio.Feature(seqio.PassThroughVocabulary(2**31 - 1), add_eos=False),
    },
  )
  yield seqio.get_mixture_or_task(NAME), vocabulary, special, examples
  seqio.TaskRegistry.remove(NAME)


@pytest.mark.parametrize('length', [40, 200])
def test_rows_hold_the_question_and_the_answer(task, length):
  provider, vocabulary, special, examples = task
  rows = list(provider.get_dataset({'targets': length}, 'train', shuffle=False).as_numpy_iterator())
  assert len(rows) == 400
  for row, question, answer in zip(rows, examples['inputs'], examples['targets'], strict=True):
    tokens, is_answer = row['targets'], row['answer_ids'] > 0
    expected = [*vocabulary.encode(answer), special.eos][: length - 1]
    assert tokens[is_answer].tolist() == expected
    asked = tokens[(row['segment_ids'] > 0) & ~is_answer].tolist()
    assert asked[0] == special.bos
    room = length - 1 - len(expected)
    assert asked[1:] == vocabulary.encode(question)[max(0, len(question) - room) :]


def test_rows_need_a_length(task):
  with pytest.raises(UserError, match='sequence_length'):
    answers.to_answer_rows(task[1])(tf.data.Dataset.range(1), None)


@pytest.mark.parametrize('form', ['joined', 'separate'])
def test_fine_tuning(task, tmp_path, form):
  files = ('gin/runs/pretrain.gin', 'gin/tasks/registered.gin', 'gin/objectives/meap_fine_tuning.gin')
  bindings = {name: value for name, value in SHRINK.items() if name != 'DATA_DIR'} | {
    'MODEL_DIR': str(tmp_path / 'run'),
    'MIXTURE_OR_TASK_NAME': NAME,
    'TASK_FEATURE_LENGTHS': "{'targets': 160}",
    'MEAPFineTuning.form': form,
  }
  given = [f'--gin_file={file}' for file in files] + [f'--gin.{name}={value}' for name, value in bindings.items()]
  assert cli.main(['train', *given]) == 0
  done = json.loads((tmp_path / 'run' / 'done.json').read_text())
  assert 0 < done['tokens_supervised'] < done['tokens_read']
  # Stopped after its first update and resumed, it is the same.
  given.append(f'--gin.MODEL_DIR={tmp_path / "parts"}')
  assert cli.main(['train', *given, '--gin.train.stop_at=1']) == 0
  assert cli.main(['train', *given]) == 0
  (step, whole, position), (other_step, parts, other_position) = (
    runs.final(tmp_path / name) for name in ('run', 'parts')
  )
  assert (step, position) == (other_step, other_position) == (2, position)
  for name, leaf in whole.items():
    np.testing.assert_array_equal(leaf, parts[name], err_msg=name)


def test_plain_text_has_no_answers(default_task, tmp_path, capsys):
  files = ('gin/runs/pretrain.gin', 'gin/objectives/meap_fine_tuning.gin')
  given = [f'--gin.{name}={value}' for name, value in (SHRINK | HOME | {'MODEL_DIR': str(tmp_path / 'run')}).items()]
  assert cli.main(['train', *(f'--gin_file={file}' for file in files), *given]) == 2
  assert 'answer_ids' in capsys.readouterr().err
