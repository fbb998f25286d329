"""Stand-ins for gcloud, uv and others: they write down how they are called, and gcloud's hosts are local folders.

`gcloud compute tpus tpu-vm ssh --worker=all` really runs its command, once in each host's folder, all at once, with
what a host of a slice is told of its place. A flag that the commands of Google Cloud SDK 528 do not have is refused.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__)
EVERY = {'project', 'quiet'}
FLAGS = {  # by command: its own flags, and how many words it takes
  'compute tpus queued-resources create': (
    'zone node-id accelerator-type runtime-version spot reserved valid-until-duration service-account',
    1,
  ),
  'compute tpus queued-resources describe': ('zone format', 1),
  'compute tpus queued-resources delete': ('zone force async', 1),
  'compute tpus tpu-vm ssh': ('zone worker command', 1),
  'compute tpus tpu-vm scp': ('zone worker recurse', None),
  'container node-pools create': (
    'cluster location node-locations machine-type tpu-topology num-nodes spot reservation-affinity reservation',
    1,
  ),
  'container node-pools delete': ('cluster location', 1),
  'storage rsync': ('recursive', 2),
}
SWITCHES = {'spot', 'reserved', 'force', 'async', 'recurse', 'recursive', 'quiet'}


@dataclasses.dataclass(frozen=True)
class Cloud:
  """A folder in which everything happens.

  Attributes:
    folder: may have spaces in its name.
    hosts: of a slice.
  """

  folder: pathlib.Path
  hosts: int = 4

  def prepare(self, unmask: str, states: str = 'WAITING_FOR_RESOURCES PROVISIONING ACTIVE') -> dict[str, str]:
    """Makes the stand-ins.

    Args:
      unmask: a script, which `uv pip install` puts into a host's environment.
      states: of a request, one a look, the last for good.

    Returns:
      Variables for whoever calls them.
    """
    programs = self.folder / 'bin'
    programs.mkdir(parents=True)
    for name in ('gcloud', 'uv', 'kubectl', 'docker', 'sky', 'python3'):
      (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{HERE}" {name} "$@"\n')
      (programs / name).chmod(0o755)
    (self.folder / 'unmask').write_text(unmask)
    (self.folder / 'states').write_text(states)
    return self.environment

  @property
  def environment(self) -> dict[str, str]:
    """Variables of whoever calls the stand-ins."""
    path = f'{self.folder / "bin"}:{os.environ["PATH"]}'
    own = {'PATH': path, 'CLOUD': str(self.folder), 'CLOUD_HOSTS': f'{self.hosts}'}
    return dict(os.environ) | own | {'POLL_SECONDS': '0', 'RESTART_SECONDS': '0'}

  def settings(self, **changed: str) -> pathlib.Path:
    """A settings file: the one that ships, with values of one's own."""
    shipped = (HERE.parents[1] / 'launch' / 'tpu' / 'settings.env').read_text()
    (self.folder / 'unmask-0.1.0-py3-none-any.whl').write_text('a wheel')
    given = {'NAME': 'trial', 'WHEEL': f'"{self.folder}/unmask-0.1.0-py3-none-any.whl"'} | changed
    path = self.folder / 'my settings.env'
    path.write_text(shipped + ''.join(f'{name}={value}\n' for name, value in given.items()))
    return path

  def calls(self, program: str = 'gcloud') -> list[list[str]]:
    """What a program was called with, in order."""
    path = self.folder / 'calls.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [call[1:] for call in lines if call[0] == program]

  def verbs(self) -> list[str]:
    """Of gcloud's calls the last word of the command, as 'create' and 'ssh'; looks at a request are left out."""
    return [command.split()[-1] for command in map(_command, self.calls()) if not command.endswith('describe')]

  def host(self, number: int) -> pathlib.Path:
    """A host's home."""
    return self.folder / 'hosts' / str(number)

  def take_away(self) -> None:
    """The slice is preempted: what runs there is killed, and the request is suspended."""
    (self.folder / 'states').write_text('SUSPENDED')
    self.kill()
    shutil.rmtree(self.folder / 'hosts', ignore_errors=True)

  def kill(self) -> None:
    """Ends everything that runs on hosts, without a word."""
    for file in self.folder.glob('hosts/*/unmask-job/attempts/*/pid'):
      subprocess.run(['kill', '-KILL', file.read_text().strip()], check=False, capture_output=True)


def _command(arguments: list[str]) -> str:
  return next((command for command in FLAGS if arguments[: len(command.split())] == command.split()), '')


def _gcloud(cloud: Cloud, arguments: list[str]) -> int:
  command = _command(arguments)
  if not command:
    print(f"ERROR: (gcloud) Invalid choice: '{' '.join(arguments[:4])}'.", file=sys.stderr)
    return 2
  flags, words = FLAGS[command]
  parser = argparse.ArgumentParser(allow_abbrev=False)
  for flag in {*flags.split(), *EVERY}:
    parser.add_argument(f'--{flag}', **({'action': 'store_true'} if flag in SWITCHES else {}))
  parser.add_argument('words', nargs=words or '+')
  given = parser.parse_args(arguments[len(command.split()) :])  # status 2 for a flag it does not have
  verb = command.rpartition(' ')[2]
  if verb in ('create', 'describe', 'delete') and 'tpus' in command:
    return _request(cloud, verb, given)
  if verb == 'scp':
    return _scp(cloud, given)
  return _ssh(cloud, given) if verb == 'ssh' else 0


def _request(cloud: Cloud, verb: str, given: argparse.Namespace) -> int:
  there, states = cloud.folder / 'request', cloud.folder / 'states'
  if verb == 'create':
    there.write_text('x')
    for number in range(cloud.hosts):
      cloud.host(number).mkdir(parents=True)
    return 0
  if not there.exists():
    print(f'ERROR: (gcloud.compute.tpus.queued-resources.{verb}) NOT_FOUND: Resource not found.', file=sys.stderr)
    return 1
  if verb == 'delete':
    assert given.force, 'ERROR: the queued resource has nodes'
    there.unlink()
    cloud.kill()
    shutil.rmtree(cloud.folder / 'hosts', ignore_errors=True)
    states.write_text('WAITING_FOR_RESOURCES ACTIVE')
    return 0
  now, *later = states.read_text().split()
  states.write_text(' '.join(later or [now]))
  print(now if given.format == 'value(state.state)' else f'state:\n  state: {now}')
  return 0


def _ssh(cloud: Cloud, given: argparse.Namespace) -> int:
  if (cloud.folder / 'states').read_text() != 'ACTIVE' or not (cloud.folder / 'request').exists():
    print('ERROR: (gcloud.compute.tpus.tpu-vm.ssh) the TPU is not READY.', file=sys.stderr)
    return 1
  numbers = range(cloud.hosts) if given.worker == 'all' else [int(given.worker)]
  with concurrent.futures.ThreadPoolExecutor(cloud.hosts) as pool:
    statuses = list(pool.map(lambda number: _on_host(cloud, number, given.command), numbers))
  for number, status in zip(numbers, statuses, strict=True):
    if status:
      print(f'##### Command execution on worker {number} failed with exit status {status}. Continuing.', flush=True)
  if (broken := cloud.folder / 'broken connections').exists():  # as many as it says
    left = int(broken.read_text())
    broken.write_text(str(left - 1)) if left > 1 else broken.unlink()
    return 255
  return next((status for status in statuses if status), 0)


def _on_host(cloud: Cloud, number: int, command: str) -> int:
  home = cloud.host(number)
  place = {
    'HOME': str(home),
    'TPU_WORKER_ID': str(number),
    'TPU_WORKER_HOSTNAMES': ','.join(['127.0.0.1'] * cloud.hosts),
  }
  broken = (cloud.folder / 'broken connections').exists() and 'worker.sh run' in command
  run = subprocess.Popen(
    ['bash', '-c', command], cwd=home, env=os.environ | place, stdout=subprocess.PIPE if broken else None
  )
  if broken:  # ssh ends, what it has started does not
    time.sleep(0.5)
    run.terminate()
  return run.wait()


def _scp(cloud: Cloud, given: argparse.Namespace) -> int:
  *sources, target = given.words
  for number in range(cloud.hosts):
    for source in sources:
      shutil.copy(source, cloud.host(number) / target.partition(':')[2])
  return 0


def _uv(cloud: Cloud, arguments: list[str]) -> int:
  programs = pathlib.Path('.venv/bin')
  programs.mkdir(parents=True, exist_ok=True)
  if arguments[:1] == ['venv']:
    shutil.copy(shutil.which('true'), programs / 'python')
  elif '--no-deps' in arguments:
    shutil.copy(cloud.folder / 'unmask', programs / 'unmask')
    (programs / 'unmask').chmod(0o755)
  return 0


def _python(cloud: Cloud, arguments: list[str]) -> int:
  """Builds the wheel."""
  folder = arguments[arguments.index('--wheel-dir') + 1]
  assert arguments[:3] == ['-m', 'pip', 'wheel']
  pathlib.Path(folder, 'unmask-0.1.0-py3-none-any.whl').write_text('a wheel')
  return 0


def main(program: str, arguments: list[str]) -> int:
  """One call of a stand-in."""
  cloud = Cloud(pathlib.Path(os.environ['CLOUD']), int(os.environ['CLOUD_HOSTS']))
  with open(cloud.folder / 'calls.jsonl', 'a') as calls:
    calls.write(json.dumps([program, *arguments]) + '\n')
  for file in (argument for argument in arguments if argument.endswith('.yaml')):
    shutil.copy(file, cloud.folder / f'{program}.yaml')  # it is gone when the script has ended
  return {'gcloud': _gcloud, 'uv': _uv, 'python3': _python}.get(program, lambda *_: 0)(cloud, arguments)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1], sys.argv[2:]))
