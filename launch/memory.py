"""What an update takes of a device's memory: known before it runs, told by name if it is too much, with what would fit.

A step is refused before it begins where the compiler's own account exceeds the device: on a CPU the kernel would end
the process without a word. What only fails while it runs is read from XLA's error.
"""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator

import jax

from .. import UserError
from . import devices as devices_lib
from . import flags, hlo_text, searching, slices, study
from .program import Program
from .study import GIB, Settings

_EXHAUSTED = re.compile(r'RESOURCE_EXHAUSTED|out of memory', re.IGNORECASE)
_OPERATION = re.compile(r'op_name="([^"]*)"')
_SHOWN = 3  # buffers that are named
_GENERAL = 'A smaller BATCH_SIZE takes less, and so does another remat policy (DecoderConfig.remat).'


@dataclasses.dataclass(frozen=True)
class Buffer:
  """An array in a device's memory: what it is, its type and shape, its bytes."""

  name: str
  shape: str
  size: float

  def __str__(self) -> str:
    return f'{self.name} {self.shape} {_text(self.size)}'


def room(device: jax.Device) -> float | None:
  """Bytes that programs may use of a device: what its allocator says, of a CPU its share of the host; None if unknown.

  A container's limit counts where it is lower than the host's memory (cgroup v2's memory.max).
  """
  if device.platform != 'cpu':
    limit = (device.memory_stats() or {}).get('bytes_limit')
    known = devices_lib.chip(device)
    return float(limit) if limit else known.memory if known else None
  total = float(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
  with contextlib.suppress(OSError, ValueError), open('/sys/fs/cgroup/memory.max') as file:
    total = min(total, float(file.read()))
  return total / jax.local_device_count()


def taken(compiled: jax.stages.Compiled, device: jax.Device) -> float:
  """Bytes that a compiled program takes of a device, its arguments included; 0 where the backend does not say."""
  stats = compiled.memory_analysis()
  if stats is None:
    return 0.0
  if device.platform == 'tpu':
    return float(stats.peak_memory_in_bytes)
  at_once = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
  return float(at_once + stats.temp_size_in_bytes)


def kept(program: Program) -> dict[str, float]:
  """Bytes of one device by what lies there between updates: parameters, optimizer state, a batch."""
  state = program.state_shapes()
  parts = {'parameters': state.params, 'optimizer state': state.opt_state, 'a batch': program.batch_shapes()}
  return {name: sum(map(_size, jax.tree.leaves(part))) for name, part in parts.items()}


def largest(compiled: jax.stages.Compiled) -> list[Buffer]:
  """The largest arrays that a compiled step writes, each shape once: fusions' insides never lie in memory."""
  module = hlo_text.parse(compiled.as_text() or '')
  fused = {one.called('calls') for some in module.computations.values() for one in some.values()}
  found: dict[str, Buffer] = {}
  for name, some in module.computations.items():
    for one in () if name in fused else some.values():
      if one.opcode in ('parameter', 'tuple', 'get-tuple-element', 'while', 'conditional', 'call', 'bitcast'):
        continue
      operation = _OPERATION.search(one.attributes)
      for shape in hlo_text.arrays(one.shape):
        found.setdefault(
          shape, Buffer(_short(operation[1]) if operation else one.opcode, shape, hlo_text.num_bytes(shape))
        )
  return sorted(found.values(), key=lambda buffer: -buffer.size)[:_SHOWN]


class Guard:
  """Holds a run against the memory of its devices.

  Raises, from all of its methods:
    UserError: it does not fit; the message names what takes how much, and what would fit.
  """

  def __init__(self, program: Program, settings: Settings):
    """`settings` are those of which the program was made."""
    self._program, self._settings = program, settings
    self._device = program.mesh.devices.flat[0]
    self._room = room(self._device)
    self._step: jax.stages.Compiled | None = None

  def require_state(self) -> None:
    """What lies in memory between updates, before any of it is made."""
    self._require(sum(kept(self._program).values()), leaves(self._program))

  def require(self, step: jax.stages.Compiled) -> None:
    """The compiled update, before it runs."""
    self._step = step
    if self._room is not None and (needs := taken(step, self._device)) > self._room:
      self._require(needs, largest(step))

  @contextlib.contextmanager
  def explained(self) -> Iterator[None]:
    """Around all that allocates: what XLA says when memory has run out."""
    try:
      yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
      if not isinstance(error, MemoryError) and not _EXHAUSTED.search(str(error)):
        raise
      compiling = study.exceeded(str(error), self._program) or (0.0, 0.0)
      running = taken(self._step, self._device) if self._step else sum(kept(self._program).values())
      needs = max(compiling[0], running)
      said = (str(error).strip() or 'MemoryError').splitlines()[0][:200]
      named = largest(self._step) if self._step else leaves(self._program)
      raise UserError(f'{self._sentence(needs, named)} The error was: {said}') from error

  def _require(self, needs: float, named: Iterable[Buffer]) -> None:
    if self._room is not None and needs > self._room:
      raise UserError(self._sentence(needs, named))

  def _sentence(self, needs: float, named: Iterable[Buffer]) -> str:
    kind = self._device.device_kind
    parts = ', '.join(f'{name} {_text(size)}' for name, size in kept(self._program).items())
    account = f'{parts}; the largest arrays: {"; ".join(map(str, named))}'
    if self._room is None:
      return f'Memory of {kind} ran out. An update takes at least {_text(needs)} ({account}). {_GENERAL}'
    has = f'each {kind}, which has {_text(self._room)} of memory'
    if needs <= self._room:
      return (
        f'Memory ran out. An update takes {_text(needs)} of {has} ({account}): something else holds the rest, another '
        f'process say. {_GENERAL}'
      )
    return f'An update does not fit: it takes at least {_text(needs)} of {has} ({account}). {self._advice()}'

  def _advice(self) -> str:
    """What would fit, each of it compiled; of remat, batch and mesh the smallest change that does."""
    print('unmask: an update does not fit in memory; looking for what does.', flush=True)
    here, found = slices.Held(tuple(self._program.mesh.devices.flat)), []
    for remedies in searching.remedies(self._settings, here):
      label = next((label for label, changed in remedies if self._fits(changed, here)), None)
      found += [label.replace('--mesh=', 'a mesh of ')] if label else []
    if not found:
      return 'Neither remat, batch nor mesh alone would do: take a smaller model, shorter rows or more devices.'
    return f'It would fit with {", or ".join(found)}.'

  def _fits(self, changed: Settings, here: slices.Held) -> bool:
    try:
      program = changed.program(here)
      if self._room is None or sum(kept(program).values()) > self._room:
        return False
      with flags.quiet():
        return taken(program.compile(), self._device) <= self._room
    except (UserError, jax.errors.JaxRuntimeError):
      return False


def leaves(program: Program) -> list[Buffer]:
  """The largest arrays of the state and the batch on one device."""
  state = program.state_shapes()
  parts = {'parameters': state.params, 'optimizer state': state.opt_state, 'batch': program.batch_shapes()}
  found = [
    Buffer(f'{name} {"/".join(str(getattr(key, "key", key)) for key in path)}', _shape(leaf), _size(leaf))
    for name, part in parts.items()
    for path, leaf in jax.tree_util.tree_leaves_with_path(part)
  ]
  return sorted(found, key=lambda buffer: -buffer.size)[:_SHOWN]


def _size(leaf: jax.ShapeDtypeStruct) -> float:
  return float(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize)


def _shape(leaf: jax.ShapeDtypeStruct) -> str:
  return f'{leaf.dtype.name}[{",".join(map(str, leaf.sharding.shard_shape(leaf.shape)))}]'


def _short(operation: str) -> str:
  """The last words of a path such as 'jit(train_step)/jvp(Decoder)/blocks/attention/dot_general'."""
  return '/'.join([part for part in operation.split('/') if part not in ('while', 'body', 'closed_call')][-3:])


def _text(size: float) -> str:
  return f'{size / GIB:,.2f} GiB' if size >= 0.1 * GIB else f'{size / 2**20:,.1f} MiB'
