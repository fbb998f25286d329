"""The whole road by its commands, in processes of their own: sweep, report, evaluate, inspect, infill."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import virtual_devices
from test_gin_files import HOME, ROOT, SHRINK
from unmask.launch import cli

FEW = [
  'held_out.LeftToRight.gaps = 64',
  'held_out.Masked.segments = 8',
  'held_out.Infill.gaps = {1: 16, 3: 16}',
  'choices.EntityCloze.spans = 16',
  'choices.CollocationCloze.units = 16',
  'retrieval.KeyValue.per_cell = 2',
  'retrieval.Needle.per_cell = 2',
  'retrieval.MultiDocument.per_cell = 2',
  'entity_tracking.EntityTracking.stories = 24',
]
OBJECTIVES = ['next_token', 'causal_masked', 'mlm', 'pmi_masking', 'salient_span', 'meap']


def _command(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
  """On one device, as a user's."""
  command = [sys.executable, '-m', f'unmask.launch.{name}', *flags]
  environment = os.environ | {'XLA_FLAGS': virtual_devices.flags(1)}
  return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def swept(default_task, tmp_path_factory) -> pathlib.Path:
  """A sweep of all six objectives, eight updates each."""
  folder = tmp_path_factory.mktemp('sweep')
  settings = SHRINK | HOME | {'TRAIN_STEPS': 8, 'BATCH_SIZE': 16, 'CHECKPOINT_PERIOD': 8}
  bindings = [
    f'{name} = {value if isinstance(value, int) or value[0] == "{" else repr(value)}'
    for name, value in settings.items()
  ]
  flags = ['--gin_file=gin/sweeps/core.gin', f'--gin.SWEEP_DIR={folder}', f'--gin.BINDINGS={bindings}']
  flags += [f'--gin.JUDGE_BINDINGS={FEW}']
  done = _command('sweep', *flags)
  assert done.returncode == 0, done.stdout + done.stderr
  (folder / 'flags').write_text(json.dumps(flags))
  (folder / 'stdout').write_text(done.stdout)
  (folder / 'stderr').write_text(done.stderr)
  return folder


def test_sweep_trains_judges_and_reports(swept):
  page = (swept / 'report.html').read_text()
  table = (swept / 'report.md').read_text()
  assert f'The report is {swept}/report.html' in (swept / 'stdout').read_text()
  assert 'http' not in page, 'the page needs the network'
  assert page.count('data:image/svg+xml') >= 4
  for name in (*OBJECTIVES, 'baseline (unigram'):
    assert name in page
    assert f'| {name}' in table
  assert 'one seed only' in page
  said = (swept / 'stdout').read_text()
  for name in OBJECTIVES:
    assert re.search(rf'{name}-seed0: done, 8 of 8, loss \d+\.\d+', said)
    assert 'tokens/s' in (swept / f'{name}-seed0' / 'train.log').read_text()
  progress = (swept / 'stderr').read_text() + ''.join(path.read_text() for path in swept.glob('*/train.log'))
  for noise in ('Traceback', 'oneDNN', 'cuInit', 'WARNING'):
    assert noise not in progress


def _answers(folder: pathlib.Path) -> dict:
  (path,) = (folder / 'evaluation').glob('*.json')
  return json.loads(path.read_text())


def test_every_model_answers_the_same_questions(swept):
  results = [_answers(swept / f'{name}-seed0') for name in OBJECTIVES]
  names = list(results[0]['tests'])
  assert {'left_to_right', 'masked_token', 'infill_3', 'entity_cloze', 'key_value', 'entity_tracking'} <= set(names)
  for name in names:
    asked = [result['tests'][name] for result in results]
    assert len({(test['asked'], test['items']) for test in asked}) == 1
    for figures in (test['figures'] for test in asked):
      assert 0 < figures.get('loss', 1) < 20
      assert 0 <= figures.get('accuracy', 0) <= 1
      assert 0 <= figures.get('exact', 0) <= 1
  assert {result['home'] for result in results} == {'left_to_right', 'infill', 'masked', 'salient'}


def test_sweep_again_redoes_nothing(swept):
  before = {path: path.stat().st_mtime_ns for path in swept.glob('*/metrics.jsonl')}
  answers = {path: path.read_bytes() for path in swept.glob('*/evaluation/*')}
  flags = json.loads((swept / 'flags').read_text())
  again = _command('sweep', *flags)
  assert again.returncode == 0, again.stderr
  assert again.stdout.count('is trained') == 6
  assert before == {path: path.stat().st_mtime_ns for path in swept.glob('*/metrics.jsonl')}
  assert answers == {path: path.read_bytes() for path in swept.glob('*/evaluation/*')}


def test_sweep_does_not_mix_settings(swept, capsys):
  assert cli.main(['sweep', '--gin_file=gin/sweeps/core.gin', f'--gin.SWEEP_DIR={swept}']) == 2
  assert 'was begun with other settings' in capsys.readouterr().err


def test_a_lost_done_file_comes_back(swept):
  done = swept / 'mlm-seed0' / 'done.json'
  before = json.loads(done.read_text())
  done.unlink()
  flags = json.loads((swept / 'flags').read_text())
  again = _command('sweep', *flags)
  assert again.returncode == 0, again.stderr
  after = json.loads(done.read_text())
  assert {k: v for k, v in after.items() if k != 'train_seconds'} == {
    k: v for k, v in before.items() if k != 'train_seconds'
  }


def test_report_alone(swept, tmp_path, capsys):
  flags = [f'--model_dir={swept / name}-seed0' for name in ('mlm', 'meap')]
  assert cli.main(['report', *flags, f'--out={tmp_path}']) == 0
  assert '| meap |' in capsys.readouterr().out
  assert (tmp_path / 'report.html').exists()


def test_a_sweep_probes_its_cells_if_asked(swept):
  """One of them here; it is neither trained nor judged again."""
  few = [
    "PROBES = ['topic']",
    'Grid.learning_rates = [0.01]',
    'Grid.updates = 2',
    'Sizes.train = 24',
    'Sizes.dev = 16',
    'Sizes.test = 20',
  ]
  more = [f'--gin.PROBE_BINDINGS={few}', "--gin.CELLS=[{'objective': 'mlm'}]"]
  before = _answers(swept / 'mlm-seed0')['tests']
  assert cli.main(['sweep', *json.loads((swept / 'flags').read_text()), *more]) == 0
  after = _answers(swept / 'mlm-seed0')['tests']
  assert after.keys() - before.keys() == {'probe_topic'}
  assert before == {name: test for name, test in after.items() if name in before}
  assert 'topic' in (swept / 'report.md').read_text()


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_infill_answers_with_ranked_completions(objective, swept, capsys):
  argv = ['infill', f'--model_dir={swept / objective}-seed0', '--text=The capital of [MASK] is Paris.']
  assert cli.main(argv) == 0
  lines = capsys.readouterr().out.strip().split('\n')
  assert len(lines) == 8
  scores = [float(line.split()[1]) for line in lines]
  assert scores == sorted(scores, reverse=True)
  assert all(re.fullmatch(r' *\d+ +-?[\d.]+  The capital of \[.*\] is Paris\.', line) for line in lines), lines


@pytest.mark.parametrize('objective', ['pmi_masking', 'salient_span'])
def test_inspect_shows_an_example_and_the_shares(objective, default_task, capsys):
  """By the graphs that training has, with units and with rows that are dropped; test_inspect has all objectives."""
  data = [f'--gin.DATA_DIR={SHRINK["DATA_DIR"]}', f'--gin.DOWNLOAD_DIR={HOME["DOWNLOAD_DIR"]}']
  assert cli.main(['inspect', f'--gin_file=gin/objectives/{objective}.gin', '--rows=100', *data]) == 0
  out = capsys.readouterr().out
  for part in ('text', 'reads', 'predicts', 'sees', 'supervised', 'over 100 rows'):
    assert part in out
  cost = _costs()[objective]
  assert re.search(rf'training FLOPs per token\W+{re.escape(cost)} M\W', out), 'what docs/objectives.md says of it'


def _costs() -> dict[str, str]:
  """Training FLOPs per token, millions, by gin file."""
  page = (ROOT / 'docs' / 'objectives.md').read_text(encoding='utf-8')
  return dict(re.findall(r'(?m)^\| `(\w+)` \| ([\d.]+) \| [\d.]+ \|$', page))
