"""This machine's devices, divided among cells that run side by side."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ... import UserError

# Chips that one process can hold, and how they lie: libtpu's settings for several processes on a host.
_TPU_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}
_PROBE = """
import json, sys
from unmask.launch import devices
import jax
kinds = jax.local_devices()
peak = devices.peak_of(kinds)
print(json.dumps({'platform': kinds[0].platform, 'count': len(kinds), 'kind': kinds[0].device_kind, 'peak': peak}))
"""


@dataclasses.dataclass(frozen=True)
class Machine:
  """What a process of its own found here, so that this one holds no device.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    count: devices.
    kind: their name.
    peak: FLOPs a second of all of them, None where it is not known; measured on CPU.
  """

  platform: str
  count: int
  kind: str
  peak: float | None


def machine() -> Machine:
  """Asks JAX in another process; UserError with its last line if it does not answer."""
  done = subprocess.run([sys.executable, '-c', _PROBE], capture_output=True, text=True, check=False)
  try:
    return Machine(**json.loads(done.stdout.strip().split('\n')[-1]))
  except ValueError as error:
    line = (done.stderr.strip().split('\n') or [''])[-1]
    raise UserError(f'JAX does not say what devices are here: {line[:300]}') from error


@dataclasses.dataclass(frozen=True)
class Share:
  """What one of the cells that run at a time may use.

  Attributes:
    environment: variables that a process is given.
    cores: of the host it is held to; None for all.
  """

  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  cores: frozenset[int] | None = None


def divide(
  parallel: int, found: Machine, cores: Sequence[int], environment: Mapping[str, str] = os.environ
) -> list[Share]:
  """Equal parts of the devices for `parallel` cells; what is left over is not used.

  GPUs by CUDA_VISIBLE_DEVICES, out of those it names already; TPU chips by TPU_VISIBLE_CHIPS; a CPU by its cores, which
  also bound XLA's and TensorFlow's threads. The host's cores are divided beside accelerators too.

  Raises:
    UserError: there are fewer than `parallel`, or a TPU's chips cannot be divided so.
  """
  if parallel == 1:
    return [Share()]
  parts = _parts(sorted(cores), parallel)
  if found.platform == 'cpu':
    if len(cores) < parallel:
      raise UserError(f'PARALLEL is {parallel}, and there are {len(cores)} cores; run no more cells at a time.')
    return [Share(cores=frozenset(part)) for part in parts]
  if found.count < parallel:
    raise UserError(f'PARALLEL is {parallel}, and there are {found.count} devices ({found.kind}); a cell needs one.')
  held = [frozenset(part) if len(cores) >= parallel else None for part in parts]
  each = found.count // parallel
  if found.platform == 'gpu':
    named = environment.get('CUDA_VISIBLE_DEVICES', '').split(',')
    names = named if named != [''] else [str(number) for number in range(found.count)]
    return [
      Share({'CUDA_VISIBLE_DEVICES': ','.join(names[n * each : (n + 1) * each])}, held[n]) for n in range(parallel)
    ]
  if each not in _TPU_BOUNDS:
    raise UserError(
      f'PARALLEL is {parallel} on {found.count} chips: a process holds 1, 2, 4 or 8 of a host, not {each}. '
      'Choose PARALLEL so that it does.'
    )
  chips = lambda n: ','.join(str(chip) for chip in range(n * each, (n + 1) * each))
  bounds = {'TPU_CHIPS_PER_PROCESS_BOUNDS': _TPU_BOUNDS[each], 'TPU_PROCESS_BOUNDS': '1,1,1'}
  return [Share(bounds | {'TPU_VISIBLE_CHIPS': chips(n)}, held[n]) for n in range(parallel)]


def _parts(cores: Sequence[int], parallel: int) -> list[Sequence[int]]:
  each = len(cores) // parallel
  return [cores[n * each : (n + 1) * each] for n in range(parallel)]


def host_cores() -> list[int]:
  """Cores that this process may run on."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))  # macOS, which holds nobody to a core
