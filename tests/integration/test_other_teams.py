"""Another team's package beside an installed unmask: its corpora, mixture and objective, and nothing of ours edited.

The wheel is installed into a virtual environment of its own. What unmask depends on is lent by the environment that the
tests run in, through a '.pth' file, since installing TensorFlow anew takes minutes; the editable unmask there is not
lent, for a '.pth' file does not read those of the folder it names. So `import unmask` finds the wheel's or nothing.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pinned
import pytest
from tiny_decoder import DECODER

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / 'tests' / 'example_team'
SHRINK = DECODER | {
  'TRAIN_STEPS': 20,
  'BATCH_SIZE': 8,
  'EVAL_PERIOD': 20,
  'TASK_FEATURE_LENGTHS': "{'targets': 64}",
}
AFTER = """
import sys
import seqio, unmask
from unmask.launch import cli
assert cli.main(['infill', '--model_dir=run', '--text=by the [MASK] ground', '--gin.infill.max_tokens=1']) == 0
assert unmask.__file__.startswith(sys.prefix), unmask.__file__
task = seqio.get_mixture_or_task('their_letters_meap')
dataset = seqio.get_dataset('their_letters_meap', {'targets': 64}, seqio.PassThroughFeatureConverter(),
                            dataset_split='train', shuffle=False)
batch = next(iter(dataset.batch(4).as_numpy_iterator()))
assert batch['decoder_loss_weights'].dtype == 'float32' and batch['decoder_loss_weights'].shape == (4, 64)
assert (batch['decoder_input_tokens'] == unmask.tasks.special_tokens(unmask.tasks.byte_vocabulary()).mask).any()
"""


def _run(command, folder, **environment):
  kept = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'XLA_FLAGS')}
  done = subprocess.run(
    [str(word) for word in command], cwd=folder, env=kept | environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def theirs(tmp_path_factory) -> pathlib.Path:
  """A folder with an environment 'venv' in which unmask's wheel and the example package are installed."""
  folder = tmp_path_factory.mktemp('theirs')
  pinned.source(folder)
  shutil.copytree(EXAMPLE, folder / 'example')
  _run([sys.executable, '-m', 'venv', '--without-pip', 'venv'], folder)
  python = folder / 'venv' / 'bin' / 'python'
  (site,) = (folder / 'venv').glob('lib/python*/site-packages')
  (site / 'lent.pth').write_text(sysconfig.get_path('purelib') + '\n')
  pip = [sys.executable, '-m', 'pip', '--python', python, '--quiet', '--disable-pip-version-check']
  install = [*pip, 'install', '--no-deps', '--no-index', '--no-build-isolation']
  _run([*install, '--ignore-installed', './unmask-source', './example'], folder)
  shutil.rmtree(folder / 'unmask-source')
  return folder


def test_only_unmask_is_installed_and_says_its_types(theirs):
  (site,) = (theirs / 'venv').glob('lib/python*/site-packages')
  names = {path.name for path in site.iterdir() if not path.name.endswith('.dist-info')}
  assert names == {'unmask', 'their_team', 'lent.pth', '__pycache__'} & names | {'unmask', 'their_team', 'lent.pth'}
  assert (site / 'unmask' / 'py.typed').exists()


def test_their_corpora_and_their_objective_train_and_answer(theirs):
  bindings = SHRINK | {'MODEL_DIR': 'run', 'DecoderConfig.attention': 'xla'}
  given = [f'--gin.{name}={value}' for name, value in bindings.items()]
  files = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=their_team/run.gin']  # in their package, which is installed
  _run([theirs / 'venv/bin/unmask', 'train', *files, *given], theirs)
  rows = [json.loads(line) for line in (theirs / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert rows[-1]['step'] == 20
  share = [row['corpus/their_letters/share_of_tokens'] for row in rows if 'corpus/their_letters/tokens' in row][-1]
  assert 0.6 < share < 0.9  # 3 documents in 4, of nearly the same length
  said = _run(
    [theirs / 'venv/bin/python', '-c', AFTER], theirs
  )  # from the run's own config.gin, which names their module
  assert 'by the [' in said


def test_a_type_checker_sees_our_types_from_their_package(theirs):
  (theirs / 'pyrefly.toml').write_text(
    'replace-imports-with-any = ["tensorflow", "tensorflow.*", "seqio", "seqio.*"]\n'
  )
  (theirs / 'wrong.py').write_text(
    'import unmask\nunmask.tasks.register(3)\nunmask.objectives.MEAP(rat=0.1)\n'
    "unmask.objectives.MaskedLM(unit='letter')\nlength: str = unmask.objectives.MEAP().shift\n"
  )
  command = [sys.executable, '-m', 'pyrefly', 'check', '--python-interpreter-path', theirs / 'venv/bin/python']
  _run([*command, *(theirs / 'example' / 'src' / 'their_team').glob('*.py')], theirs)
  done = subprocess.run(
    [str(w) for w in [*command, 'wrong.py']], cwd=theirs, capture_output=True, text=True, check=False
  )
  for line in (2, 3, 4, 5):
    assert f'wrong.py:{line}:' in done.stdout, done.stdout
