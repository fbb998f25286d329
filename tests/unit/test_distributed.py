"""Whether a process is one of several, as its environment says; that they meet, and what becomes of those left."""

import contextlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from unmask import UserError
from unmask.launch import distributed, exits, metadata

SKY = {'SKYPILOT_NODE_IPS': '10.0.0.1\n10.0.0.2', 'SKYPILOT_NUM_NODES': '2', 'SKYPILOT_NODE_RANK': '1'}
SLURM = {
  'SLURM_JOB_ID': '12',
  'SLURM_STEP_NODELIST': 'node[3-6]',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
  'SLURM_STEP_NUM_NODES': '4',
  'SLURM_GPUS_ON_NODE': '8',
}
GKE = {'TPU_WORKER_HOSTNAMES': 'a-0.a,a-1.a,a-2.a,a-3.a', 'TPU_WORKER_ID': '3', 'JOB_COMPLETION_INDEX': '3'}
SLICES = {
  'MEGASCALE_NUM_SLICES': '2',
  'MEGASCALE_SLICE_ID': '1',
  'MEGASCALE_COORDINATOR_ADDRESS': 'set-slice-0-0.set:8081',
}
HAND = {'JAX_COORDINATOR_ADDRESS': 'one:99', 'JAX_NUM_PROCESSES': '3', 'JAX_PROCESS_ID': '0'}
MPI = {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1', 'OMPI_MCA_orte_hnp_uri': '1.0;tcp://10.0.0.9:1'}


@pytest.mark.parametrize(
  ('environment', 'process', 'processes', 'coordinator'),
  [
    (HAND, 0, 3, 'one:99'),
    (SKY, 1, 2, '10.0.0.1:8482'),
    (SKY | {'JAX_COORDINATOR_PORT': '77'}, 1, 2, '10.0.0.1:77'),
    (GKE, 3, 4, 'a-0.a:8482'),
    (GKE | SLICES, 7, 8, 'set-slice-0-0.set:8482'),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'} | SLICES, 1, 2, 'set-slice-0-0.set:8482'),
    (GKE | SKY, 3, 4, 'a-0.a:8482'),
    (SLURM, 2, 4, None),
    (MPI, 1, 2, None),
    (SLURM | {'JAX_COORDINATOR_ADDRESS': 'one:99'}, 2, 4, 'one:99'),
    (SLURM | HAND, 0, 3, 'one:99'),
  ],
)
def test_who_one_is(environment, process, processes, coordinator):
  place = distributed.find(environment)
  assert (place.process, place.processes, place.coordinator) == (process, processes, coordinator)
  assert (place.detection is None) == (coordinator is not None)


def test_one_process_a_host_has_all_of_its_gpus():
  assert distributed.find(SLURM).devices == tuple(range(8))
  assert distributed.find(SLURM | {'SLURM_NTASKS': '32'}).devices is None  # then it is one a GPU


@pytest.mark.parametrize(
  'environment',
  [
    {},
    {'TPU_WORKER_HOSTNAMES': 'localhost'},
    {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0', 'MEGASCALE_NUM_SLICES': '1'},
    GKE | {'TPU_PROCESS_BOUNDS': '1,1,1'},
    {'JOB_COMPLETION_INDEX': '3', 'TPU_WORKER_ID': '0'},
    {'SKYPILOT_NODE_IPS': '10.0.0.1', 'SKYPILOT_NUM_NODES': '1', 'SKYPILOT_NODE_RANK': '0'},
    {'SLURM_JOB_ID': '12', 'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'},  # a batch script's own shell
    SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'},
    {'JAX_COORDINATOR_ADDRESS': ' ', 'JAX_NUM_PROCESSES': ''},
    {'JAX_COORDINATOR_ADDRESS': 'one:99', 'JAX_NUM_PROCESSES': '1', 'JAX_PROCESS_ID': '0'},
  ],
  ids=str,
)
def test_one_on_its_own(environment):
  assert distributed.find(environment, lambda key: None) is None


@pytest.mark.parametrize(
  ('environment', 'sign'),
  [
    ({'JAX_COORDINATOR_ADDRESS': 'one:99'}, 'JAX_NUM_PROCESSES and JAX_PROCESS_ID are not set'),
    (HAND | {'JAX_PROCESS_ID': ''}, 'JAX_PROCESS_ID is not set'),
    (HAND | {'JAX_COORDINATOR_ADDRESS': 'one'}, "JAX_COORDINATOR_ADDRESS is 'one'; it is HOST:PORT"),
    (HAND | {'JAX_PROCESS_ID': '3'}, 'JAX_PROCESS_ID is 3, and JAX_NUM_PROCESSES is 3'),
    (HAND | {'JAX_NUM_PROCESSES': 'two'}, "JAX_NUM_PROCESSES is 'two'; it is a whole number"),
    ({**GKE, 'TPU_WORKER_ID': ''}, 'TPU_WORKER_ID is not set'),
    ({'TPU_WORKER_ID': '3'}, 'TPU_WORKER_HOSTNAMES is not set'),
    (SLICES, 'TPU_WORKER_HOSTNAMES is not set'),
    (GKE | {'TPU_WORKER_ID': '4'}, 'TPU_WORKER_ID is 4 of 4 hosts'),
    (GKE | {'MEGASCALE_NUM_SLICES': '2'}, 'MEGASCALE_SLICE_ID and MEGASCALE_COORDINATOR_ADDRESS are not set'),
    (GKE | SLICES | {'MEGASCALE_SLICE_ID': '2'}, 'MEGASCALE_SLICE_ID 2 of 2 slices'),
    ({'SKYPILOT_NUM_NODES': '2'}, 'SKYPILOT_NODE_IPS and SKYPILOT_NODE_RANK are not set'),
    (SKY | {'SKYPILOT_NUM_NODES': '3'}, 'SKYPILOT_NODE_IPS has 2 addresses, SKYPILOT_NUM_NODES is 3'),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, 'OMPI_COMM_WORLD_RANK is not set'),
    ({'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '0'}, 'set JAX_COORDINATOR_ADDRESS=HOST:8482'),
  ],
  ids=str,
)
def test_half_of_what_is_needed_is_an_error(environment, sign):
  with pytest.raises(UserError, match=re.escape(sign)) as error:
    distributed.find(environment)
  assert '\n' not in str(error.value)


@contextlib.contextmanager
def _metadata_server(attributes: dict[str, str], failures: int = 0):
  """Answers as a TPU VM's does; the first answers are failures."""
  left = [failures]

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      value = attributes.get(self.path.removeprefix('/computeMetadata/v1/instance/attributes/'))
      left[0] -= 1
      status = 503 if left[0] >= 0 else 404 if value is None or self.headers['Metadata-Flavor'] != 'Google' else 200
      self.send_response(status)
      self.end_headers()
      self.wfile.write((value or '').encode())

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()


@pytest.mark.parametrize('endpoints', ['10.0.0.5,10.0.0.6', 'unknown:1:10.0.0.5,unknown:2:10.0.0.6'])
def test_a_tpu_vm_asks_its_metadata(endpoints, monkeypatch):
  attributes = {'worker-network-endpoints': endpoints, 'agent-worker-number': '1', 'tpu-env': "ZONE: 'z'\n"}
  with _metadata_server(attributes, failures=1) as server:
    monkeypatch.setenv('GCE_METADATA_HOST', server)
    place = distributed.find({}, metadata.attribute)
    assert (place.process, place.processes, place.coordinator) == (1, 2, '10.0.0.5:8482')
    attributes['tpu-env'] += ''.join(f"{name}: '{value}'\n" for name, value in SLICES.items())
    place = distributed.find({}, metadata.attribute)
    assert (place.process, place.processes, place.coordinator) == (3, 4, 'set-slice-0-0.set:8482')
    attributes.update({'worker-network-endpoints': '10.0.0.5', 'tpu-env': ''})
    assert distributed.find({}, metadata.attribute) is None
    attributes.clear()
    assert distributed.find(SKY, metadata.attribute).process == 1


MEET = """
import sys, time
from unmask.launch import distributed, exits, flags
def main(argv):
  with distributed.together():
    import jax, numpy as np
    from jax.experimental import multihost_utils
    print('process', jax.process_index(), 'of', jax.process_count(), flush=True)
    if argv == ['one fails'] and jax.process_index():
      raise flags.UserError('a mistake')
    if argv == ['one fails, one waits']:
      if jax.process_index():
        raise flags.UserError('a mistake')
      time.sleep(600)
    multihost_utils.process_allgather(np.zeros(1))
  if argv == ['all fail']:
    raise flags.UserError('a mistake')
sys.exit(distributed.leave(flags.run(main, sys.argv[1:])))
"""


def _meet(environments: list[dict[str, str]], *argv: str) -> tuple[list[int], list[str]]:
  """Statuses and outputs of processes, one for each environment."""
  running = [
    subprocess.Popen(
      [sys.executable, '-c', MEET, *argv],
      env=os.environ | {'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'} | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for environment in environments
  ]
  said = [process.communicate(timeout=300)[0] for process in running]
  return [process.returncode for process in running], said


def _port() -> int:
  """One that is free, among those that a Slurm job's number gives."""
  for job in range(4096):
    with socket.socket() as probe, contextlib.suppress(OSError):
      probe.bind(('', 61440 + (job + os.getpid()) % 4096))
      return probe.getsockname()[1]
  raise AssertionError('no port is free')


def _by(source: str, number: int, port: int) -> dict[str, str]:
  """The environment of one of two processes of this machine."""
  return {
    'hand': {'JAX_COORDINATOR_ADDRESS': f'localhost:{port}', 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': f'{number}'},
    'slurm': SLURM
    | {'SLURM_JOB_ID': f'{port - 61440}', 'SLURM_STEP_NODELIST': 'localhost,other', 'SLURM_NTASKS': '2'}
    | {'SLURM_PROCID': f'{number}'},
    'sky': SKY
    | {
      'SKYPILOT_NODE_IPS': '127.0.0.1\n127.0.0.1',
      'SKYPILOT_NODE_RANK': f'{number}',
      'JAX_COORDINATOR_PORT': f'{port}',
    },
  }[source]


@pytest.mark.parametrize('source', ['slurm', 'sky'])
def test_they_meet(source):
  port = _port()
  statuses, said = _meet([_by(source, number, port) for number in range(2)])
  assert statuses == [0, 0], said
  assert 'process 0 of 2' in said[0]
  assert 'process' not in said[1]  # one prints for all


def test_where_all_fail_alike_all_say_so():
  port = _port()
  statuses, said = _meet([_by('hand', number, port) for number in range(2)], 'all fail')
  assert statuses == [exits.MISTAKE] * 2, said


def test_where_one_fails_the_other_is_told():
  port = _port()
  statuses, said = _meet([_by('hand', number, port) for number in range(2)], 'one fails')
  assert statuses == [exits.LOST, exits.MISTAKE], said
  assert said[0].split('\n')[-2].startswith('unmask: another process of this run was lost (')
  assert 'Traceback' not in said[0] + said[1]


def test_one_that_waits_elsewhere_is_told_too():
  """Nothing that it waits for breaks."""
  port = _port()
  statuses, said = _meet([_by('hand', number, port) for number in range(2)], 'one fails, one waits')
  assert statuses == [exits.LOST, exits.MISTAKE], said
  assert (
    said[0].split('\n')[-2].startswith('unmask: another process of this run was lost (process 1 ended with status 2)')
  )


def test_nobody_waits_for_ever():
  environment = _by('hand', 1, _port()) | {'UNMASK_MEETING_SECONDS': '1'}
  (status,), (said,) = _meet([environment])
  assert status == exits.LOST
  assert re.fullmatch(r'unmask: process 1 of 2 .* met nobody at localhost:\d+ within 1 s: .*\n', said)


def test_the_first_does_not_either():
  """JAX aborts it, which is a status that asks for a restart, too."""
  environment = _by('hand', 0, _port()) | {'UNMASK_MEETING_SECONDS': '1'}
  (status,), _ = _meet([environment])
  assert 128 - status == exits.ABORTED
