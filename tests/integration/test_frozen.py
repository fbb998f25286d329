"""A run with the model of another beside its decoder: what is refused before it begins, what commands make of it."""

import json
import pathlib
import shutil
from collections.abc import Callable

import pytest
from test_gin_files import HOME, SHRINK
from unmask.launch import cli

SMALL = {'DecoderConfig.embed_dim': 16, 'DecoderConfig.num_layers': 1}


def _train(folder: pathlib.Path, objective: str, **more) -> int:
  bindings = SHRINK | HOME | {'MODEL_DIR': str(folder)} | more
  files = ['gin/runs/pretrain.gin', f'gin/objectives/{objective}.gin']
  given = [*(f'--gin_file={file}' for file in files), *(f'--gin.{name}={value}' for name, value in bindings.items())]
  return cli.main(['train', *given])


@pytest.fixture(scope='module')
def trained(default_task, tmp_path_factory) -> Callable[[str], pathlib.Path]:
  """By objective, trained when it is first asked for."""
  folder = tmp_path_factory.mktemp('trained')

  def get(name: str) -> pathlib.Path:
    if not (folder / name).exists():
      assert _train(folder / name, name, **SMALL) == 0
    return folder / name

  return get


def _damaged(folder: pathlib.Path) -> None:
  for path in (folder / 'checkpoints').rglob('*'):
    if path.is_file() and path.stat().st_size > 100:
      data = bytearray(path.read_bytes())
      data[len(data) // 2] ^= 1
      path.write_bytes(data)


def _without(name: str):
  def change(folder: pathlib.Path) -> None:
    facts = json.loads((folder / 'model.json').read_text())
    (folder / 'model.json').write_text(json.dumps({key: value for key, value in facts.items() if key != name}))

  return change


def _of_other_text(folder: pathlib.Path) -> None:
  facts = json.loads((folder / 'model.json').read_text())
  (folder / 'model.json').write_text(json.dumps(facts | {'vocabulary': 'another'}))


@pytest.mark.parametrize(
  ('scorer', 'change', 'sign'),
  [
    ('next_token', shutil.rmtree, 'is no run: '),
    ('next_token', lambda folder: shutil.rmtree(folder / 'checkpoints'), 'There are no checkpoints in'),
    ('next_token', _damaged, 'is damaged'),
    ('next_token', _of_other_text, 'was trained with another vocabulary'),
    ('next_token', _without('left_to_right'), 'is older and does not say how its model reads'),
    ('next_token', _without('vocab_size'), 'holds no shape of a model'),
    ('mlm', lambda folder: None, 'was trained by MaskedLM('),
    ('electra', lambda folder: None, 'was trained by Electra('),
  ],
)
def test_what_cannot_be_a_scorer_is_named(scorer, change, sign, trained, tmp_path, capsys):
  folder = shutil.copytree(trained(scorer), tmp_path / 'scorer')
  change(folder)
  assert _train(tmp_path / 'run', 'guided_masking', **{'Frozen.checkpoint': str(folder)}) == 2
  said = capsys.readouterr().err
  assert f'Frozen.checkpoint={str(folder)!r}' in said
  assert sign in said
  assert not (tmp_path / 'run' / 'model.json').exists()


def test_no_scorer_is_named_too(default_task, tmp_path, capsys):
  assert _train(tmp_path / 'run', 'guided_masking') == 2
  assert "GuidedMasking.guide has no checkpoint: bind Frozen.checkpoint to a trained run's MODEL_DIR" in (
    capsys.readouterr().err
  )


def test_the_other_run_may_go_when_this_one_has_begun(trained, tmp_path, capsys):
  """Gone on with, replayed, judged, exported: by what it has itself."""
  folder = shutil.copytree(trained('next_token'), tmp_path / 'scorer')
  run = tmp_path / 'run'
  given = {'CHECKPOINT_PERIOD': 1, 'Frozen.checkpoint': str(folder)}
  assert _train(run, 'guided_masking', **given | {'train.stop_at': 1}) == 0
  before = json.loads((run / 'model.json').read_text())
  assert before['frozen']['guide']['embed_dim'] == 16
  assert before['embed_dim'] == 32
  shutil.rmtree(folder)
  assert _train(run, 'guided_masking', **given) == 0
  rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  row = [row for row in rows if 'eval/loss' in row][-1]
  assert 0 < row['eval/passage_weight'] < 1
  assert row['eval/loss'] == pytest.approx(row['eval/guided'])
  assert row['eval/guided'] < row['eval/cross_entropy']
  few = {'TESTS': '[@held_out.Masked()]', 'Masked.segments': 4, 'evaluate.batch_size': 8}
  capsys.readouterr()
  assert cli.main(['replay', f'--model_dir={run}', '--step=2', '--rows=0']) == 0
  assert ', as the run had it' in capsys.readouterr().out
  assert cli.main(['evaluate', f'--model_dir={run}', *(f'--gin.{k}={v}' for k, v in few.items())]) == 0
  assert json.loads((run / 'evaluation' / '2.json').read_text())['sees'] == 'left and right'
  assert cli.main(['export', '--to=hf', f'--model_dir={run}', f'--out={tmp_path / "out"}']) == 0
  facts = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert facts['hidden_size'] == 32
  # Where its own checkpoints are gone too, there is nothing to begin with.
  shutil.rmtree(run / 'checkpoints')
  assert _train(run, 'guided_masking', **given) == 2
  assert 'is no run' in capsys.readouterr().err


def test_inspect_says_what_is_done_on_the_device(default_task, capsys):
  data = [f'--gin.{name}={value}' for name, value in (HOME | {'DATA_DIR': SHRINK['DATA_DIR']}).items()]
  for objective, sign in (
    ('guided_masking', 'on the device the scorer chooses'),
    ('electra', 'on the device the generator'),
  ):
    assert cli.main(['inspect', f'--gin_file=gin/objectives/{objective}.gin', '--rows=50', *data]) == 0
    said = capsys.readouterr().out
    assert sign in said
    assert ('?' in said.partition('training FLOPs per token')[2].split('\n')[0]) == (objective == 'guided_masking')
  assert cli.main(['inspect', '--gin_file=gin/objectives/mlm.gin', '--rows=0', *data]) == 0
  assert 'on the device' not in capsys.readouterr().out


def test_a_sweep_trains_the_scorer_first(tmp_path, capfd):
  assert (
    cli.main(['sweep', '--gin_file=gin/sweeps/guided_masking.gin', f'--gin.SWEEP_DIR={tmp_path}', '--dry_run']) == 0
  )
  shown = capfd.readouterr().out
  rows = [line.split() for line in shown.split('\n') if '-seed0' in line]
  starts = {row[1]: 'next_token-seed0' in row[2:] for row in rows}
  assert starts == {
    'next_token-seed0': False,
    'mlm-seed0': False,
    'confident-seed0': True,
    'unsure-seed0': True,
    'confident_unweighted-seed0': True,
  }
