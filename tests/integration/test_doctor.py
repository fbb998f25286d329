"""`unmask doctor` on a sound machine and on broken ones; completion as bash asks for it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import disks
import pytest
from unmask.launch import checkup, cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _doctor(*flags: str, before: str = '', **environment: str) -> subprocess.CompletedProcess[str]:
  """In a process of its own, after some Python has run in it."""
  code = f'import sys\n{before}\nfrom unmask.launch import cli\nsys.exit(cli.main(["doctor", *sys.argv[1:]]))'
  return subprocess.run(
    [sys.executable, '-c', code, *flags],
    env=os.environ | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_sound_machine(tmp_path):
  done = _doctor(f'--data_dir={tmp_path}/data', f'--runs_dir={tmp_path}/runs')
  assert done.returncode == 0, done.stdout
  lines = done.stdout.split('\n')
  for name in ('Python', 'jax', 'seqio', 'devices', 'corpora', 'runs', 'gin files', 'libtpu', 'wandb'):
    assert [line for line in lines if re.match(rf'ok +{name} ', line)], name
  assert '8 x cpu' in done.stdout
  assert 'Ready: unmask train' in done.stdout
  assert not done.stderr
  assert not list(tmp_path.iterdir())  # it only looks


def test_what_is_broken_is_named_with_its_mend(tmp_path):
  """Another project named gin, an optional package that is not there, folders that cannot be."""
  (tmp_path / 'gin').mkdir()
  (tmp_path / 'gin' / '__init__.py').write_text('')
  (tmp_path / 'file').write_text('')
  hide = 'import importlib.util\nfind = importlib.util.find_spec\n'
  hide += 'importlib.util.find_spec = lambda name, *more: None if name == "wandb" else find(name, *more)\n'
  path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
  done = _doctor(f'--runs_dir={tmp_path}/file/runs', before=hide, PYTHONPATH=path)
  assert done.returncode == 2
  said = re.sub(r'\s+', ' ', done.stdout)
  assert re.search(r'broken gin .* is another project than gin-config -> \S+ -m pip uninstall -y gin &&', said)
  assert re.search(r'missing wandb for Weights & Biases -> \S+ -m pip install', said)
  assert re.search(r'broken runs \S+: \S+ cannot be written', said)
  assert 'Mend first: gin, ' in said


def test_a_package_of_another_version_and_one_that_is_gone(monkeypatch):
  known = checkup.importlib.metadata.version

  def version(name: str) -> str:
    if name == 'optax':
      raise checkup.importlib.metadata.PackageNotFoundError(name)
    return '0.1' if name == 'flax' else known(name)

  monkeypatch.setattr(checkup.importlib.metadata, 'version', version)
  found = {one.name: one for one in checkup._packages()}
  assert (found['optax'].state, found['flax'].state, found['jax'].state) == ('broken', 'broken', 'ok')
  assert '0.1 is installed, >=' in found['flax'].said
  assert found['optax'].mend == checkup.install()


@disks.mounts
def test_a_disk_with_little_room(tmp_path):
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    (corpora,) = [one for one in checkup._folders(str(disk / 'data'), str(tmp_path)) if one.name == 'corpora']
  assert (corpora.state, corpora.mend) == ('note', 'make room, or name another folder')


def test_an_examination_that_fails_is_a_finding(monkeypatch, capsys):
  def fails():
    raise RuntimeError('no plugin')
    yield

  monkeypatch.setattr(checkup, '_devices', fails)
  found = checkup.examine('data', 'runs')
  assert [one.said for one in found if one.name == 'devices'] == ['RuntimeError: no plugin']
  assert checkup.show(found) == 2


def test_every_command_is_there_to_be_mended_with():
  """Of a checkout: the files that the mends name exist."""
  for _, _, extra in checkup._OPTIONAL:
    named = re.findall(r'-[cr] (\S+)', checkup.install(extra))
    assert named
    assert all(pathlib.Path(path).exists() for path in named), named


@pytest.mark.parametrize(
  ('line', 'among'),
  [
    ('unmask ', set(cli.COMMANDS)),
    ('unmask tr', {'train'}),
    ('unmask train --gin_f', {'--gin_file'}),
    ('unmask train --gin.TRAIN', {'--gin.TRAIN_STEPS'}),
    ('unmask train --gin_file gin/objectives/mea', {'gin/objectives/meap.gin', 'gin/objectives/meap_fine_tuning.gin'}),
    ('unmask lexicon show --', {'--file', '--top', '--help'}),
    ('unmask evaluate --model', {'--model_dir'}),
  ],
)
def test_bash_completes(line, among):
  """By bash itself, with the code that `unmask completion bash` prints."""
  words = line.split(' ')
  quoted = ' '.join(f"'{word}'" for word in words)
  script = (
    'source <(unmask completion bash)\n'
    f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE="{line}"\n'
    'COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; _python_argcomplete unmask\nprintf "%s\\n" "${COMPREPLY[@]}"'
  )
  path = f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'
  done = subprocess.run(
    [shutil.which('bash'), '-c', script],
    env=os.environ | {'PATH': path},
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert {found.strip() for found in done.stdout.split('\n')} - {''} == among, done.stderr


@pytest.mark.parametrize('shell', ['zsh', 'fish'])
def test_other_shells_get_their_own_code(shell, capsys):
  assert cli.main(['completion', shell]) == 0
  assert 'unmask' in capsys.readouterr().out
  assert cli.main(['completion', 'csh']) == 2
  assert "'csh'" in capsys.readouterr().err
