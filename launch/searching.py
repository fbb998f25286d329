"""Trying batches, remat policies, meshes and compiler flags for a slice, and what is worth having of them."""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import time
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import rich.table

from .. import UserError
from ..models.config import DecoderConfig
from . import study, tables
from .mesh import MeshConfig, check_model
from .program import NO_COLLECTIVE_MATMUL
from .slices import Place, Topology
from .study import GIB, Settings, Study, TooBig

# A short list. Collective matmul (XLA's windowed einsum) splits a product so that what it needs comes in while it
# runs; above this size of operand, in MiB, so never with the second. Where the network is no bottleneck it only cuts
# products small: on v5e:4x4 a 1.3 B decoder's step takes nearly twice as long with it, by the compiler's own estimate.
FLAGS: dict[str, Mapping[str, Any]] = {
  'default': {},
  'no collective matmul': NO_COLLECTIVE_MATMUL,
}

_FEW = 24  # combinations that are all tried


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
  """What to try.

  Attributes:
    batches: rows of a global batch.
    policies: of remat, the one that keeps most first.
    meshes: sizes of the mesh axes.
    flags: compiler options by a name to print.
  """

  batches: tuple[int, ...]
  policies: tuple[str, ...]
  meshes: tuple[MeshConfig, ...]
  flags: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: FLAGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """One combination and what came of it.

  Attributes:
    label: what was tried, in words.
    settings: the same, to compile.
    study: what it gives; None if it does not fit or work.
    why: the reason then.
  """

  label: str
  settings: Settings
  study: Study | None
  why: str = ''

  @property
  def made(self) -> Study:
    """The study of a point that has one."""
    assert self.study is not None, self.why
    return self.study


def remat_policies() -> list[str]:
  """What DecoderConfig.remat may be, the one that keeps most first."""
  return list(typing.get_args(typing.get_type_hints(DecoderConfig)['remat']))


def meshes(settings: Settings, place: Place) -> list[MeshConfig]:
  """Meshes worth trying on a slice: parameters split over all of its chips, over half with two replicas, or with heads
  and MLP split over two or four of them; and not split at all.
  """
  chips = place.chips // place.slices
  found = []
  for data, tensor in ((1, 1), (2, 1), (1, 2), (1, 4), (chips, 1)):
    if chips % (data * tensor):
      continue
    mesh = MeshConfig(data=data * place.slices, fsdp=chips // (data * tensor), tensor=tensor)
    try:
      check_model(dataclasses.asdict(mesh), settings.model, settings.objective.model_length(settings.text_length))
    except UserError:
      continue
    if mesh not in found:
      found.append(mesh)
  return found


def remedies(settings: Settings, place: Place) -> Iterator[Iterable[tuple[str, Settings]]]:
  """What to change of remat, batch and mesh where a step does not fit, the smallest change first; with labels."""
  policies = remat_policies()
  more = policies[policies.index(settings.model.remat) + 1 :]

  def smaller_batches() -> Iterator[tuple[str, Settings]]:
    batch = settings.batch_size
    while batch % 2 == 0:
      batch //= 2
      yield f'BATCH_SIZE={batch}', dataclasses.replace(settings, batch_size=batch)

  now = dict(settings.mesh.build(place.devices()).shape)
  other = [mesh for mesh in meshes(settings, place) if dataclasses.asdict(mesh) != now]
  yield [(f'remat={policy!r}', settings.with_remat(policy)) for policy in more]
  yield smaller_batches()
  yield [(f'--mesh={mesh_text(mesh)}', dataclasses.replace(settings, mesh=mesh)) for mesh in other]


def mesh_text(mesh: MeshConfig) -> str:
  """As --mesh takes it."""
  sizes = dataclasses.asdict(mesh)
  return ','.join(f'{axis}={size}' for axis, size in sizes.items() if size != 1 or axis == 'data')


def combinations(settings: Settings, space: Space) -> list[tuple[str, Settings]]:
  """Every combination with its label; those that need least memory first."""
  found = []
  tried = {option for options in space.flags.values() for option in options}  # also where the gin files bind one
  others = {option: value for option, value in settings.tpu_compiler_options.items() if option not in tried}
  for mesh, policy, batch, name in itertools.product(
    space.meshes, reversed(space.policies), sorted(space.batches), space.flags
  ):
    changed = dataclasses.replace(
      settings.with_remat(policy),
      mesh=mesh,
      batch_size=batch,
      tpu_compiler_options={**others, **space.flags[name]},
    )
    found.append((f'batch {batch}, remat {policy}, {mesh_text(mesh)}, {name}', changed))
  return found


def search(settings: Settings, topology: Topology, space: Space) -> list[Point]:
  """Compiles combinations, one at a time in a process of its own, and says how each turns out.

  All of them if they are few. Of more, meshes and flags are tried first, with the smallest batch and the policy that
  keeps least; then batches and policies, with the best two of those.

  What keeps more, or holds a larger batch, than what did not fit on the same mesh with the same flags is left out. A
  point that fails, even one that ends the compiler's process, is a line and no more.
  """
  points = combinations(settings, space)
  done: list[Point] = []
  with _Compiler() as compiler:
    if len(points) <= _FEW:
      print(f'{len(points)} combinations for {topology.name}, the bound of each:', flush=True)
      return _try(points, done, compiler, topology)
    least = dataclasses.replace(space, batches=(min(space.batches),), policies=space.policies[-1:])
    first = combinations(settings, least)
    print(f'{len(first)} meshes and flags for {topology.name}, the bound of each:', flush=True)
    _try(first, done, compiler, topology)
    fastest = sorted((one for one in done if one.study), key=lambda one: -one.made.tokens_per_second)[:2]
    chosen = [(one.settings.mesh, one.settings.tpu_compiler_options) for one in fastest]
    tried = [one.label for one in done]
    second = [
      (label, changed)
      for label, changed in points
      if (changed.mesh, changed.tpu_compiler_options) in chosen and label not in tried
    ]
    print(f'{len(second)} batches and remat policies with the best {len(chosen)} of those:', flush=True)
    return _try(second, done, compiler, topology)


def _try(
  points: Sequence[tuple[str, Settings]], done: list[Point], compiler: '_Compiler', topology: Topology
) -> list[Point]:
  """Adds points to those done, and returns these."""
  for number, (label, changed) in enumerate(points, 1):
    began = time.monotonic()
    bigger = _known_too_big(changed, done)
    point = (
      Point(label=label, settings=changed, study=None, why=f'left out, since {bigger} does not fit')
      if bigger
      else compiler.point(label, changed, topology)
    )
    done.append(point)
    took = '' if bigger else f' [{time.monotonic() - began:.0f} s]'
    print(f'  {number}/{len(points)} {label}: {_said(point)}{took}', flush=True)
  return done


def _said(point: Point) -> str:
  if point.study is None:
    return point.why
  bound, memory = point.study.bound, point.study.memory
  return f'{bound.seconds:.4g} s, MFU {bound.mfu:.1%}, {memory.peak / GIB:,.2f} GiB'


def _known_too_big(settings: Settings, done: Sequence[Point]) -> str:
  """The label of a point that did not fit and asks for no more than this one; '' if there is none."""
  order = remat_policies()
  for point in done:
    other = point.settings
    alike = other.mesh == settings.mesh and other.tpu_compiler_options == settings.tpu_compiler_options
    less = other.batch_size <= settings.batch_size and order.index(other.model.remat) >= order.index(
      settings.model.remat
    )
    if point.study is None and point.why.startswith('does not fit') and alike and less:
      return point.label
  return ''


class _Compiler:
  """A process that compiles; another takes its place if it dies."""

  def __enter__(self) -> '_Compiler':
    self._start()
    return self

  def __exit__(self, *unused) -> None:
    self._pool.shutdown(cancel_futures=True)

  def _start(self) -> None:
    # Not a fork: JAX has threads.
    context = multiprocessing.get_context('spawn')
    self._pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=_silence)

  def point(self, label: str, settings: Settings, topology: Topology) -> Point:
    """Compiles one combination."""
    try:
      found = self._pool.submit(study.compile_and_study, settings, topology).result()
      return Point(label=label, settings=settings, study=found)
    except TooBig as error:
      why = f'does not fit: {error.needs / GIB:,.2f} GiB of {error.has / GIB:,.2f}'
    except UserError as error:
      why = f'does not work: {error}'
    except BrokenProcessPool:
      self._start()
      why = "does not work: it ended TPU's compiler"
    except Exception as error:  # of any library below; a search goes on
      why = f'does not work: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}'
    return Point(label=label, settings=settings, study=None, why=why)


def _silence() -> None:
  """Keeps what libraries say off the terminal; what matters comes back as an exception."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def front(points: Sequence[Point]) -> list[Point]:
  """Points that no other beats in both tokens a second and memory; the fastest first."""
  worth = []
  key = lambda point: (-point.made.tokens_per_second, point.made.memory.peak)
  for point in sorted((point for point in points if point.study is not None), key=key):
    if not worth or point.made.memory.peak < worth[-1].made.memory.peak:
      worth.append(point)
  return worth


def report(points: Sequence[Point], topology: Topology, path: str) -> None:
  """Prints the Pareto front and writes the fastest point as a gin file; UserError if nothing fits."""
  best = front(points)
  if not best:
    smallest = [point.why for point in points if point.why.startswith('does not fit')]
    raise UserError(
      f'Nothing of {len(points)} combinations fits {topology.name}'
      + (f'; the first {smallest[0]}; take more chips.' if smallest else f': the first {points[0].why}')
    )
  table = rich.table.Table(title=f'{topology.name}: what no other combination beats in both speed and memory')
  for column in (
    'batch',
    'remat',
    'mesh',
    'flags',
    'a step at least',
    'tokens a second',
    'MFU at most',
    'memory a chip',
  ):
    table.add_column(column)
  for point in best:
    one = point.made
    options = ' '.join(f'{key}={value}' for key, value in one.tpu_compiler_options.items())
    table.add_row(
      str(one.rows),
      one.remat,
      tables.mesh(one),
      options or 'default',
      f'{one.bound.seconds:.4g} s',
      f'{one.tokens_per_second:,.0f}',
      f'{one.bound.mfu:.1%}',
      f'{one.memory.peak / GIB:,.2f} GiB',
    )
  tables.print_table(table)
  write_gin(best[0], path)
  print(f'{path} has the first: add --gin_file={path} after the others of `unmask train`.', flush=True)


def write_gin(point: Point, path: str) -> None:
  """Writes a point as bindings that train uses; UserError if the file cannot be written."""
  settings, one = point.settings, point.made
  lines = [
    f'# Chosen by `unmask precompile --search` for {one.topology}: a step takes at least {one.bound.seconds:.4g} s,',
    f'# MFU is at most {one.bound.mfu:.1%}, and a chip holds {one.memory.peak / GIB:.2f} GiB. Read after the run file.',
    'from __gin__ import dynamic_registration',
    'from unmask.launch import loop',
    'from unmask.launch import mesh',
    'from unmask.models import config',
    '',
    f'BATCH_SIZE = {settings.batch_size}',
    f'config.DecoderConfig.remat = {settings.model.remat!r}',
    *(f'mesh.MeshConfig.{axis} = {size}' for axis, size in dataclasses.asdict(settings.mesh).items()),
    f'loop.train.tpu_compiler_options = {dict(settings.tpu_compiler_options)!r}',
  ]
  try:
    with open(path, 'w') as file:
      file.write('\n'.join(lines) + '\n')
  except OSError as error:
    raise UserError(f'--write={path} cannot be written: {error.strerror}.') from error
