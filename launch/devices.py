"""What a device can do: the peaks that model FLOPs utilisation and the bounds of `precompile` are held against.

Peaks of dense bfloat16 products are the makers': cloud.google.com/tpu/docs (pages v4, v5e, v5p, v6e) and NVIDIA's data
sheets (dense, without sparsity). Links are one way, per link: the same pages' interconnect figures (v5e 1,600, v6e
3,200, v4 2,400, v5p 4,800 Gbit/s a chip) divided by their links (4, 4, 6, 6). The network is the pages' per chip (v5p),
or per host divided by its chips (v5e 2 x 100 Gbit/s, v6e 4 x 200 Gbit/s, of 8). TPU clocks are those at which the
matrix units' sizes give the stated peak.
"""

import collections
import dataclasses
import functools
import math
import time
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One JAX device.

  Attributes:
    name: as a topology names it ('v5e'), or the maker's.
    peak_flops: dense bfloat16 products and sums a second; float32 at that rate on no accelerator.
    memory: bytes that a program may use.
    bandwidth: of the memory, bytes a second.
    clock: Hz, of the compiler's cycles; 0 where none are used.
    link: bytes a second, one way, of one link between chips; 0 where unknown.
    axes: of the torus that the links form.
    wraps_at: an axis of this many chips, or of a multiple, can have links between its ends.
    cubes: whether only slices do that all of whose axes are such multiples.
    network: bytes a second, one way, of a chip's share of the data-centre network between slices; 0 where unknown.
    matrix_unit: rows and columns of a matrix unit.
  """

  name: str
  peak_flops: float
  memory: float
  bandwidth: float
  clock: float = 0.0
  link: float = 0.0
  axes: int = 0
  wraps_at: int = 1
  cubes: bool = False
  network: float = 0.0
  matrix_unit: int = 128

  def wraps(self, sizes: Sequence[int]) -> tuple[bool, ...]:
    """Along which axes of a slice links join the ends, so that a ring of chips closes.

    v4 and v5p: along all, in slices of whole cubes of 4 x 4 x 4; v5e and v6e: along an axis of 16 (the same pages).
    """
    closes = tuple(size % self.wraps_at == 0 for size in sizes)
    return (all(closes),) * len(sizes) if self.cubes else closes


# Usable memory of TPUs is what libtpu's compiler names as available when a program does not fit.
CHIPS: dict[str, Chip] = {
  'TPU v4': Chip(
    name='v4',
    peak_flops=275e12,
    memory=30.75 * _GIB,
    bandwidth=1.228e12,
    clock=1.05e9,
    link=50e9,
    axes=3,
    wraps_at=4,
    cubes=True,
  ),
  'TPU v5 lite': Chip(
    name='v5e',
    peak_flops=197e12,
    memory=15.75 * _GIB,
    bandwidth=0.819e12,
    clock=1.5e9,
    link=50e9,
    axes=2,
    wraps_at=16,
    network=3.125e9,
  ),
  'TPU v5': Chip(
    name='v5p',
    peak_flops=459e12,
    memory=95.73 * _GIB,
    bandwidth=2.765e12,
    clock=1.75e9,
    link=100e9,
    axes=3,
    wraps_at=4,
    cubes=True,
    network=6.25e9,
  ),
  'TPU v6 lite': Chip(
    name='v6e',
    peak_flops=918e12,
    memory=31.24 * _GIB,
    bandwidth=1.64e12,
    clock=1.75e9,
    link=100e9,
    axes=2,
    wraps_at=16,
    network=12.5e9,
    matrix_unit=256,
  ),
  'NVIDIA A100-SXM4-40GB': Chip(name='A100', peak_flops=312e12, memory=40e9, bandwidth=1.555e12),
  'NVIDIA A100-SXM4-80GB': Chip(name='A100', peak_flops=312e12, memory=80e9, bandwidth=2.039e12),
  'NVIDIA H100 80GB HBM3': Chip(name='H100', peak_flops=989e12, memory=80e9, bandwidth=3.35e12),
  'NVIDIA H100 PCIe': Chip(name='H100 PCIe', peak_flops=756e12, memory=80e9, bandwidth=2.0e12),
  'NVIDIA H200': Chip(name='H200', peak_flops=989e12, memory=141e9, bandwidth=4.8e12),
  'NVIDIA B200': Chip(name='B200', peak_flops=2250e12, memory=180e9, bandwidth=7.7e12),
  'NVIDIA L4': Chip(name='L4', peak_flops=121e12, memory=24e9, bandwidth=0.3e12),
}
CHIPS['TPU v5e'] = CHIPS['TPU v5 lite']
CHIPS['TPU v5p'] = CHIPS['TPU v5']
CHIPS['TPU v6e'] = CHIPS['TPU v6 lite']


def chip(device: jax.Device) -> Chip | None:
  """What is known of a device by its kind; None if nothing."""
  return CHIPS.get(device.device_kind)


def by_slice(devices: Iterable[jax.Device]) -> list[list[jax.Device]]:
  """Devices by slice, in their order; one slice where they do not say."""
  found: dict[int, list[jax.Device]] = {}
  for device in devices:
    found.setdefault(getattr(device, 'slice_index', 0) or 0, []).append(device)
  return [found[index] for index in sorted(found)]


def peak_flops(device: jax.Device) -> float | None:
  """FLOPs a second of one device: from the table, measured on CPU, None for an unknown accelerator."""
  known = chip(device)
  if known is not None:
    return known.peak_flops
  return measured_peak() / jax.local_device_count() if device.platform == 'cpu' else None


def peak_of(devices: Iterable[jax.Device]) -> float | None:
  """FLOPs a second of all these devices together, None if that of one is unknown.

  CPU devices of other processes count as much as those here.
  """
  peaks = [peak_flops(device) for device in devices]
  known = [peak for peak in peaks if peak is not None]
  return sum(known) if len(known) == len(peaks) else None


def name_of(devices: Sequence[jax.Device]) -> str:
  """Devices as a person names their peak: '16 x v5e', '2 x cpu, measured'."""
  kinds = collections.Counter(
    'cpu, measured' if device.platform == 'cpu' else known.name if (known := chip(device)) else device.device_kind
    for device in devices
  )
  return ' and '.join(f'{count} x {kind}' for kind, count in kinds.items())


@functools.cache
def measured_peak(size: int = 1024, seconds: float = 0.15) -> float:
  """FLOPs a second of the host's best float32 product of two [size, size] matrices, of all that fit into the time.

  The best of many, for other work on the host only ever makes one slower.
  """
  # On one device, so that virtual devices, which share the cores, share this figure.
  matrix = jax.device_put(jnp.ones((size, size), jnp.float32), jax.local_devices(backend='cpu')[0])
  product = jax.jit(lambda a: a @ a)
  product(matrix).block_until_ready()
  best, end = math.inf, time.monotonic() + seconds
  while (began := time.monotonic()) < end:
    product(matrix).block_until_ready()
    best = min(best, time.monotonic() - began)
  return 2 * size**3 / best
