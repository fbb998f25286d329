"""docs/tpu.md: every command on it is run, in its order, on stand-ins for what it calls; it names every verb."""

import pathlib
import re
import shlex
import subprocess
import tomllib

import forks
import kubeflow_trainer_api.models as jobset_models
import pytest
import yaml
from cloud import Cloud
from test_gin_files import ROOT
from unmask.launch import flags, slices

PAGE = ROOT / 'docs' / 'tpu.md'
SAYS = '#!/bin/bash\necho "given $*"\n'


def _commands() -> list[str]:
  """The page's indented lines, continued ones joined, without their comments."""
  blocks = re.sub(r'\\\n\s+', '', PAGE.read_text())
  lines = [line.strip() for line in blocks.split('\n') if line.startswith('    ')]
  return [line.partition('  #')[0].strip() for line in lines]


@pytest.fixture(scope='module')
def session(tmp_path_factory) -> Cloud:
  """All of the page is typed in a checkout, as it stands."""
  folder = tmp_path_factory.mktemp('my checkout')
  cloud = Cloud(folder / 'cloud')
  environment = cloud.prepare(SAYS, states='ACTIVE')
  for path in ROOT.iterdir():
    if path.name in ('launch', 'gin') or path.suffix == '.txt':
      (folder / path.name).symlink_to(path)
  (folder / 'build' / 'lib').mkdir(parents=True)  # an older wheel's
  script = cloud.folder / 'bin' / 'unmask'
  script.write_text(forks.SCRIPT)
  script.chmod(0o755)
  with forks.server(tmp_path_factory.mktemp('forks')) as own:
    for line in _commands():
      if line.startswith('unmask precompile'):
        continue  # tests/compile does
      done = subprocess.run(
        ['bash', '-c', line],
        cwd=folder,
        env=environment | own | {'HOME': str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
      )
      assert done.returncode == 0, f'{line}\n{done.stdout}{done.stderr}'
  return cloud


def test_every_command_is_known():
  for line in _commands():
    assert line.split()[0] in {'unmask', 'cp', *(f'launch/tpu/{name}.sh' for name in ('vm', 'gke', 'sky'))}, line


@pytest.mark.parametrize('name', ['vm', 'gke', 'sky'])
def test_every_verb_is_on_the_page(name):
  said = re.search(r"VERBS='(.*)'", (ROOT / 'launch' / 'tpu' / f'{name}.sh').read_text())[1]
  verbs = {verb.split()[0] for verb in said.split('|')}
  assert verbs == {line.split()[2] for line in _commands() if line.startswith(f'launch/tpu/{name}.sh')}


def test_what_is_compiled_first_can_be():
  (line,) = [line for line in _commands() if line.startswith('unmask precompile')]
  parser = flags.parser('precompile', '')
  parser.add_argument('--topology')
  options = flags.parse(parser, shlex.split(line)[2:])
  assert slices.parse(options.topology).chips == 16
  assert all((ROOT / file).exists() for file in options.gin_file)


def test_the_page_on_tpu_vms(session):
  verbs = [verb for verb in session.verbs() if verb in ('create', 'scp', 'delete')]
  assert verbs[:6] == ['create', 'scp', 'delete', 'create', 'scp', 'create']
  (first, *_) = [call for call in session.calls() if call[3] == 'create']
  assert '--accelerator-type=v5litepod-16' in first
  wheels = [call[-1] for call in session.calls('python3')]
  assert all(pathlib.Path(wheel, 'launch', 'tpu').is_dir() for wheel in wheels)  # of the checkout
  assert len(wheels) == 3
  assert not (session.folder.parent / 'build').exists()  # else what has gone from the code would be in the wheel


def test_the_page_on_gke(session):
  pool = [call for call in session.calls() if call[0] == 'container']
  assert pool[0][:4] == ['container', 'node-pools', 'create', 'unmask']
  asked = {
    '--machine-type=ct5lp-hightpu-4t',
    '--num-nodes=4',
    '--tpu-topology=4x4',
    '--spot',
    '--node-locations=us-west4-a',
  }
  assert asked <= set(pool[0])
  assert pool[1][:4] == ['container', 'node-pools', 'delete', 'unmask']
  assert [call[0] for call in session.calls('docker')] == ['build', 'push']
  assert session.calls('docker')[1] == ['push', 'us-docker.pkg.dev/my-project/unmask/unmask:1']
  assert [call[0] for call in session.calls('kubectl')] == ['delete', 'apply', 'logs', 'delete', 'delete']
  document = yaml.safe_load((session.folder / 'kubectl.yaml').read_text())
  assert jobset_models.JobsetV1alpha2JobSet.from_dict(document).to_dict() == document
  assert document['metadata']['name'] == 'unmask'
  (job,) = document['spec']['replicatedJobs']
  (container,) = job['template']['spec']['template']['spec']['containers']
  assert job['template']['spec']['parallelism'] == 4
  options = flags.parse(flags.parser('train', ''), container['args'])
  assert options.gin_file == ['gin/runs/pretrain.gin', 'gin/objectives/mlm.gin']
  assert options.gin_bindings == ["MODEL_DIR = 'gs://my-bucket/runs/mlm'"]


def test_the_page_on_skypilot(session):
  assert [call[:2] for call in session.calls('sky')] == [['jobs', 'launch'], ['jobs', 'logs'], ['jobs', 'cancel']]
  task = yaml.safe_load((session.folder / 'sky.yaml').read_text())
  assert task['name'] == 'unmask'
  assert task['resources']['infra'] == 'gcp/us-west4/us-west4-a'
  assert task['resources']['accelerators'] == 'tpu-v5litepod-16:1'
  words = shlex.split(task['run'])
  assert words[:2] == ['.venv-job/bin/unmask', 'train']
  assert "--gin.MODEL_DIR='gs://my-bucket/runs/mlm'" in words


def test_one_run_as_a_file(session):
  """`unmask job`, as the page calls it: a file each."""
  written = session.folder.parent / 'jobs'
  assert [
    path.relative_to(written).as_posix() for path in sorted(written.rglob('*'), reverse=True) if path.is_file()
  ] == [
    'skypilot/mlm.yaml',
    'jobset/mlm.yaml',
  ]
  assert yaml.safe_load((written / 'jobset' / 'mlm.yaml').read_text())['spec']['replicatedJobs'][0]['replicas'] == 2


def test_the_extra_asks_for_the_compilers_pins():
  extra = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']['tpu']
  pins = [line for line in (ROOT / 'requirements-tpu-compile.txt').read_text().split('\n') if line.startswith('libtpu')]
  plain = lambda lines: sorted(line.replace('"', "'") for line in lines)
  assert plain(one for one in extra if one.startswith('libtpu')) == plain(pins)
