"""A run on a mixture of objectives over a mixture of corpora: what its metrics say, over an interruption too."""

import json

import pytest
import seqio
import tensorflow as tf
import unmask
from test_gin_files import SHRINK
from unmask.launch import cli

FILES = ('gin/runs/pretrain.gin', 'gin/tasks/registered.gin', 'gin/objectives/gpt_bert.gin')
SETTINGS = {name: value for name, value in SHRINK.items() if name != 'DATA_DIR'} | {
  'MIXTURE_OR_TASK_NAME': 'mixed_texts',
  'TRAIN_STEPS': 6,
  'EVAL_PERIOD': 6,
  'train.log_period': 1,
  'Mixture.shares': "{'masked': 2, 'causal': 1}",
}


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


def _train(folder, **more) -> list[dict]:
  bindings = SETTINGS | {'MODEL_DIR': str(folder)} | more
  given = [f'--gin.{name}={value}' for name, value in bindings.items()]
  assert cli.main(['train', *(f'--gin_file={file}' for file in FILES), *given]) == 0
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_losses_and_shares_of_parts_survive_an_interruption(mixed_texts, tmp_path, capfd):
  whole = _train(tmp_path / 'whole')
  _train(tmp_path / 'cut', **{'train.stop_at': 3})
  cut = _train(tmp_path / 'cut')
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
  both = [row for row in steps if row['masked/scored'] and row['causal/scored']]
  for row in both:
    assert row['loss'] == pytest.approx((2 * row['masked/cross_entropy'] + row['causal/cross_entropy']) / 3)
  (held_out,) = [row for row in whole if 'eval/loss' in row]
  parts = [held_out[f'eval/{name}/cross_entropy'] for name in ('masked', 'causal')]
  assert held_out['eval/loss'] == pytest.approx((2 * parts[0] + parts[1]) / 3)
  for part in ('masked', 'causal'):  # the same model, asked in the way of either part
    options = [f'--model_dir={tmp_path}/whole', '--text=of the [MASK] of', '--gin.infill.max_tokens=1']
    assert cli.main(['infill', *options, f'--gin.Mixture.answers_as="{part}"']) == 0
  assert capfd.readouterr().out.count('of the [') >= 2
