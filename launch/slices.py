"""TPU slices that nobody holds: what --topology names, and its devices for the compiler."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Protocol

import jax
from jax.experimental import topologies

from .. import UserError
from . import devices

# By the name of a topology: the device kind, libtpu's name of the setting in which a chip is one JAX device, and the
# chips of the largest slice (cloud.google.com/tpu/docs).
_KINDS = {
  'v4': ('TPU v4', 'megacore', 4096),
  'v5e': ('TPU v5 lite', 'default', 256),
  'v5p': ('TPU v5', 'megacore', 6144),
  'v6e': ('TPU v6 lite', 'default', 256),
}
_FORM = re.compile(r'(?:(\d+)x)?(v\d+[a-z]?):(\d+(?:x\d+)*)')


class Place(Protocol):
  """Where a step may run: a slice that nobody holds, or devices that are here."""

  @property
  def chips(self) -> int:
    """All of them."""

  @property
  def slices(self) -> int:
    """Parts that only a data-centre network joins."""

  def devices(self) -> list[jax.Device]:
    """As JAX has them."""


@dataclasses.dataclass(frozen=True)
class Held:
  """The devices of a mesh that is here."""

  held: tuple[jax.Device, ...]

  @property
  def chips(self) -> int:
    return len(self.held)

  @property
  def slices(self) -> int:
    return len(devices.by_slice(self.held))

  def devices(self) -> list[jax.Device]:
    return list(self.held)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """One slice, or several alike that a data-centre network joins.

  Attributes:
    kind: 'v4', 'v5e', 'v5p' or 'v6e'.
    sizes: chips along each axis of a slice.
    slices: how many.
  """

  kind: str
  sizes: tuple[int, ...]
  slices: int = 1

  @property
  def name(self) -> str:
    """As --topology takes it."""
    return (f'{self.slices}x' if self.slices > 1 else '') + f'{self.kind}:{"x".join(map(str, self.sizes))}'

  @property
  def chip(self) -> devices.Chip:
    """What one of its chips can do."""
    return devices.CHIPS[_KINDS[self.kind][0]]

  @property
  def chips(self) -> int:
    """All of them."""
    return self.slices * math.prod(self.sizes)

  def devices(self) -> list[jax.Device]:
    """Devices to compile for; UserError if libtpu is missing or has no such slice."""
    require_libtpu()
    sizes = [*self.sizes, *[1] * (3 - len(self.sizes))]
    host = [min(2, sizes[0]), min(2, sizes[1]), 1]  # chips of a host along each axis
    several = {'num_slices': self.slices} if self.slices > 1 else {}
    try:
      found = topologies.get_topology_desc(
        f'{self.kind}:{"x".join(map(str, self.sizes))}',
        platform='tpu',
        chip_config_name=_KINDS[self.kind][1],
        chips_per_host_bounds=host,
        wrap=self.chip.wraps(sizes),
        **several,
      ).devices
    except Exception as error:  # libtpu raises its own kinds
      reason = str(error).strip().split('\n')[0].removeprefix('INVALID_ARGUMENT: ')
      raise UserError(f'libtpu has no slice {self.name}: {reason[:200]}') from error
    if len(found) != self.chips:
      raise UserError(f'libtpu gives {len(found)} devices for {self.name}, which has {self.chips} chips.')
    return list(found)


def parse(text: str, flag: str = '--topology') -> Topology:
  """Reads 'v5e:4x4' or, for two slices, '2xv5e:4x4'; UserError for another form, kind or number of axes.

  Args:
    text: the value.
    flag: where it was given, for messages.
  """
  found = _FORM.fullmatch(text)
  if found is None:
    raise UserError(f'{flag}={text} is not KIND:AxB or KIND:AxBxC, such as v5e:4x4, or 2xv5e:4x4 for two slices.')
  slices, kind, sizes = int(found[1] or 1), found[2], tuple(map(int, found[3].split('x')))
  if kind not in _KINDS:
    raise UserError(f'{flag}={text} names the chip {kind}; known are {", ".join(_KINDS)}.')
  _, _, most = _KINDS[kind]
  axes = devices.CHIPS[_KINDS[kind][0]].axes
  if len(sizes) != axes or min(sizes) < 1 or slices < 1:
    shape = 'x'.join('ABC'[:axes])
    raise UserError(f'{flag}={text} has {len(sizes)} axes; a slice of {kind} is {kind}:{shape} of chips, 1 or more.')
  if math.prod(sizes) > most:
    raise UserError(f'{flag}={text} has {math.prod(sizes):,} chips in a slice; the largest of {kind} has {most:,}.')
  return Topology(kind=kind, sizes=sizes, slices=slices)


def require_libtpu() -> None:
  """Raises UserError unless TPU's compiler can be loaded."""
  path = os.environ.get('TPU_LIBRARY_PATH')
  if path and not os.path.exists(path):
    raise UserError(f'TPU_LIBRARY_PATH={path} is not there; mend it, or unset it to use the installed libtpu.')
  if not path and importlib.util.find_spec('libtpu') is None:
    raise UserError(
      "TPU's compiler is not installed: pip install -c constraints.txt -r requirements-tpu-compile.txt (libtpu)."
    )
