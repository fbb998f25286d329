"""launch/tpu/vm.sh: what it asks of gcloud, in which order, and what it does when something fails or is taken away."""

import pathlib
import subprocess
import sys
import time

import pytest
from cloud import Cloud
from test_gin_files import ROOT

SCRIPTS = ROOT / 'launch' / 'tpu'
# Ends as the first line of its host's plan says, a line a start; says what it was given.
SCRIPTED = """#!/bin/bash
printf 'given:'; printf ' <%s>' "$@"; echo
echo start >>"$CLOUD/starts.$TPU_WORKER_ID"
plan=$CLOUD/plan.$TPU_WORKER_ID
status=$(head -n 1 "$plan" 2>/dev/null)
[ ! -f "$plan" ] || sed -i 1d "$plan"
[ "$status" != hang ] || { trap 'exit 75' TERM; sleep 600 & wait; }
[ "$status" != slow ] || { sleep 1.5; status=0; }
exit "${status:-0}"
"""


@pytest.fixture
def cloud(tmp_path):
  found = Cloud(tmp_path / 'a cloud', hosts=2)
  yield found
  found.kill()


def _start(cloud: Cloud, *verb: str, script: str = 'vm.sh', **settings: str) -> subprocess.Popen:
  environment = cloud.environment if cloud.folder.exists() else cloud.prepare(SCRIPTED)
  command = ['bash', SCRIPTS / script, cloud.settings(**settings), *verb]
  return subprocess.Popen(
    command, cwd=cloud.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def _run(cloud: Cloud, *verb: str, expect: int = 0, **more: str) -> str:
  process = _start(cloud, *verb, **more)
  said = process.communicate(timeout=120)[0]
  assert process.returncode == expect, said
  return said


def _plan(cloud: Cloud, *hosts: str) -> None:
  """What each start on each host ends with, from the first."""
  for number, statuses in enumerate(hosts):
    (cloud.folder / f'plan.{number}').write_text('\n'.join(statuses.split()) + '\n')


def _starts(cloud: Cloud) -> list[int]:
  """Of each host, how often the command was started."""
  files = [cloud.folder / f'starts.{number}' for number in range(cloud.hosts)]
  return [len(file.read_text().split()) if file.exists() else 0 for file in files]


def _until(happens, seconds: float = 60) -> None:
  end = time.monotonic() + seconds
  while not happens():
    assert time.monotonic() < end, 'it did not happen'
    time.sleep(0.05)


def test_shellcheck_finds_nothing():
  program = pathlib.Path(sys.executable).with_name('shellcheck')
  files = [*sorted(SCRIPTS.glob('*.sh')), SCRIPTS / 'settings.env']
  assert len(files) == 6
  done = subprocess.run(
    [program, '-x', '-P', 'SCRIPTDIR', *files], capture_output=True, text=True, check=False, cwd=ROOT
  )
  assert done.returncode == 0, done.stdout
  assert all(len(line) <= 120 for file in files for line in file.read_text().split('\n'))


@pytest.mark.parametrize(
  ('accelerator', 'capacity', 'kind', 'version', 'asked'),
  [
    ('v5e:4x4', 'spot', 'v5litepod-16', 'v2-alpha-tpuv5-lite', ['--spot']),
    ('v5p:2x2x4', 'reserved', 'v5p-32', 'v2-alpha-tpuv5', ['--reserved']),
    ('v4:2x2x1', 'on-demand', 'v4-8', 'tpu-ubuntu2204-base', []),
    ('v6e:16x16', 'spot', 'v6e-256', 'v2-alpha-tpuv6e', ['--spot']),
  ],
)
def test_what_a_slice_is_asked_for(accelerator, capacity, kind, version, asked, cloud):
  said = _run(cloud, 'create', ACCELERATOR=accelerator, CAPACITY=capacity, VALID_UNTIL='6h', SERVICE_ACCOUNT='me@x')
  where = ['--project=my-project', '--zone=us-west4-a', '--quiet']
  create, *looks = cloud.calls()
  assert create == [
    *['compute', 'tpus', 'queued-resources', 'create', 'trial', '--node-id=trial'],
    *[f'--accelerator-type={kind}', f'--runtime-version={version}', *asked, '--valid-until-duration=6h'],
    *['--service-account=me@x', *where],
  ]
  look = ['compute', 'tpus', 'queued-resources', 'describe', 'trial', '--format=value(state.state)', *where]
  assert looks == [look] * 3
  assert said.split('\n')[:3] == [
    f'unmask: trial is {state}.' for state in ('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
  ]


def test_from_nothing_to_a_run_and_back(cloud):
  """Every word of the command reaches every host as it is; so do the files, from folders with spaces."""
  words = ["--gin.TASK_FEATURE_LENGTHS={'targets': 64}", '--gin.NOTE=a "b" $HOME `c` \\ *', '--gin.EMPTY=', 'ünï']
  quoted = ' '.join("'" + word.replace("'", "'\\''") + "'" for word in words)
  _run(cloud, 'create')
  more = {'COMMAND': f'(unmask train {quoted})', 'DATA': 'gs://bucket/data'}
  _run(cloud, 'install', **more)
  for number in range(2):
    names = {path.name for path in (cloud.host(number) / 'unmask-job').iterdir()}
    pins = {'constraints.txt', 'requirements.txt', 'requirements-gcs.txt', 'requirements-tpu-compile.txt'}
    assert names == pins | {'worker.sh', 'unmask-0.1.0-py3-none-any.whl', '.venv'}
  assert cloud.calls('uv')[0] == ['venv', '--quiet', '--python', '3.11', '.venv']
  assert [call[-1] for call in cloud.calls('uv')].count('./unmask-0.1.0-py3-none-any.whl') == 2
  assert cloud.calls().count(['storage', 'rsync', '--recursive', 'gs://bucket/data', 'data']) == 2
  said = _run(cloud, 'run', **more).split('\n')
  given = ' '.join(f'<{word}>' for word in ['train', *words])
  for number in range(2):
    assert f'[{number}] given: {given}' in said
    assert f'[{number}] unmask-job: ended with status 0' in said
  assert f'[1] given: {given}' in _run(cloud, 'logs', '1', **more)
  _run(cloud, 'delete')
  assert cloud.verbs() == ['create', 'ssh', 'scp', 'ssh', 'rsync', 'rsync', 'ssh', 'ssh', 'delete']
  assert not (cloud.folder / 'hosts').exists()


def test_stop_lets_a_run_save(cloud):
  _run(cloud, 'create')
  _run(cloud, 'install')
  _plan(cloud, 'hang', 'hang')
  run = _start(cloud, 'run')
  _until(lambda: _starts(cloud) == [1, 1])
  _run(cloud, 'stop')
  said = run.communicate(timeout=300)[0]
  assert run.returncode == 75, said


def test_what_is_taken_away_is_made_anew(cloud):
  """Preempted twice: once it could save, once not; then it runs to its end."""
  cloud.prepare(SCRIPTED)
  _plan(cloud, '75 hang 0', '75 hang 0')
  babysit = _start(cloud, 'babysit')
  _until(lambda: _starts(cloud) == [2, 2])
  cloud.take_away()
  said = babysit.communicate(timeout=300)[0]
  assert babysit.returncode == 0, said
  assert cloud.verbs() == [
    *['create', 'ssh', 'scp', 'ssh', 'ssh'],
    *['ssh', 'delete'],  # the same command again; then the machines are gone
    *['create', 'ssh', 'scp', 'ssh', 'ssh'],
  ]
  assert 'was taken away' in said
  assert _starts(cloud) == [3, 3]


@pytest.mark.parametrize(('first', 'second', 'status'), [('76', '2', 2), ('134', '1', 1), ('0', '130', 130)])
def test_what_a_person_must_mend_is_not_tried_again(first, second, status, cloud):
  """The others of a run end with statuses of their own when one ends."""
  cloud.prepare(SCRIPTED)
  _plan(cloud, first, second)
  _run(cloud, 'babysit', expect=status)
  assert _starts(cloud) == [1, 1]
  assert cloud.verbs()[-1] == 'ssh'


def test_it_is_given_up_at_last(cloud):
  cloud.prepare(SCRIPTED)
  _plan(cloud, '76 ' * 9, '137 ' * 9)
  said = _run(cloud, 'babysit', expect=76, MOST_RESTARTS='2')
  assert _starts(cloud) == [3, 3]
  assert 'restart 2 of at most 2' in said


def test_a_machine_that_was_replaced_is_installed_again(cloud):
  cloud.prepare(SCRIPTED)
  _plan(cloud, '0 0', '127 0')
  _run(cloud, 'babysit')
  assert cloud.verbs() == ['create', *['ssh', 'scp', 'ssh', 'ssh'] * 2]


def test_a_lost_connection_ends_no_run_and_starts_none(cloud):
  cloud.prepare(SCRIPTED)
  (cloud.folder / 'broken connections').write_text('3')
  _run(cloud, 'create')
  (cloud.folder / 'states').write_text('ACTIVE')
  _plan(cloud, 'slow', 'slow')
  said = _run(cloud, 'babysit')
  assert _starts(cloud) == [1, 1]
  assert 'status 255; restart' in said


def test_what_hangs_is_ended_before_the_next_start(cloud):
  _run(cloud, 'create')
  _run(cloud, 'install')
  _plan(cloud, 'hang 0', 'hang 0')
  hangs = _start(cloud, 'run', '1')
  _until(lambda: _starts(cloud) == [1, 1])
  _run(cloud, 'run', '2')
  hangs.communicate(timeout=300)
  assert hangs.returncode == 75
  assert _starts(cloud) == [2, 2]


def test_a_request_that_fails(cloud):
  """What cannot be had is asked for again, so many times."""
  cloud.prepare(SCRIPTED, states='ACCEPTED FAILED')
  said = _run(cloud, 'create', expect=1)
  assert 'trial is FAILED' in said
  assert '  state: FAILED' in said
  _run(cloud, 'babysit')
  assert cloud.verbs()[:3] == ['create', 'delete', 'create']


@pytest.mark.parametrize(
  ('changed', 'sign'),
  [
    ({'NAME': 'My_Slice'}, "NAME is 'My_Slice'"),
    ({'PROJECT': ''}, 'lacks PROJECT'),
    ({'CAPACITY': 'cheap'}, 'spot, reserved or on-demand'),
    ({'ACCELERATOR': 'v5litepod-16'}, 'such as v5e:4x4'),
    ({'COMMAND': '(python train.py)'}, '(unmask train FLAGS...)'),
    ({'MOST_RESTARTS': 'many'}, 'a whole number'),
  ],
)
def test_settings_that_cannot_be(changed, sign, cloud):
  said = _run(cloud, 'babysit', expect=2, **changed)
  assert sign in said
  assert said.count('\n') == 1
  assert not cloud.calls()


def test_gcloud_refuses_what_it_does_not_have(cloud):
  """The stand-in is worth something."""
  environment = cloud.prepare(SCRIPTED)
  for given in ('compute tpus queued-resources make x', 'compute tpus tpu-vm ssh x --workers=all'):
    done = subprocess.run(['gcloud', *given.split()], env=environment, capture_output=True, check=False)
    assert done.returncode == 2
