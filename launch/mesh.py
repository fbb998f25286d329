"""The device mesh, and how arrays lie on it."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .. import UserError
from ..models import logical_axes
from ..models.config import DecoderConfig
from ..objectives.base import HOST_FEATURES
from .devices import by_slice


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Devices along each mesh axis; exactly one may be -1, which takes the devices that remain.

  Attributes:
    data: replicas of the parameters; slices that only a data-centre network joins are apart along this axis alone.
    fsdp: ways the parameters and the optimizer state are split.
    sequence: ways the length of activations is split.
    tensor: ways heads, MLP and vocabulary are split.
  """

  data: int = -1
  fsdp: int = 1
  sequence: int = 1
  tensor: int = 1

  def build(self, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all of them); UserError if the sizes do not multiply to their number."""
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(self, axis) for axis in logical_axes.MESH_AXES]
    named = ', '.join(f'{axis}={size}' for axis, size in zip(logical_axes.MESH_AXES, sizes, strict=True))
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
      raise UserError(f'Mesh {named}: sizes are positive, and at most one is -1.')
    known = math.prod(size for size in sizes if size != -1)
    if len(devices) % known or (-1 not in sizes and known != len(devices)):
      raise UserError(f'Mesh {named} does not fit {len(devices)} devices: its sizes must multiply to that number.')
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    # Auto: Linen's logical partitioning only gives hints, which explicit axes would refuse.
    types = (AxisType.Auto,) * len(sizes)
    slices = len(by_slice(devices))
    if slices == 1:
      return jax.make_mesh(sizes, logical_axes.MESH_AXES, axis_types=types, devices=devices)
    data, *rest = sizes
    if data % slices:
      raise UserError(
        f'Mesh {named} on {slices} slices: only gradients cross the slow network between slices, so data={data} must '
        f'be a multiple of {slices}.'
      )
    across = [slices] + [1] * len(rest)
    arranged = mesh_utils.create_hybrid_device_mesh([data // slices, *rest], across, devices=devices)
    return Mesh(arranged, logical_axes.MESH_AXES, axis_types=types)


def check_batch(mesh: Mesh, batch_size: int, microbatches: int = 1) -> None:
  """Raises UserError unless every microbatch divides over the mesh."""
  devices = logical_axes.batch_ways(mesh.shape)
  ways = devices * microbatches
  if batch_size % ways:
    raise UserError(
      f'BATCH_SIZE={batch_size} does not divide over {devices} devices (data={mesh.shape["data"]} x '
      f'fsdp={mesh.shape["fsdp"]}) times {microbatches} microbatches; use a multiple of {ways}.'
    )


def check(mesh: Mesh, model: DecoderConfig, length: int, batch_size: int, microbatches: int) -> None:
  """Raises UserError unless batch, model and length divide over the mesh."""
  check_batch(mesh, batch_size, microbatches)
  check_model(mesh.shape, model, length)


def check_model(axes: Mapping[str, int], model: DecoderConfig, length: int, of: str = '') -> None:
  """Raises UserError unless heads, MLP, vocabulary, width and length divide over the mesh axes that split them.

  Args:
    axes: devices along each mesh axis.
    model, length: of the decoder, and positions of a row.
    of: what the message begins with.
  """
  splits = {
    'tensor': {
      'num_heads': model.num_heads,
      'num_kv_heads': model.num_kv_heads,
      'mlp_dim': model.mlp_dim,
      'vocab_size': model.vocab_size or 0,
    },
    'fsdp': {'embed_dim': model.embed_dim},
    'sequence': {'model length': length},
  }
  for axis, sizes in splits.items():
    for name, size in sizes.items():
      if size % axes[axis]:
        raise UserError(f'{of}{name}={size} does not divide over {axis}={axes[axis]}; change one of the two.')


def sharding(mesh: Mesh, *axes: str | None) -> NamedSharding:
  """The sharding of an array whose dimensions carry these logical names."""
  return NamedSharding(mesh, nn.logical_to_mesh_axes(axes, logical_axes.RULES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, ndim: int) -> NamedSharding:
  """Of an array of `ndim` dimensions whose first are the rows of a batch."""
  return sharding(mesh, 'batch', *(None,) * (ndim - 1))


def placed(shapes: Any, shardings: Any) -> Any:
  """A tree of shapes with their place on the mesh."""
  return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, shardings)


@contextlib.contextmanager
def context(mesh: Mesh) -> Iterator[None]:
  """Inside, the mesh is this one and logical axis names mean what the table says."""
  with jax.set_mesh(mesh), nn.logical_axis_rules(logical_axes.RULES):
    yield


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  """This process's rows of a global batch, as global arrays split over data and fsdp; HOST_FEATURES are left out."""
  return {
    name: jax.make_array_from_process_local_data(batch_sharding(mesh, value.ndim), value)
    for name, value in batch.items()
    if name not in HOST_FEATURES
  }
