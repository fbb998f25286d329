"""Salient spans from the text to training: by spaCy, by chosen labels, and where there is none."""

import glob
import json
import os
import pathlib
import random
import subprocess
import sys

from test_gin_files import train

_FILES = ('gin/runs/pretrain.gin', 'gin/tasks/local_text.gin')


def _more(tmp_path, pattern: str) -> dict[str, str]:
  return {
    'TEXT_PATTERN': pattern,
    'DATA_DIR': str(tmp_path / 'made'),
    'VOCABULARY_SIZE': '400',
    'VALIDATION_ONE_IN': '5',
  }


def _spans(tmp_path) -> dict[str, int]:
  (path,) = glob.glob(f'{tmp_path}/made/local_text-*/summary.json')
  with open(path) as file:
    return json.load(file)['salient']['spans']


def test_by_spacy(small_text, tmp_path):
  files = (*_FILES, 'gin/tasks/spacy.gin', 'gin/objectives/salient_span.gin')
  assert train(tmp_path / 'run', *files, **_more(tmp_path, small_text)) == 0
  assert json.loads((tmp_path / 'run' / 'done.json').read_text())['tokens_read'] > 0
  assert _spans(tmp_path)['NAME'] > 100
  assert not glob.glob(f'{tmp_path}/made/*/gazetteer.json')


def test_by_chosen_labels(small_text, tmp_path):
  more = _more(tmp_path, small_text) | {'TextTask.salient_labels': "['NAME', 'MONEY', 'NUMBER']"}
  assert train(tmp_path / 'run', *_FILES, 'gin/objectives/salient_span.gin', **more) == 0
  assert set(_spans(tmp_path)) == {'NAME', 'MONEY', 'NUMBER'}


def _refused(capfd, code: int, *signs: str) -> None:
  assert code == 2
  (line,) = [line for line in capfd.readouterr().err.splitlines() if all(sign in line for sign in signs)]
  assert len(line) < 400


def test_mistakes(small_text, tmp_path, capfd):
  files, more = (*_FILES, 'gin/objectives/salient_span.gin'), _more(tmp_path, small_text)
  code = train(tmp_path / 'run', *files, **(more | {'TextTask.salient_labels': "['ORG']"}))
  _refused(capfd, code, 'salient_labels', "'ORG'", 'choose among NAME')
  code = train(tmp_path / 'run', *files, 'gin/tasks/spacy.gin', **(more | {'SPACY_PIPELINE': 'no_such_pipeline'}))
  _refused(capfd, code, "'no_such_pipeline'", 'pip install spacy')
  assert not (tmp_path / 'made').exists()


def test_a_corpus_without_any(tmp_path):
  """In a process of its own, as a user meets it."""
  rng = random.Random(0)
  known = [''.join(rng.choice('abcdefghij') for _ in range(rng.randint(2, 6))) for _ in range(300)]
  for number in range(80):
    (tmp_path / f'{number}.txt').write_text(' '.join(rng.choices(known, k=100)) + '.')
  files, more = (*_FILES, 'gin/objectives/salient_span.gin'), _more(tmp_path, str(tmp_path / '*.txt'))
  code = f'import test_gin_files as t\nraise SystemExit(t.train({str(tmp_path / "run")!r}, *{files!r}, **{more!r}))'
  here = pathlib.Path(__file__).parent
  own = os.environ | {'PYTHONPATH': str(here.parent)}
  done = subprocess.run([sys.executable, '-c', code], cwd=here, env=own, capture_output=True, text=True, check=False)
  assert done.returncode == 2, done.stderr
  assert 'no salient span in any of 80 documents' in done.stdout, done.stderr
  assert 'holds an example of SalientSpan: the text has no unit it could mask' in done.stderr
