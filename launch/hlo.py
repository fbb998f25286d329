"""Optimised HLO as text: what a compiled program computes and sends, with every loop counted as often as it runs.

`Compiled.cost_analysis()` counts a loop's body once, so the counts are made here: cycles that TPU's compiler estimates
for each fused computation, products of matrices, collectives, and Pallas kernels, each times the trip counts of the
loops around it. All figures are those of one device, as the text is.

Sources: openxla.org/xla/operation_semantics (opcodes, windows, replica groups) and the text of libtpu 0.0.42 to
0.0.52.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

from . import hlo_text
from .hlo_text import Instruction, Module

BETWEEN = 'between slices: '
KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_KERNEL = 'custom_call_target="tpu_custom_call"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
  """One collective of the program.

  Attributes:
    kind: one of KINDS, or BETWEEN and one of them: over the network that joins slices.
    payload: bytes of the whole value that a group makes or takes apart: what an all-gather gives, what the others take.
    members: device numbers of its first group, in the order of the program's mesh (of several slices, of one's part).
    times: how often it runs in one call of the program.
    overlapped: whether the compiler lets it run beside other work (start and done apart).
  """

  kind: str
  payload: float
  members: tuple[int, ...]
  times: float
  overlapped: bool

  @property
  def between_slices(self) -> bool:
    """Whether it crosses the data-centre network; its members are then not stated."""
    return self.kind.startswith(BETWEEN)

  @property
  def received(self) -> float:
    """Bytes that must enter a device each time, whatever the algorithm.

    Of n members: (n - 1) / n of the payload for all-gather, reduce-scatter and all-to-all; twice that for all-reduce,
    which is a reduce-scatter and an all-gather (arXiv 0711.1351, the bound of Patarasuk and Yuan); all of it for a
    permutation.
    """
    n = len(self.members)
    if self.kind == 'collective-permute':
      return self.payload
    return self.payload * (n - 1) / n * (2 if self.kind == 'all-reduce' else 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
  """One Pallas kernel.

  Attributes:
    name: of its instruction, without its number.
    operands: shapes of its floating-point operands.
    times: how often it runs in one call of the program.
    fused_backward: whether splash attention's backward pass is this one kernel.
  """

  name: str
  operands: tuple[tuple[int, ...], ...]
  times: float
  fused_backward: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """What one call of a program takes of one device.

  Attributes:
    cycles: the compiler's estimates, summed; 0 where it states none (CPU, GPU). Pallas kernels carry none.
    flops: of products of matrices; two a multiplication and addition. Pallas kernels are not in it.
    collectives, kernels: see there.
    unknown_loops: loops whose trip count the text does not give; each is counted as running once.
    unestimated: computations whose cycles the compiler says it cannot estimate; they are not in `cycles`.
    unestimated_flops: of `flops`, those of such computations.
  """

  cycles: float
  flops: float
  collectives: tuple[Collective, ...]
  kernels: tuple[Kernel, ...]
  unknown_loops: int
  unestimated: int = 0
  unestimated_flops: float = 0.0

  def bytes_by_kind(self) -> dict[str, float]:
    """Payload bytes a call, by kind of collective."""
    total: dict[str, float] = collections.defaultdict(float)
    for one in self.collectives:
      total[one.kind] += one.payload * one.times
    return dict(sorted(total.items()))

  def kernel_calls(self) -> dict[str, float]:
    """How often each kernel runs, by name."""
    total: dict[str, float] = collections.defaultdict(float)
    for one in self.kernels:
      total[one.name] += one.times
    return dict(total)


def cost(text: str) -> Cost:
  """The cost of a program, from `compiled.as_text()`; ValueError if the text has no entry computation."""
  module = hlo_text.parse(text)
  tally = _Tally(module)
  tally.run(module.entry, 1.0)
  return Cost(
    cycles=tally.cycles,
    flops=tally.flops,
    collectives=tuple(tally.collectives),
    kernels=tuple(tally.kernels),
    unknown_loops=tally.unknown_loops,
    unestimated=tally.unestimated,
    unestimated_flops=tally.unestimated_flops,
  )


class _Tally:
  """Sums over a module's computations as they run."""

  def __init__(self, module: Module):
    self._module = module
    self.cycles = self.flops = self.unestimated_flops = 0.0
    self.unknown_loops = self.unestimated = 0
    self.collectives: list[Collective] = []
    self.kernels: list[Kernel] = []

  def run(self, name: str, times: float) -> None:
    """Adds a computation that runs `times` times."""
    # A collective in parts (start, the fusions it runs beside, done) has one channel number in all of them.
    parts: dict[tuple[str, str], list[Collective]] = {}
    for instruction in self._module.computations[name].values():
      cycles = instruction.cycles
      self.cycles += times * (cycles or 0)
      flops = times * sum(map(self._flops, self._with_fused(instruction)))
      self.flops += flops
      if cycles is None:
        self.unestimated += 1
        self.unestimated_flops += flops
      for key, found in self._collectives(instruction, times):
        parts.setdefault(key, []).append(found)
      if _KERNEL in instruction.attributes:
        self.kernels.append(self._kernel(instruction, name, times))
      self._enter(instruction, name, times)
    for several in parts.values():
      one = max(several, key=lambda part: part.payload)
      self.collectives.append(dataclasses.replace(one, overlapped=any(part.overlapped for part in several)))

  def _enter(self, instruction: Instruction, computation: str, times: float) -> None:
    if instruction.opcode == 'while':
      trips = hlo_text.trip_count(self._module, computation, instruction)
      self.unknown_loops += trips is None
      self.run(instruction.called('body'), times * (1 if trips is None else trips))
    elif instruction.opcode in ('call', 'async-start', 'conditional'):  # of a condition's branches, all
      for called in instruction.all_called():
        if not self._only_collective(called):
          self.run(called, times)

  def _only_collective(self, name: str) -> bool:
    """Whether an async computation wraps a collective, which `_collectives` has counted."""
    return any(one.opcode in KINDS for one in self._module.computations[name].values())

  def _with_fused(self, instruction: Instruction) -> Iterator[tuple[Instruction, str]]:
    """The instruction, or what is fused into it, with the computation each stands in."""
    if instruction.opcode != 'fusion':
      yield instruction, instruction.computation
      return
    for inner in self._module.computations[instruction.called('calls')].values():
      yield from self._with_fused(inner)

  def _collectives(self, outer: Instruction, times: float) -> Iterator[tuple[tuple[str, str], Collective]]:
    """Collectives of one instruction, each with what tells it from others of the same computation."""
    inside = [one for one, _ in self._with_fused(outer)]
    if outer.opcode == 'async-start':
      inside = list(self._module.computations[outer.called('calls')].values())
    for one in inside:
      kind = one.opcode.removesuffix('-start')
      transfer = re.search(r'_xla_megascale_transfer_type="(\w+)"', one.attributes)
      if kind == 'recv' and transfer:
        payload = hlo_text.num_bytes(hlo_text.arrays(one.shape)[0])
        named = BETWEEN + transfer[1].lower().replace('_', '-')
        yield (
          (named, one.name),
          Collective(kind=named, payload=payload, members=(), times=times, overlapped=True),
        )
      if kind not in KINDS:
        continue
      results = [hlo_text.num_bytes(shape) for shape in hlo_text.arrays(one.shape)]
      payload = max(results) if one.opcode.endswith('-start') and kind != 'all-reduce' else sum(results)
      members = hlo_text.first_group(one.attributes)
      if kind == 'reduce-scatter':
        payload *= len(members)
      if kind == 'all-reduce' and outer is not one and 'all-reduce-scatter' in outer.attributes:
        kind = 'reduce-scatter'  # of which TPU's compiler makes an all-reduce fused with what cuts it
      found = Collective(
        kind=kind,
        payload=payload,
        members=members,
        times=times,
        overlapped=one.opcode.endswith('-start') or outer.opcode == 'async-start' or 'async' in outer.name,
      )
      channel = re.search(r'channel_id=(\d+)', one.attributes)
      alone = one is outer and not found.overlapped  # not a part; what `shard_map` holds is all on one channel
      yield (kind, one.name if alone or not channel else channel[1]), found

  def _flops(self, found: tuple[Instruction, str]) -> float:
    instruction, computation = found
    if instruction.opcode not in ('dot', 'convolution'):
      return 0.0
    scope = self._module.computations[computation]
    left, right = (hlo_text.dimensions(scope[operand].shape) for operand in instruction.operands[:2])
    out = hlo_text.dimensions(instruction.shape)
    if instruction.opcode == 'dot':
      contracted = hlo_text.numbers(instruction.attribute('lhs_contracting_dims'))
      return 2.0 * math.prod(out) * math.prod(left[i] for i in contracted)
    return hlo_text.convolution_flops(instruction, left, right, out)

  def _kernel(self, instruction: Instruction, computation: str, times: float) -> Kernel:
    scope = self._module.computations[computation]
    shapes = [scope[operand].shape for operand in instruction.operands if operand in scope]
    floats = tuple(hlo_text.dimensions(shape) for shape in shapes if re.match(r'(bf16|f16|f32)\[', shape))
    return Kernel(
      name=re.sub(r'(\.\d+|\.clone)+$', '', instruction.name),
      operands=floats,
      times=times,
      fused_backward=bool(re.search(r'use_fused_bwd_kernel\W*true', instruction.attributes)),
    )
