"""`unmask infill` by each way to fill a gap, on models that were trained for a few updates."""

import re

import numpy as np
import pytest
import test_gin_files
from unmask.launch import cli, infilling

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


@pytest.fixture
def fill(model, capfd, monkeypatch):
  """`unmask infill` by a model of an objective: (what it said, the texts of each of its passes)."""

  def filled(objective: str, *settings: str) -> tuple[str, list]:
    folder, passes, ask = model(objective), [], infilling._Filler._at

    def counted(filler, rows, reads, prefix=0):
      passes.append(np.array(rows))
      return ask(filler, rows, reads, prefix)

    monkeypatch.setattr(infilling._Filler, '_at', counted)
    flags = [f'--gin.infilling.infill.{setting}' for setting in settings]
    capfd.readouterr()
    assert cli.main(['infill', f'--model_dir={folder}', f'--text={TEXT}', *flags]) == 0
    monkeypatch.undo()
    return capfd.readouterr().out, passes

  return filled


def test_masked_diffusion_takes_any_number_of_steps(fill):
  """A gap of 1, 2, 3 and 4 tokens: so many passes each, but no more than it has tokens."""
  for steps, passes in ((0, 1 + 2 + 3 + 4), (1, 4), (3, 1 + 2 + 3 + 3), (9, 1 + 2 + 3 + 4)):
    said, asked = fill('masked_diffusion', f'steps={steps}')
    assert len(asked) == passes
    completions = said.strip().splitlines()
    assert len(completions) > 4 if not steps else 1 <= len(completions) <= 4  # without chance one of each length
    assert len(asked[-1]) == (1 if steps else 16)


def test_a_temperature_and_a_seed_change_what_is_drawn(fill):
  draw = lambda *settings: fill('masked_diffusion', 'steps=2', *settings)[0]
  likeliest, drawn = draw(), draw('temperature=1.0')
  assert len(drawn.strip().splitlines()) == 8
  assert drawn != likeliest
  assert drawn == draw('temperature=1.0', 'seed=0')
  assert drawn != draw('temperature=1.0', 'seed=1')
  alone = [fill('masked_diffusion', 'max_tokens=1', 'count=16', f'temperature={t}')[0] for t in ('0.0', '1.0', '5.0')]
  assert len(set(alone)) == 3  # a gap of one token too


def test_blocks_are_filled_from_left_to_right(fill):
  _, passes = fill('masked_diffusion', 'max_tokens=3', 'temperature=1.0', 'block=1')
  texts = passes[-3:]  # of the gap of three tokens
  row = texts[0][0].tolist()
  first = next(i for i in range(len(row)) if row[i] == row[i + 1] == row[i + 2])
  for done, rows in enumerate(texts):
    masked = rows == row[first]
    assert (np.flatnonzero(masked.all(axis=0)) == np.arange(first + done, first + 3)).all()
    assert masked.sum() == len(rows) * (3 - done)


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
  assert cli.main(['infill', f'--model_dir={model("mlm")}', f'--text={TEXT}', '--gin.infilling.infill.block=2']) == 2
  assert 'of masked diffusion; MaskedLM fills gaps in another way' in capfd.readouterr().err
  assert cli.main(['infill', f'--model_dir={model("mlm")}', f'--text={TEXT}', '--gin.infilling.infill.seed=2']) == 2
  assert 'infill.seed is 2, which has no effect here' in capfd.readouterr().err
  assert cli.main(['infill', f'--model_dir={model("mlm")}', f'--text={TEXT}', '--gin.infilling.infill.steps=-2']) == 2
