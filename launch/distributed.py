"""One run in several processes, one a host: whether this process is one of several, and which, as its environment says.

The same `unmask train` is started on every host; `together` asks, in this order, and the first that knows decides:

1. JAX_COORDINATOR_ADDRESS ('HOST:PORT' of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID, set by hand;
2. Slurm (`srun`) and Open MPI (`mpirun`), by JAX's own detection;
3. TPU slices: TPU_WORKER_HOSTNAMES and TPU_WORKER_ID, which GKE sets, else the metadata of a TPU VM, with MEGASCALE_*
   where several slices are joined (cloud.google.com/tpu/docs/multislice-introduction);
4. SkyPilot: SKYPILOT_NODE_IPS, SKYPILOT_NODE_RANK, SKYPILOT_NUM_NODES.

Where these say one process, or nothing, nothing is initialised. Imports nothing heavy.
"""

import contextlib
import dataclasses
import glob
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from .. import UserError
from . import exits, metadata, peers

PORT = 8482
"""Where process 0 listens if JAX_COORDINATOR_PORT does not say otherwise; JAX's own choice on TPUs."""

PATIENCE = 300
"""Seconds that processes wait for one another; UNMASK_MEETING_SECONDS overrides it."""

_EXPLICIT = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_SLURM = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')  # those of srun
_SKY = ('SKYPILOT_NODE_IPS', 'SKYPILOT_NUM_NODES', 'SKYPILOT_NODE_RANK')
# Of errors that another process's end causes: Gloo's on CPUs, those of JAX's coordination service, of gRPC.
_LOST = re.compile(
  'Gloo|Connection (closed|reset) by peer|[Cc]oordination ?[Ss]ervice|heartbeat|UNAVAILABLE|DEADLINE_EXCEEDED'
)
_LEAVING_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
  """Which of how many processes this is, and where they meet.

  Attributes:
    processes: at least 2.
    process: from 0.
    said_by: the variables or the service that said so, for messages.
    coordinator: 'HOST:PORT' of process 0; None leaves it to JAX's detection.
    detection: JAX's name of the detection that is to find the coordinator.
    devices: local ids of the devices that are this process's; None for all.
  """

  processes: int
  process: int
  said_by: str
  coordinator: str | None = None
  detection: str | None = None
  devices: tuple[int, ...] | None = None


def find(environment: Mapping[str, str], attribute: Callable[[str], str | None] | None = None) -> Place | None:
  """What the environment says; None for a process on its own.

  Args:
    environment: variables by name.
    attribute: of a TPU VM's metadata by key, None for one that is not there; None where there is no TPU to ask about.

  Raises:
    UserError: it says half of what is needed, or what cannot be; names the variables.
  """
  given = {name: value for name, value in environment.items() if value.strip()}
  for look in (_explicit, _slurm, _open_mpi, lambda given: _tpu(given, attribute), _skypilot):
    known, place = look(given)
    if known:
      return place if place is not None and place.processes > 1 else None
  return None


_Answer = tuple[bool, Place | None]
_UNKNOWN: _Answer = (False, None)
_ALONE: _Answer = (True, None)


def _explicit(given: Mapping[str, str]) -> _Answer:
  present = [name for name in _EXPLICIT if name in given]
  if not present:
    return _UNKNOWN
  if present == ['JAX_COORDINATOR_ADDRESS']:  # who counts the processes is another
    for look in (_slurm, _open_mpi):
      known, place = look(given)
      if known:
        return known, place and dataclasses.replace(place, coordinator=_address(given), detection=None)
  _require(given, _EXPLICIT, present)
  return _place(given, 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID', coordinator=_address(given))


def _address(given: Mapping[str, str]) -> str:
  address = given['JAX_COORDINATOR_ADDRESS']
  host, _, port = address.rpartition(':')
  if not host or not port.isdigit():
    raise UserError(f'JAX_COORDINATOR_ADDRESS is {address!r}; it is HOST:PORT of process 0, such as 10.0.0.2:{PORT}.')
  return address


def _slurm(given: Mapping[str, str]) -> _Answer:
  """A batch script's own shell, or `salloc`'s, is no task of a step: it runs on its own, as with JAX."""
  if not all(name in given for name in _SLURM):
    return _UNKNOWN
  devices = None
  gpus = given.get('SLURM_GPUS_ON_NODE', '')
  if given['SLURM_NTASKS'] == given.get('SLURM_STEP_NUM_NODES') and gpus.isdigit() and int(gpus):
    devices = tuple(range(int(gpus)))  # one process a host has all of its GPUs; JAX would take the first
  return _place(given, 'SLURM_NTASKS', 'SLURM_PROCID', detection='slurm', devices=devices)


def _open_mpi(given: Mapping[str, str]) -> _Answer:
  names = ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK')
  present = [name for name in names if name in given]
  if not present:
    return _UNKNOWN
  _require(given, names, present)
  known, place = _place(given, *names, detection='ompi')
  if place and place.processes > 1 and not {'OMPI_MCA_orte_hnp_uri', 'JAX_COORDINATOR_ADDRESS'} & set(given):
    raise UserError(  # Open MPI 5 no longer tells where it was started
      f'OMPI_COMM_WORLD_SIZE is {place.processes}, and Open MPI does not say where its processes can meet: set '
      f'JAX_COORDINATOR_ADDRESS=HOST:{PORT} of process 0.'
    )
  return known, place


def _tpu(given: Mapping[str, str], attribute: Callable[[str], str | None] | None) -> _Answer:
  """The hosts of a slice, and the slices that MEGASCALE_* joins: processes are counted slice by slice."""
  if 'TPU_PROCESS_BOUNDS' in given:  # this process has some chips of its host to itself
    return _ALONE
  hosts = given.get('TPU_PROCESS_ADDRESSES') or given.get('TPU_WORKER_HOSTNAMES') or ''
  values = dict(given)
  if not hosts and attribute is not None and (endpoints := attribute('worker-network-endpoints')):
    hosts = ','.join(metadata.addresses(endpoints))
    told = metadata.variables(attribute('tpu-env') or '')
    values = told | {'TPU_WORKER_ID': attribute('agent-worker-number') or ''} | values
  if not hosts:
    several = [
      name for name, one in (('TPU_WORKER_ID', '0'), ('MEGASCALE_NUM_SLICES', '1')) if given.get(name, one) != one
    ]
    if several:
      _require(given, ['TPU_WORKER_HOSTNAMES'], several)
    return _UNKNOWN
  names = [host.strip().split(':')[0] for host in hosts.split(',')]
  slices = _number(values, 'MEGASCALE_NUM_SLICES') if values.get('MEGASCALE_NUM_SLICES') else 1
  if len(names) * slices == 1:
    return _ALONE
  needed = [*(['TPU_WORKER_ID'] if len(names) > 1 else [])]
  needed += ['MEGASCALE_SLICE_ID', 'MEGASCALE_COORDINATOR_ADDRESS'] if slices > 1 else []
  _require({name: value for name, value in values.items() if value}, needed, ['the hosts of a TPU slice'])
  worker = _number(values, 'TPU_WORKER_ID') if len(names) > 1 else 0
  number = _number(values, 'MEGASCALE_SLICE_ID') if slices > 1 else 0
  if worker >= len(names) or number >= slices:
    raise UserError(
      f'TPU_WORKER_ID is {worker} of {len(names)} hosts, MEGASCALE_SLICE_ID {number} of {slices} slices; both count '
      'from 0.'
    )
  coordinator = values['MEGASCALE_COORDINATOR_ADDRESS'].split(':')[0] if slices > 1 else names[0]
  where = f'{coordinator}:{_port(given)}'
  process = number * len(names) + worker
  said_by = 'TPU_WORKER_HOSTNAMES' if 'TPU_WORKER_HOSTNAMES' in given else "the TPU VM's metadata"
  return True, Place(processes=len(names) * slices, process=process, said_by=said_by, coordinator=where)


def _skypilot(given: Mapping[str, str]) -> _Answer:
  present = [name for name in _SKY if name in given]
  if not present:
    return _UNKNOWN
  _require(given, _SKY, present)
  hosts = given['SKYPILOT_NODE_IPS'].split()
  known, place = _place(given, 'SKYPILOT_NUM_NODES', 'SKYPILOT_NODE_RANK', coordinator=f'{hosts[0]}:{_port(given)}')
  if place and len(hosts) != place.processes:
    raise UserError(f'SKYPILOT_NODE_IPS has {len(hosts)} addresses, SKYPILOT_NUM_NODES is {place.processes}.')
  return known, place


def _place(given: Mapping[str, str], count: str, index: str, **more) -> _Answer:
  processes, process = _number(given, count), _number(given, index)
  if not 0 <= process < processes:
    raise UserError(f'{index} is {process}, and {count} is {processes}; processes count from 0.')
  return True, Place(processes=processes, process=process, said_by=count, **more)


def _number(given: Mapping[str, str], name: str) -> int:
  if not given[name].strip().isdigit():
    raise UserError(f'{name} is {given[name]!r}; it is a whole number.')
  return int(given[name])


def _port(given: Mapping[str, str]) -> int:
  return _number(given, 'JAX_COORDINATOR_PORT') if 'JAX_COORDINATOR_PORT' in given else PORT


def _require(given: Mapping[str, str], needed: list[str] | tuple[str, ...], present: list[str]) -> None:
  """Raises UserError if something needed is missing beside what is `present`."""
  missing = [name for name in needed if name not in given]
  if missing:
    is_are = 'is' if len(missing) == 1 else 'are'
    raise UserError(
      f'One process of several? The environment has {" and ".join(present)}, but {" and ".join(missing)} {is_are} not '
      'set: set all of them on every host, or none for a process on its own.'
    )


def _has_tpu() -> bool:
  """Whether chips are attached to this host, and JAX may use them."""
  allowed = os.environ.get('JAX_PLATFORMS', '')
  chips = glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
  return bool(chips) and (not allowed or 'tpu' in allowed) and not os.environ.get('TPU_SKIP_MDS_QUERY')


def join() -> None:
  """Meets the other processes, if there are any; call it before anything touches a device.

  Raises:
    UserError: the environment is no place, see `find`.
    exits.PeerLost: they did not come.
  """
  place = find(os.environ, metadata.attribute if _has_tpu() else None)
  if place is None:
    return
  import jax

  if jax.distributed.is_initialized():  # whoever calls us has done it
    return
  if os.environ.get('JAX_PLATFORMS') == 'cpu':  # several processes on CPUs, as in tests
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.config.update('jax_cpu_enable_async_dispatch', False)
  patience = _number({'UNMASK_MEETING_SECONDS': f'{PATIENCE}'} | dict(os.environ), 'UNMASK_MEETING_SECONDS')
  try:
    if place.coordinator and place.process and not metadata.answers(place.coordinator, patience):
      raise TimeoutError  # JAX would abort the process
    jax.distributed.initialize(
      place.coordinator,
      place.processes,
      place.process,
      local_device_ids=place.devices,
      cluster_detection_method=place.detection or 'deactivate',
      initialization_timeout=patience,
    )
  except (RuntimeError, TimeoutError) as error:
    where = f'at {place.coordinator} ' if place.coordinator else ''
    raise exits.PeerLost(
      f'process {place.process} of {place.processes} (by {place.said_by}) met nobody {where}within {patience} s: see '
      'what the other processes say. Start the same command on every host.'
    ) from error
  peers.listen(place.process)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """`join`; inside, an error that the end of another process causes is one line, and the status `exits.LOST`.

  What is printed is printed by the first process alone; complaints, on stderr, are everybody's.
  """
  join()
  try:
    with _first_prints():
      yield
  except Exception as error:
    reason = _lost(error)
    if reason is None:
      raise
    raise exits.PeerLost(peers.message(reason)) from error
  finally:
    peers.hush()


@contextlib.contextmanager
def _first_prints() -> Iterator[None]:
  import jax

  if not jax.distributed.is_initialized() or jax.process_index() == 0:
    yield
    return
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    yield


def _lost(error: BaseException) -> str | None:
  """The reason if the error, or one that it came of, is that of a lost process; None if it is another."""
  import jax

  if isinstance(error, UserError) or not jax.distributed.is_initialized():
    return None
  if _LOST.search(text := str(error)):
    return text.strip().split('\n')[0][:200].rstrip('.')
  before = error.__cause__ or error.__context__
  return _lost(before) if before is not None else None


def leave(status: int) -> int:
  """The status; a process of several that failed ends here and now, for JAX would wait minutes for the others.

  Where all fail alike, as by a mistake in their command, they part in good order. To whoever is left, this process is
  lost, and is told so. Where another was lost before, there is no order, and one that stays would keep those that wait.
  """
  if status in (0, exits.PREEMPTED, exits.INTERRUPTED) or 'jax' not in sys.modules:
    return status
  import jax

  if not jax.distributed.is_initialized():
    return status
  process = jax.process_index()

  def part() -> None:
    peers.tell(process, status)
    if process == 0 or status != exits.LOST:
      jax.distributed.shutdown()

  thread = threading.Thread(target=part, daemon=True)
  thread.start()
  # The coordinator ends last: those that it leaves behind are aborted.
  thread.join(_LEAVING_SECONDS if process == 0 else _LEAVING_SECONDS / 2)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
