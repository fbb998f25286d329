"""Every shipped gin file is parsed, shrunk by bindings, and trained a few steps through the real entry.

Files of objectives are trained in tests/faults/test_exact_resume.py, which does the same and more.
"""

import json
import pathlib
import shutil

import pytest
from tiny_decoder import DECODER
from unmask import UserError
from unmask.launch import cli, config, loop
from unmask.tasks import corpora, text_task

ROOT = pathlib.Path(__file__).resolve().parents[2]
names = lambda folder: sorted(path.stem for path in (ROOT / 'gin' / folder).glob('*.gin'))
SHRINK = DECODER | {
  'TRAIN_STEPS': 2,
  'BATCH_SIZE': 8,
  'EVAL_PERIOD': 2,
  'Evaluation.batches': 1,
  'TASK_FEATURE_LENGTHS': "{'targets': 64}",
  'DATA_DIR': str(ROOT / 'data'),
}
NEED_MORE = ('meap_fine_tuning', 'answers_only', 'guided_masking')  # rows of questions; a scorer
HOME = {'DOWNLOAD_DIR': str(ROOT / 'data' / 'downloads')}


def train(model_dir, *files: str, **more) -> int:
  bindings = SHRINK | {'MODEL_DIR': str(model_dir)} | more
  return cli.main(
    ['train', *(f'--gin_file={file}' for file in files), *(f'--gin.{name}={value}' for name, value in bindings.items())]
  )


def _is_trained(model_dir: pathlib.Path, steps: int = 2) -> None:
  done = json.loads((model_dir / 'done.json').read_text())
  assert done['tokens_read'] > 0
  rows = [json.loads(line) for line in (model_dir / 'metrics.jsonl').read_text().splitlines()]
  assert rows[-1]['step'] == steps
  assert all(row['loss'] > 0 for row in rows if 'loss' in row)
  assert 'DecoderConfig.embed_dim = 32' in (model_dir / 'operative_config.gin').read_text()
  assert list((model_dir / 'tensorboard').iterdir())


@pytest.mark.parametrize('model', ['tiny', '7B'])
def test_models(model, default_task, tmp_path):
  """The least and the most; tests/compile/test_shipped.py makes programs of all."""
  files = ('gin/runs/pretrain.gin', f'gin/models/{model}.gin', 'gin/objectives/next_token.gin')
  assert train(tmp_path / 'run', *files, **HOME) == 0
  _is_trained(tmp_path / 'run')


def test_ablation_run(default_task, tmp_path):
  assert train(tmp_path / 'run', 'gin/runs/ablation.gin', 'gin/objectives/mlm.gin', **HOME) == 0
  _is_trained(tmp_path / 'run')


def test_local_text(small_text, tmp_path):
  files = ('gin/runs/pretrain.gin', 'gin/tasks/local_text.gin', 'gin/objectives/pmi_masking.gin')
  more = {'TEXT_PATTERN': small_text, 'DATA_DIR': str(tmp_path / 'data'), 'VOCABULARY_SIZE': 1000}
  assert train(tmp_path / 'run', *files, **HOME, **more) == 2  # DOWNLOAD_DIR is of no use here, and said to be
  assert train(tmp_path / 'run', *files, **more) == 0
  _is_trained(tmp_path / 'run')


@pytest.mark.parametrize('task', ['c4', 'wikipedia'])
def test_tfds_tasks(task, small_text, tmp_path, monkeypatch):
  """The gin file reaches TFDS by the dataset's own name; TFDS's mock stands for the download."""
  import glob

  import tensorflow_datasets as tfds

  texts = [pathlib.Path(path).read_text(encoding='utf-8') for path in sorted(glob.glob(small_text))]

  def examples(self, *args, **kwargs):
    import tensorflow as tf

    spec = self.info.features.get_tensor_info()
    rows = {name: [''] * len(texts) for name in spec} | {'text': texts}
    return tf.data.Dataset.from_tensor_slices(rows)

  files = ('gin/runs/pretrain.gin', f'gin/tasks/{task}.gin', 'gin/objectives/mlm.gin')
  more = {'DATA_DIR': str(tmp_path / 'data'), 'VOCABULARY_SIZE': 1000}
  with tfds.testing.mock_data(as_dataset_fn=examples):
    assert train(tmp_path / 'run', *files, **more) == 0
  _is_trained(tmp_path / 'run')


def test_registered_task(default_source, tmp_path):
  """A seqio Task that somebody else registered, without units, from plain token ids."""
  import seqio
  import tensorflow as tf
  from unmask.tasks import vocabularies

  name = 'somebody_elses_task'
  vocabulary = vocabularies.byte_vocabulary()
  texts = [f'Line {i} of some text that is long enough to fill a few rows of a model.' * 3 for i in range(60)]
  if name not in seqio.TaskRegistry.names():
    source = seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({'targets': texts}),
      splits=('train', 'validation'),
    )
    features = {'targets': seqio.Feature(vocabulary, add_eos=False)}
    seqio.TaskRegistry.add(name, source=source, preprocessors=[seqio.preprocessors.tokenize], output_features=features)
  files = ('gin/runs/pretrain.gin', 'gin/tasks/registered.gin', 'gin/objectives/meap.gin')
  shrunk = {key: value for key, value in SHRINK.items() if key != 'DATA_DIR'}
  given = [
    f'--gin.{k}={v}' for k, v in (shrunk | {'MODEL_DIR': str(tmp_path / 'run'), 'MIXTURE_OR_TASK_NAME': name}).items()
  ]
  assert cli.main(['train', *(f'--gin_file={file}' for file in files), *given]) == 0
  _is_trained(tmp_path / 'run')


def test_prepared_task(small_text, tmp_path, capsys):
  """A folder made before is enough: its text, its lexicon and its tagger's file may be gone."""
  texts = tmp_path / 'texts'
  shutil.copytree(pathlib.Path(small_text).parent, texts)
  task = text_task.TextTask(
    name='made_before', corpus=corpora.LocalText(pattern=f'{texts}/*.txt'), data_dir=str(tmp_path), vocabulary_size=1000
  )
  made = pathlib.Path(task.prepare(say=lambda line: None))
  moved = made.rename(tmp_path / 'elsewhere')
  shutil.rmtree(texts)
  for name in ('lexicon.tsv', 'gazetteer.json'):
    (moved / name).unlink()
  shrunk = {key: value for key, value in SHRINK.items() if key != 'DATA_DIR'}
  files = ('gin/runs/pretrain.gin', 'gin/tasks/prepared.gin', 'gin/objectives/pmi_masking.gin')
  for folder, status in ((tmp_path / 'nowhere', 2), (moved, 0)):
    bindings = shrunk | {
      'MODEL_DIR': tmp_path / 'run',
      'PREPARED_FOLDER': folder,
      'MIXTURE_OR_TASK_NAME': 'made_before',
    }
    given = [f'--gin.{name}={value}' for name, value in bindings.items()]
    assert cli.main(['train', *(f'--gin_file={file}' for file in files), *given]) == status
  assert 'holds no prepared corpus' in capsys.readouterr().err
  _is_trained(tmp_path / 'run')


def test_the_family_is_every_objective(tmp_path, capfd):
  assert cli.main(['sweep', '--gin_file=gin/sweeps/family.gin', f'--gin.SWEEP_DIR={tmp_path}', '--dry_run']) == 0
  cells = [line.split('-seed0')[0].split()[-1] for line in capfd.readouterr().out.split('\n') if '-seed0' in line]
  assert sorted([*cells, *NEED_MORE]) == names('objectives')


@pytest.mark.parametrize(
  ('files', 'idle'),
  [
    (['objectives/next_token', 'attention/causal'], None),
    (['objectives/next_token', 'objectives/answers_only', 'tasks/prompted'], None),
    (['objectives/mlm', 'attention/causal'], 'PrefixLM.attention'),
    (['objectives/span_corruption', 'objectives/next_token'], 'SpanCorruption.rate'),
  ],
)
def test_a_shipped_file_may_be_used_in_part_but_not_be_of_no_use(files, idle):
  files = ['gin/runs/pretrain.gin', *(f'gin/{name}.gin' for name in files)]
  config.load(files, ["MODEL_DIR = 'x'"])
  config.bound(loop.train)
  if idle:
    with pytest.raises(UserError, match=rf'Nothing uses .*{idle}'):
      config.refuse_unused()
  else:
    config.refuse_unused()
  config.load([], [])


def test_sweep_file_lists_its_cells(tmp_path, capfd):
  assert cli.main(['sweep', '--gin_file=gin/sweeps/core.gin', f'--gin.SWEEP_DIR={tmp_path}', '--dry_run']) == 0
  cells = [line for line in capfd.readouterr().out.split('\n') if '-seed0' in line]
  assert len(cells) == 6
  assert all('to run' in line for line in cells)
