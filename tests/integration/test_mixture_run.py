"""Runs on several objectives, mixed or in stages, over a mixture of corpora: what their metrics say."""

import json

import pytest
import seqio
import tensorflow as tf
import unmask
from test_gin_files import SHRINK
from unmask.launch import cli

FILES = ('gin/runs/pretrain.gin', 'gin/tasks/registered.gin')
SETTINGS = {name: value for name, value in SHRINK.items() if name != 'DATA_DIR'} | {
  'MIXTURE_OR_TASK_NAME': 'mixed_texts',
  'TRAIN_STEPS': 6,
  'EVAL_PERIOD': 6,
  'train.log_period': 1,
}
MIXED = {'Mixture.shares': "{'masked': 2, 'causal': 1}"}
TWICE = """
from __gin__ import dynamic_registration
from unmask.objectives import next_token
from unmask.objectives import stages

OBJECTIVE = @stages.Stages()
stages.Stages.parts = {'first': @next_token.NextToken(), 'then': @next_token.NextToken()}
stages.Stages.order = [('first', 2), ('then', 4)]
stages.Stages.steps = %TRAIN_STEPS
"""
THEN_MIDDLE = """
from __gin__ import dynamic_registration
from unmask.objectives import fill_in_the_middle
from unmask.objectives import next_token
from unmask.objectives import stages

OBJECTIVE = @stages.Stages()
stages.Stages.parts = {'first': @next_token.NextToken(), 'then': @fill_in_the_middle.FillInTheMiddle()}
stages.Stages.order = [('first', 1), ('then', 1)]
stages.Stages.steps = %TRAIN_STEPS
"""


@pytest.fixture
def mixed_texts(seqio_registry):
  texts = {
    'a': [f'Line {i} of the first of two texts.' for i in range(80)],
    'b': [f'{i} men and more.' for i in range(80)],
  }
  for name, lines in texts.items():
    source = seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None, lines=lines: tf.data.Dataset.from_tensor_slices({'text': lines}),
      splits=('train', 'validation'),
    )
    unmask.tasks.register(f'text_{name}', source)
  unmask.tasks.register_mixture('mixed_texts', {'text_a': 1, 'text_b': 1})
  yield
  seqio.MixtureRegistry.remove('mixed_texts')


def _train(folder, objective='gin/objectives/gpt_bert.gin', **more) -> list[dict]:
  bindings = SETTINGS | {'MODEL_DIR': str(folder)} | more
  given = [f'--gin.{name}={value}' for name, value in bindings.items()]
  assert cli.main(['train', *(f'--gin_file={file}' for file in (*FILES, objective)), *given]) == 0
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_losses_and_shares_of_parts_survive_an_interruption(mixed_texts, tmp_path, capfd):
  whole = _train(tmp_path / 'whole', **MIXED)
  _train(tmp_path / 'cut', **MIXED, **{'train.stop_at': 3})
  cut = _train(tmp_path / 'cut', **MIXED)
  steps = [row for row in whole if 'loss' in row]
  kept = lambda row: {name: value for name, value in row.items() if '/' in name or name in ('step', 'loss')}
  (extra,) = [row for row in cut if row['step'] == 3 and 'eval/loss' in row]  # a run's last update is evaluated
  assert [kept(row) for row in cut if row is not extra] == [kept(row) for row in whole]
  for what in ('rows', 'tokens', 'scored'):
    totals = {name: sum(row[f'{name}/{what}'] for row in steps) for name in ('masked', 'causal')}
    for name, total in totals.items():
      assert steps[-1][f'{name}/share_of_{what}'] == pytest.approx(total / sum(totals.values()))
  assert sum(row['masked/rows'] + row['causal/rows'] for row in steps) == 6 * 8
  assert sum(row[f'corpus/text_{name}/tokens'] for row in steps for name in 'ab') == sum(row['tokens'] for row in steps)
  for row in steps:
    assert (row['masked/rows'], row['causal/rows']) in ((5, 3), (6, 2))  # of 8, two in three
    summed = row['masked/rows'] * row['masked/cross_entropy'] + row['causal/rows'] * row['causal/cross_entropy']
    assert row['loss'] == pytest.approx(summed / 8)
  (held_out,) = [row for row in whole if 'eval/loss' in row]
  parts = [held_out[f'eval/{name}/cross_entropy'] for name in ('masked', 'causal')]
  assert held_out['eval/loss'] == pytest.approx((2 * parts[0] + parts[1]) / 3)
  for part in ('masked', 'causal'):  # the same model, asked in the way of either part
    options = [f'--model_dir={tmp_path}/whole', '--text=of the [MASK] of', '--gin.infill.max_tokens=1']
    assert cli.main(['infill', *options, f'--gin.Mixture.answers_as="{part}"']) == 0
  assert capfd.readouterr().out.count('of the [') >= 2


def test_each_stage_in_its_turn(mixed_texts, tmp_path):
  """A quarter of the updates, rounded up, is next-token prediction; what is held out is read by both."""
  rows = _train(tmp_path / 'run', 'gin/objectives/biphasic.gin', EVAL_PERIOD=1)
  steps = [row for row in rows if 'loss' in row]
  assert [(row['causal/rows'], row['masked/rows']) for row in steps] == [(8, 0)] * 2 + [(0, 8)] * 4
  for row in steps:
    mine, other = ('causal', 'masked') if row['causal/rows'] else ('masked', 'causal')
    assert row['loss'] == pytest.approx(row[f'{mine}/cross_entropy'])
    assert f'{other}/cross_entropy' not in row
  assert steps[-1]['causal/share_of_rows'] == pytest.approx(1 / 3)
  for row in rows:
    if 'eval/loss' in row:
      assert row['eval/loss'] == pytest.approx(row['eval/masked/cross_entropy'])
      assert 1 < row['eval/causal/cross_entropy'] < 10  # throughout, by the same rows


def test_optimizer_and_rate_of_learning_know_no_stages(mixed_texts, tmp_path):
  """Two stages of one objective are that objective."""
  (tmp_path / 'twice.gin').write_text(TWICE)
  alone = _train(tmp_path / 'alone', 'gin/objectives/next_token.gin')
  twice = _train(tmp_path / 'twice', str(tmp_path / 'twice.gin'))
  kept = lambda rows: [{name: row[name] for name in ('step', 'loss', 'learning_rate', 'grad_norm')} for row in rows]
  of_steps = lambda rows: kept([row for row in rows if 'loss' in row])
  for one, other in zip(of_steps(alone), of_steps(twice), strict=True):
    assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize(
  ('objective', 'said'),
  [
    ('gin/objectives/bottleneck.gin', 'unmask: Bottleneck needs 7 spare ids, and this vocabulary has none'),
    ('gin/objectives/ul2.gin', 'unmask: Mixture.parts: R3: SpanCorruption needs 1 spare id,'),
    (THEN_MIDDLE, 'unmask: Stages.parts: then: FillInTheMiddle needs 6 spare ids'),
  ],
  ids=['one', 'mixture', 'stages'],
)
def test_a_vocabulary_that_lacks_what_a_part_needs(objective, said, seqio_registry, tmp_path, capfd):
  """A stage that begins later is refused as the run is started, and nothing of the run is left behind."""
  if objective is THEN_MIDDLE:
    (tmp_path / 'then.gin').write_text(objective)
    objective = str(tmp_path / 'then.gin')
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({'text': ['One line of a text.'] * 8}),
    splits=('train', 'validation'),
  )
  unmask.tasks.register('without_marks', source, vocabulary=seqio.ByteVocabulary(extra_ids=19))
  bindings = SETTINGS | {'MODEL_DIR': str(tmp_path / 'run'), 'MIXTURE_OR_TASK_NAME': 'without_marks'}
  given = [f'--gin.{name}={value}' for name, value in bindings.items()]
  assert cli.main(['train', *(f'--gin_file={file}' for file in (*FILES, objective)), *given]) == 2
  error = capfd.readouterr().err
  assert said in error
  assert 'with extra_ids=29' in error
  assert not (tmp_path / 'run' / 'model.json').exists()
