"""`unmask infill` by each way to fill a gap, on models that were trained for a few updates."""

import re

import pytest
import test_gin_files
from unmask.launch import cli

TEXT = 'The town of [MASK] lies on a river.'
_made: dict[str, str] = {}


@pytest.fixture
def model(default_task, tmp_path_factory):
  def trained(objective: str) -> str:
    if objective not in _made:
      folder = tmp_path_factory.mktemp(objective) / 'run'
      files = ('gin/runs/pretrain.gin', f'gin/objectives/{objective}.gin')
      assert test_gin_files.train(folder, *files, **test_gin_files.HOME) == 0
      _made[objective] = str(folder)
    return _made[objective]

  return trained


@pytest.mark.parametrize(
  'objective',
  ['next_token', 'mlm', 'causal_masked', 'prefix_lm', 'span_corruption', 'fill_in_the_middle', 'masked_diffusion'],
)
def test_completions_are_ranked(objective, model, capfd):
  folder = model(objective)
  capfd.readouterr()
  assert cli.main(['infill', f'--model_dir={folder}', f'--text={TEXT}']) == 0
  lines = capfd.readouterr().out.strip().splitlines()
  assert 2 <= len(lines) <= 8
  found = [re.fullmatch(r' *(\d+) +(-[\d.]+)  The town of \[(.*)\] lies on a river\.', line) for line in lines]
  assert all(found), lines
  scores = [float(match[2]) for match in found]
  assert scores == sorted(scores, reverse=True)
  assert len({match[3] for match in found}) == len(found)


def test_masked_diffusion_takes_any_number_of_steps(model, capfd):
  folder, said = model('masked_diffusion'), []
  for more in ('infill.steps=1', 'infill.steps=3', 'infill.temperature=1.0'):
    capfd.readouterr()
    assert cli.main(['infill', f'--model_dir={folder}', f'--text={TEXT}', f'--gin.infilling.{more}']) == 0
    said.append(capfd.readouterr().out)
  assert all(said)
  assert said[0] != said[2]


def test_who_has_no_scorer_is_asked_nothing(default_task, tmp_path, capfd):
  files = ('gin/runs/pretrain.gin', 'gin/objectives/noise_mixture.gin')
  more = {'mixture.Mixture.answers_as': "'replaced'"}
  assert test_gin_files.train(tmp_path / 'run', *files, **test_gin_files.HOME, **more) == 0
  capfd.readouterr()
  assert cli.main(['evaluate', f'--model_dir={tmp_path / "run"}']) == 0
  told = capfd.readouterr()
  assert 'is asked nothing: Mixture has no scorer: it reads every token' in told.out + told.err
  assert cli.main(['infill', f'--model_dir={tmp_path / "run"}', f'--text={TEXT}']) == 2
  assert 'Mixture fills no gaps: it reads every token' in capfd.readouterr().err


def test_steps_are_of_masked_diffusion_alone(model, capfd):
  assert cli.main(['infill', f'--model_dir={model("mlm")}', f'--text={TEXT}', '--gin.infilling.infill.steps=2']) == 2
  assert 'of masked diffusion; MaskedLM fills gaps in another way' in capfd.readouterr().err
  assert cli.main(['infill', f'--model_dir={model("mlm")}', f'--text={TEXT}', '--gin.infilling.infill.steps=-2']) == 2
