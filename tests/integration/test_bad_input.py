"""Every mistake a user can make gets one sentence that names it, exit status 2, no traceback, and nothing
half-written.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from test_gin_files import HOME, SHRINK, train
from unmask.launch import cli

RUN = ('gin/runs/pretrain.gin', 'gin/objectives/mlm.gin')


def _refused(capfd, status: int, *signs: str) -> None:
  error = capfd.readouterr().err
  lines = [line.strip() for line in re.split('[\r\n]', error) if line.strip().startswith('unmask: ')]
  assert status == 2
  assert len(lines) == 1, error
  assert 'Traceback' not in error
  for sign in signs:
    assert sign in lines[0], lines[0]


@pytest.mark.parametrize(
  ('argv', 'sign'),
  [
    (['trian'], "no command 'trian'. Did you mean train?"),
    (['train', '--gin_fil=x'], '--gin_fil=x'),
    (['train'], '--gin_file'),
    (['train', '--gin.TRAIN_STEPS'], '--gin.TRAIN_STEPS has no value'),
    (['train', '--gin.TRAIN_STEPS', '--gin.SEED=1'], '--gin.TRAIN_STEPS has no value'),
    (['evaluate'], '--model_dir'),
    (['evaluate', '--model_dir=/nowhere/at/all'], "'/nowhere/at/all' is no trained model"),
    (['infill', '--model_dir=/nowhere', '--text=no gap'], 'one [MASK]'),
    (['infill', '--model_dir=/nowhere', '--text=a [MASK] b'], "'/nowhere' is no trained model"),
    (['inspect'], '--gin_file'),
    (['inspect', '--gin_file=gin/objectives/mlm.gin', '--row=-1'], '--row'),
    (['sweep'], '--gin_file'),
    (['report', '--model_dir=/nowhere'], "'/nowhere' has no done.json"),
  ],
)
def test_flags(argv, sign, capfd):
  _refused(capfd, cli.main(argv), sign)


def test_a_reader_that_goes_away():
  """As `head` does: status 141, which a shell gives to what SIGPIPE ends, and not a word."""
  read, write = os.pipe()
  os.close(read)
  done = subprocess.run(
    [sys.executable, '-m', 'unmask.launch.cli', 'help'], stdout=write, stderr=subprocess.PIPE, check=False
  )
  os.close(write)
  assert (done.returncode, done.stderr) == (141, b'')


@pytest.mark.parametrize(
  ('files', 'bindings', 'signs'),
  [
    (('gin/runs/pretrian.gin',), {}, ("'gin/runs/pretrian.gin'", 'pretrain.gin')),
    (('gin/runs/pretrain.gin', 'gin/objectives/mml.gin'), {}, ("'gin/objectives/mml.gin'", 'mlm.gin')),
    (('gin/runs/pretrain.gin', 'no_team/run.gin'), {}, ("'no_team/run.gin'", 'installed package')),
    (('gin/runs/pretrain.gin',), {}, ('OBJECTIVE', 'gin/objectives/next_token.gin')),
    (RUN, {'TRAIN_STEPZ': 7}, ('TRAIN_STEPZ', 'TRAIN_STEPS')),
    (RUN, {'MaskedLM.rat': 0.2}, ("'rat'", 'did you mean rate?')),
    (RUN, {'MaskLM.rate': 0.2}, ('MaskLM', 'did you mean MaskedLM?')),
    (RUN, {'MaskedLM.rate': 2.0}, ('MaskedLM.rate is 2.0',)),
    (RUN, {'OBJECTIVE': '@nobodys.Objective()'}, ('nobodys.Objective',)),
    (RUN, {'OBJECTIVE': '@masked_lm.MaskdLM()'}, ('MaskdLM', 'did you mean MaskedLM?')),
    (RUN, {'MaskedLM.rate': 'abc'}, ("MaskedLM.rate is 'abc'", 'a number')),
    (RUN, {'LEARNING_RATE': "'1'"}, ("Schedule.peak is LEARNING_RATE='1'", 'a number')),
    (RUN, {'MODEL': '@masked_lm.MaskedLM()'}, ('train.model is MODEL=a MaskedLM', 'a DecoderConfig')),
    (RUN, {'TRAIN_STEPS': '%NOWHERE'}, ('NOWHERE has no value',)),
    (RUN, {'TRAIN_STEPS': 2**31}, ('TRAIN_STEPS=2147483648',)),
    (RUN, {'SEED': -1}, ('Pipeline.seed is -1',)),
    (RUN, {'VALIDATION_ONE_IN': 0}, ('TextTask.validation_one_in is 0',)),
    (RUN, {'MIXTURE_OR_TASK_NAME': "'a b'"}, ("TextTask.name is 'a b'",)),
    (RUN, {'DecoderConfig.mlp_dim': 0}, ('DecoderConfig.mlp_dim is 0',)),
    (RUN, {'DecoderConfig.rope_theta': -1}, ('rope_theta=-1',)),
    (RUN, {'Optimizer.b1': 1.5}, ('Optimizer.b1 is 1.5', '1 at most')),
    (RUN, {'Schedule.warmup_steps': -1}, ('Schedule.warmup_steps is -1', '0 at least')),
    (RUN, {'Evaluation.batches': 0}, ('Evaluation.batches is 0',)),
    (RUN, {'TEXT': '{' * 500}, ('the --gin flags',)),
    (('gin/nowhere/mlm.gin',), {}, ("'gin/nowhere/mlm.gin'", 'folder')),
    (('gin',), {}, ('gin', 'directory')),
    (RUN, {'BATCH_SIZE': 12}, ('BATCH_SIZE=12', '8')),
    (RUN, {'train.microbatches': 3}, ('BATCH_SIZE=8', '3 microbatches')),
    (RUN, {'MeshConfig.tensor': 5}, ('tensor=5', '8 devices')),
    (RUN, {'TASK_FEATURE_LENGTHS': "{'targets': 3}"}, ('is 3', 'at least 4')),
    (RUN, {'TASK_FEATURE_LENGTHS': "{'inputs': 64}"}, ('TASK_FEATURE_LENGTHS',)),
    (RUN, {'TRAIN_STEPS': 0}, ('TRAIN_STEPS=0',)),
    (RUN, {'TRAIN_STEPS': '[1'}, ('gin',)),
    (RUN, {'PROFILE_STEPS': '10..12'}, ("PROFILE_STEPS='10..12'", '--gin.PROFILE_STEPS=[10,15]')),
    (RUN, {'PROFILE_STEPS': '[1,2,3]'}, ('PROFILE_STEPS=[1, 2, 3]',)),
    (RUN, {'PROFILE_STEPS': '[2,3]'}, ('PROFILE_STEPS=[2, 3]', '1 to 2')),
    (RUN, {'DecoderConfig.num_kv_heads': 3}, ('num_kv_heads=3',)),
    (RUN, {'Schedule.decay': 'step'}, ("'step'",)),
    (
      ('gin/runs/pretrain.gin', 'gin/tasks/registered.gin', 'gin/objectives/mlm.gin'),
      {'MIXTURE_OR_TASK_NAME': 'c5'},
      ("'c5'",),
    ),
  ],
)
def test_configurations(files, bindings, signs, default_task, tmp_path, capfd):
  more = {} if 'gin/tasks/registered.gin' in files else HOME
  shrunk = dict(SHRINK)
  if 'gin/tasks/registered.gin' in files:
    more = {}
    shrunk.pop('DATA_DIR')
  given = shrunk | {'MODEL_DIR': str(tmp_path / 'run')} | more | bindings
  argv = [
    'train',
    *(f'--gin_file={file}' for file in files),
    *(f'--gin.{name}={value}' for name, value in given.items()),
  ]
  _refused(capfd, cli.main(argv), *signs)
  assert not (tmp_path / 'run' / 'checkpoints').exists()


def _local(tmp_path: pathlib.Path, pattern: str, **more) -> int:
  files = ('gin/runs/pretrain.gin', 'gin/tasks/local_text.gin', 'gin/objectives/mlm.gin')
  given = {'TEXT_PATTERN': pattern, 'DATA_DIR': str(tmp_path / 'made'), 'VOCABULARY_SIZE': 400} | more
  return train(tmp_path / 'run', *files, **given)


def test_corpora(tmp_path, capfd):
  _refused(capfd, _local(tmp_path, str(tmp_path / '*.txt')), 'No file matches')
  (tmp_path / 'empty.txt').write_text(' \n')
  _refused(capfd, _local(tmp_path, str(tmp_path / '*.txt')), 'empty')
  (tmp_path / 'junk.txt').write_bytes(os.urandom(5000))
  _refused(capfd, _local(tmp_path, str(tmp_path / 'junk.txt')), 'junk.txt')
  (tmp_path / 'zeros.txt').write_bytes(b'ab\x00\x01' * 500)
  _refused(capfd, _local(tmp_path, str(tmp_path / 'zeros.txt')), 'zeros.txt', 'binary')
  (tmp_path / 'deep.jsonl').write_text('[' * 5000)
  _refused(capfd, _local(tmp_path, str(tmp_path / 'deep.jsonl')), 'deep.jsonl line 1')
  (tmp_path / 'one.txt').write_text('A single short document.')
  _refused(capfd, _local(tmp_path, str(tmp_path / 'one.txt')), 'Documents found: 1,', 'LocalText.separator=')
  for i in range(60):
    (tmp_path / f'few{i}.txt').write_text(f'Words {i}.')
  _refused(
    capfd,
    _local(tmp_path, str(tmp_path / 'few*.txt'), VOCABULARY_SIZE=8000, VALIDATION_ONE_IN=3),
    'vocabulary of 8000',
    'VOCABULARY_SIZE',
  )
  assert not [name for name in os.listdir(tmp_path / 'made') if 'local_text' in name], 'something half-made was left'


def test_long_and_tiny_documents_are_no_mistake(tmp_path, small_text):
  """A document longer than any row, one without a space, and documents of one word train as all others do."""
  import glob

  texts = [pathlib.Path(path).read_text(encoding='utf-8') for path in sorted(glob.glob(small_text))]
  (tmp_path / 'long.txt').write_text(' '.join(texts[:150]), encoding='utf-8')
  (tmp_path / 'giant.txt').write_text('abc' * 50_000)
  for i, text in enumerate(texts[150:]):
    (tmp_path / f'd{i}.txt').write_text(text, encoding='utf-8')
    (tmp_path / f'w{i}.txt').write_text('Word', encoding='utf-8')
  assert _local(tmp_path, str(tmp_path / '*.txt'), VOCABULARY_SIZE=1000) == 0


def test_model_dir_that_cannot_be_written(default_task, tmp_path, capfd):
  (tmp_path / 'file').write_text('')
  _refused(capfd, train(tmp_path / 'file' / 'run', *RUN, **HOME), 'MODEL_DIR', 'cannot be written')


def test_checkpoint_of_another_model(default_task, tmp_path, capfd):
  assert train(tmp_path / 'run', *RUN, **HOME) == 0
  capfd.readouterr()
  more = {'TRAIN_STEPS': 4, **HOME}
  _refused(
    capfd, train(tmp_path / 'run', *RUN, **more, **{'DecoderConfig.mlp_dim': 64}), 'mlp_dim was 48 and is now 64'
  )
  other = ('gin/runs/pretrain.gin', 'gin/objectives/meap.gin')
  _refused(capfd, train(tmp_path / 'run', *other, **more), 'another run', 'MEAP')


def test_damaged_checkpoint(default_task, tmp_path, capfd):
  assert train(tmp_path / 'run', *RUN, **HOME) == 0
  capfd.readouterr()
  state = tmp_path / 'run' / 'checkpoints' / '2' / 'state'
  for path in state.rglob('*'):
    if path.is_file() and path.stat().st_size > 2000:
      path.write_bytes(path.read_bytes()[:100])
  _refused(capfd, train(tmp_path / 'run', *RUN, TRAIN_STEPS=4, **HOME), 'Every checkpoint in', '2: ', 'damaged')
