"""One configuration compiled for one slice: memory, FLOPs, collectives and bounds. No gin, no TensorFlow.

A configuration is plain data, so it can be compiled in a process of its own.
"""

import dataclasses
import glob
import importlib.metadata
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from . import bounds, hlo
from .mesh import MeshConfig
from .optimizers import Optimizer
from .program import Program
from .slices import Place, Topology

_OUT_OF_MEMORY = re.compile(r'\(?(\d+(?:\.\d+)?)([KMGT])\)?.{0,60}?\(?(\d+(?:\.\d+)?)([KMGT])\)?', re.DOTALL)
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
GIB = 2**30


class TooBig(UserError):
  """A configuration that does not fit the chip.

  Attributes:
    topology: name of the slice.
    needs: bytes a chip that the compiler asks for, at least.
    has: bytes a chip that there are.
  """

  def __init__(self, topology: str, needs: float, has: float):
    self.topology, self.needs, self.has = topology, needs, has
    super().__init__(
      f'On {topology} a step needs {needs / GIB:,.2f} GiB a chip, which has {has / GIB:,.2f}: '
      f'{(needs - has) / GIB:,.2f} too much.'
    )

  def __reduce__(self):
    return TooBig, (self.topology, self.needs, self.has)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What a `Program` is made of, before there are devices; all fields but two are those of `Program`.

  Attributes:
    train_steps: updates of the run, which the optimizer's schedule spans.
    mesh: devices along each mesh axis.
  """

  model: DecoderConfig
  objective: Objective
  text_length: int
  batch_size: int
  train_steps: int
  optimizer: Optimizer
  mesh: MeshConfig = MeshConfig()
  microbatches: int = 1
  z_loss: float = 0.0
  tpu_compiler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, program: Program, optimizer: Optimizer, train_steps: int) -> 'Settings':
    """What a program was made of."""
    return cls(
      model=program.model,
      objective=program.objective,
      text_length=program.text_length,
      batch_size=program.batch_size,
      train_steps=train_steps,
      optimizer=optimizer,
      mesh=MeshConfig(**dict(program.mesh.shape)),
      microbatches=program.microbatches,
      z_loss=program.z_loss,
      tpu_compiler_options=program.tpu_compiler_options,
    )

  def program(self, place: Place) -> Program:
    """The update on a slice; UserError if something does not divide over it."""
    program = Program(
      model=self.model,
      objective=self.objective,
      text_length=self.text_length,
      batch_size=self.batch_size,
      optimizer=self.optimizer.build(self.train_steps),
      mesh=self.mesh.build(place.devices()),
      microbatches=self.microbatches,
      z_loss=self.z_loss,
      tpu_compiler_options=self.tpu_compiler_options,
    )
    program.check()
    return program

  def with_remat(self, policy: str) -> 'Settings':
    """The same with another remat policy."""
    changed: Any = {'remat': policy}
    return dataclasses.replace(self, model=dataclasses.replace(self.model, **changed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes of one chip.

  Attributes:
    arguments: the state and the batch.
    temporaries: activations, gradients, what collectives gather.
    code: the program.
    peak: the most at a time, as the compiler states it.
    chip: what a program may use.
  """

  arguments: int
  temporaries: int
  code: int
  peak: int
  chip: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """What is known of one compiled configuration; FLOPs, bytes, cycles and calls are those of one chip and step.

  Attributes:
    topology, chips: the slice.
    mesh: sizes of the mesh axes.
    parameters: of the model, embeddings included.
    rows, length: of a global batch: rows, and positions that the decoder reads of each.
    tokens: of text in a global batch.
    remat, tpu_compiler_options: as configured.
    memory: see `Memory`.
    cycles: the compiler's estimates, summed.
    kernels: {name: {'calls', 'flops'}} of Pallas kernels.
    collectives: {kind: payload bytes}.
    bound: see `bounds.Bound`.
    unknown_loops: loops whose trip count the compiled text does not give; above 0 the figures are too low.
    unestimated: computations whose cycles the compiler cannot estimate; their FLOPs at the peak count.
    lower_seconds, compile_seconds: spent here.
    libtpu: its version.
  """

  topology: str
  chips: int
  mesh: dict[str, int]
  parameters: int
  rows: int
  length: int
  tokens: int
  remat: str
  tpu_compiler_options: dict[str, Any]
  memory: Memory
  cycles: float
  kernels: dict[str, dict[str, float]]
  collectives: dict[str, float]
  bound: bounds.Bound
  unknown_loops: int
  unestimated: int
  lower_seconds: float
  compile_seconds: float
  libtpu: str

  @property
  def tokens_per_second(self) -> float:
    """Of text, all chips together, at most."""
    return self.tokens / self.bound.seconds


def compile_and_study(settings: Settings, topology: Topology) -> Study:
  """Compiles a configuration for a slice and takes its measure.

  Raises:
    TooBig: the compiler finds that it does not fit.
    UserError: something does not divide over the slice, or libtpu is missing.
  """
  program = settings.program(topology)
  began = time.monotonic()
  lowered = program.lower()
  middle = time.monotonic()
  with tempfile.TemporaryDirectory(prefix='unmask-precompile-') as folder:
    # `compiled.as_text()` cannot read back what libtpu makes of a gather on a sparse core; the compiler's own file can
    # always be read.
    options: dict[str, Any] = {**program.tpu_compiler_options, 'xla_dump_to': folder, 'xla_dump_hlo_as_text': True}
    try:
      compiled = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
      raise _explained(error, program, topology) from error
    done = time.monotonic()
    cost = hlo.cost(_dumped(folder))
  memory = compiled.memory_analysis()
  bound = bounds.of_cost(cost, program, 0)
  assert bound is not None  # every chip of a topology is in the table
  assert memory is not None
  kernels: dict[str, dict[str, float]] = {}
  for one in cost.kernels:
    figures = kernels.setdefault(one.name, {'calls': 0.0, 'flops': 0.0})
    figures['calls'] += one.times
    figures['flops'] += one.times * bounds.kernel_flops(one, program.causal)
  return Study(
    topology=topology.name,
    chips=topology.chips,
    mesh=dict(program.mesh.shape),
    parameters=program.parameters(),
    rows=program.batch_size,
    length=program.length,
    tokens=program.batch_size * program.text_length,
    remat=program.model.remat,
    tpu_compiler_options=dict(program.tpu_compiler_options),
    memory=Memory(
      arguments=memory.argument_size_in_bytes,
      temporaries=memory.temp_size_in_bytes,
      code=memory.generated_code_size_in_bytes,
      peak=memory.peak_memory_in_bytes,
      chip=topology.chip.memory,
    ),
    cycles=cost.cycles,
    kernels=kernels,
    collectives=cost.bytes_by_kind(),
    bound=bound,
    unknown_loops=cost.unknown_loops,
    unestimated=cost.unestimated,
    lower_seconds=middle - began,
    compile_seconds=done - middle,
    libtpu=_libtpu_version(),
  )


def _dumped(folder: str) -> str:
  """The text of the compiled step; of several modules, that of the largest."""
  found = glob.glob(os.path.join(glob.escape(folder), '*.after_codegen.txt'))
  if not found:
    raise UserError(f'libtpu {_libtpu_version()} wrote no text of the compiled step; install the pinned libtpu.')
  with open(max(found, key=os.path.getsize)) as file:
    return file.read()


def _explained(error: Exception, program: Program, topology: Topology) -> UserError:
  """TooBig of the compiler's message if it ran out of memory, UserError of its first line if not."""
  text = str(error)
  if found := exceeded(text, program):
    return TooBig(topology.name, *found)
  options = ', '.join(program.tpu_compiler_options)
  about = f' (with tpu_compiler_options {options})' if options else ''
  return UserError(f"TPU's compiler refuses this for {topology.name}{about}: {text.strip().splitlines()[0][:300]}")


def exceeded(text: str, program: Program) -> tuple[float, float] | None:
  """Bytes of a chip that TPU's compiler says a program needs, and has; None if its error is of something else."""
  sizes = _OUT_OF_MEMORY.search(text)
  if 'RESOURCE_EXHAUSTED' not in text or 'HBM' not in text.upper() or sizes is None:
    return None
  needs, has = float(sizes[1]) * _UNITS[sizes[2]], float(sizes[3]) * _UNITS[sizes[4]]
  return needs + (_arguments(program) if 'temporaries' in text else 0), has


def _arguments(program: Program) -> int:
  """Bytes of the state and the batch on one chip."""
  leaves = jax.tree.leaves((program.state_shapes(), program.batch_shapes()))
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _libtpu_version() -> str:
  try:
    return importlib.metadata.version('libtpu')
  except importlib.metadata.PackageNotFoundError:  # a file named by TPU_LIBRARY_PATH
    return 'unknown'
