"""How fast a compiled update can be: a bound on the time of a step and on MFU, with the formula.

On a TPU the times come from the compiled program itself (`hlo.cost`); where its text states no cycles (CPU, GPU) the
bound is a roofline of FLOPs and memory traffic. Nothing here has been measured: it says what cannot be beaten, not
what will be reached.
"""

import dataclasses
import math

import jax

from . import devices, hlo
from .program import Program

FORMULA = """\
step >= max(cycles / clock + kernels, overlapped) + exposed, and >= compiled FLOPs / peak, and >= between slices
  cycles       the compiler's estimate of every fused computation, copy and so on, times its loops' trip counts
  kernels      FLOPs of Pallas kernels / (peak x min(1, head_dim / width of the matrix unit)); causal ones by half
  overlapped   collectives that the compiler runs beside other work, exposed: those it waits for; each takes
               bytes a chip must receive / (its links along the axes of the torus that the group spans)
  between slices   bytes a chip must receive / its share of the data-centre network
MFU <= model FLOPs / (step x chips x peak); model FLOPs are 6 a parameter and position, and attention, half if causal"""

ROOFLINE = 'step >= max(FLOPs / peak, bytes of arguments and results / bandwidth of the memory), each of one device'

# Products of matrices in splash's kernels: forward QK', PV; dq: QK', dO V', dS K; dkv: QK', P'dO, dO V', dS'Q.
_PRODUCTS = {'_fwd': 2, '_dq': 3, '_dkv': 4}
_PRODUCTS_OF_FUSED_BACKWARD = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
  """What a step cannot beat; times in seconds.

  Attributes:
    seconds: of a step, at least.
    mfu: model FLOPs utilisation, at most; of a mixture or stages on average over the run.
    serial: the same parts with nothing overlapped; a step may well be slower than this too.
    basis: 'compiler', cycles of the compiled program, or 'roofline'.
    compute: the compiler's cycles over the clock, and by their FLOPs the computations that it cannot estimate; of a
      roofline, the larger of its two.
    kernels: Pallas kernels.
    overlapped, exposed: collectives in a slice that run beside other work, and that do not.
    between_slices: collectives over the data-centre network.
    compiled_flops: of one device's products of matrices, kernels included.
    model_flops: of one device's share of `Program.train_flops`.
    uncounted: names of kernels whose FLOPs are not known here; they take no time in the bound.
  """

  seconds: float
  mfu: float
  serial: float
  basis: str
  compute: float
  kernels: float
  overlapped: float
  exposed: float
  between_slices: float
  compiled_flops: float
  model_flops: float
  uncounted: tuple[str, ...] = ()

  def line(self) -> str:
    """One line, as train prints it before it starts."""
    by = "the compiler's cycles" if self.basis == 'compiler' else 'a roofline of FLOPs and memory'
    return f'bound by {by}: a step takes at least {self.seconds:.3g} s, MFU at most {self.mfu:.1%}'


def of_compiled(compiled: jax.stages.Compiled, program: Program) -> Bound | None:
  """The bound of a compiled update; None for a device of which nothing is known.

  Args:
    compiled: what `program.compile()` gave, or the same step compiled for the same devices.
    program: gives model FLOPs, the mesh and whether attention is causal.
  """
  memory = compiled.memory_analysis()
  traffic = memory.argument_size_in_bytes + memory.output_size_in_bytes if memory is not None else 0
  return of_cost(_cost_of(compiled), program, traffic)


def _cost_of(compiled: jax.stages.Compiled) -> hlo.Cost:
  """The cost by the compiled text; without text all is 0, which leaves a roofline of model FLOPs."""
  try:
    return hlo.cost(compiled.as_text() or '')
  except (jax.errors.JaxRuntimeError, ValueError):  # jaxlib cannot read back what libtpu makes of some gathers
    return hlo.Cost(cycles=0.0, flops=0.0, collectives=(), kernels=(), unknown_loops=0)


def of_cost(cost: hlo.Cost, program: Program, traffic: float) -> Bound | None:
  """The bound from counts already made.

  Args:
    cost: of the compiled update.
    program: the update.
    traffic: bytes of arguments and results of one device, which a roofline must move.
  """
  first = program.mesh.devices.flat[0]
  peak, chip = devices.peak_flops(first), devices.chip(first)
  if peak is None:
    return None
  size = program.mesh.devices.size
  model_flops = program.train_flops() / size
  kernels = [(kernel_flops(one, program.causal) * one.times, one) for one in cost.kernels]
  compiled_flops = cost.flops + sum(flops for flops, _ in kernels)
  uncounted = tuple(sorted({one.name for flops, one in kernels if not flops}))
  if not cost.cycles or chip is None or not chip.clock:
    # Library calls on CPU and GPU hide products of matrices from the text.
    seconds = max(compiled_flops, model_flops) / peak
    if chip is not None:
      seconds = max(seconds, traffic / chip.bandwidth)
    parts = {'compute': seconds, 'kernels': 0.0, 'overlapped': 0.0, 'exposed': 0.0, 'between_slices': 0.0}
    bound, basis = seconds, 'roofline'
  else:
    parts = _parts(cost, program, chip, kernels)
    bound = max(parts['compute'] + parts['kernels'], parts['overlapped']) + parts['exposed']
    bound, basis = max(bound, compiled_flops / peak, parts['between_slices']), 'compiler'
  return Bound(
    seconds=bound,
    mfu=model_flops / (bound * peak),
    serial=max(bound, sum(parts.values())),
    basis=basis,
    compiled_flops=compiled_flops,
    model_flops=model_flops,
    uncounted=uncounted,
    **parts,
  )


def _parts(
  cost: hlo.Cost, program: Program, chip: devices.Chip, kernels: list[tuple[float, hlo.Kernel]]
) -> dict[str, float]:
  """Seconds of a step's parts on a TPU."""
  # What the compiler cannot estimate takes at least its products of matrices.
  compute = cost.cycles / chip.clock + cost.unestimated_flops / chip.peak_flops
  parts = {'compute': compute, 'overlapped': 0.0, 'exposed': 0.0, 'between_slices': 0.0}
  parts['kernels'] = sum(flops / (chip.peak_flops * _efficiency(one, chip)) for flops, one in kernels)
  slices = devices.by_slice(program.mesh.devices.flat)
  for one in cost.collectives:
    if one.between_slices:
      share = (len(slices) - 1) / len(slices) * (2 if one.kind.endswith('all-reduce') else 1)
      parts['between_slices'] += one.payload * share * one.times / chip.network if chip.network else 0.0
    elif rate := links_in(slices[0], one.members, chip) * chip.link:
      parts['overlapped' if one.overlapped else 'exposed'] += one.received * one.times / rate
  return parts


def links_in(one_slice: list[jax.Device], members: tuple[int, ...], chip: devices.Chip) -> int:
  """Links that enter the group's worst placed chip, along the axes of the torus that the group spans.

  A mesh end has one link along an axis, other chips two; `Chip.wraps` says where ends are joined.
  """
  coords: list[tuple[int, ...]] = [tuple(getattr(device, 'coords', None) or ()) for device in one_slice]
  group = [coords[i] for i in members if i < len(coords)]
  if not group or not all(coords):
    return 0
  extents = [1 + max(place[axis] for place in coords) for axis in range(len(group[0]))]
  spanned = [axis for axis in range(len(extents)) if len({place[axis] for place in group}) > 1]
  wraps = chip.wraps(extents)

  def links(place) -> int:
    return sum(1 if place[axis] in (0, extents[axis] - 1) and not wraps[axis] else 2 for axis in spanned)

  return min(map(links, group))


def kernel_flops(kernel: hlo.Kernel, causal: bool) -> float:
  """FLOPs of one call of a splash attention kernel; 0 for a kernel that is not known here.

  Its operands are q [.., H, L, E], k and v [.., K, L, E]; each product of matrices takes 2 H L L E, half if causal.
  """
  arrays = [shape for shape in kernel.operands if len(shape) >= 3]
  found = [count for part, count in _PRODUCTS.items() if part in kernel.name]
  if 'splash' not in kernel.name or not found or len(arrays) < 2:
    return 0.0
  products = _PRODUCTS_OF_FUSED_BACKWARD if '_dkv' in kernel.name and kernel.fused_backward else found[0]
  return 2.0 * products * math.prod(arrays[0]) * arrays[1][-2] * (0.5 if causal else 1.0)


def _efficiency(kernel: hlo.Kernel, chip: devices.Chip) -> float:
  """Share of the matrix units that an attention kernel's products can fill: one of their sides is head_dim long."""
  width = kernel.operands[0][-1] if kernel.operands and kernel.operands[0] else chip.matrix_unit
  return min(1.0, width / chip.matrix_unit)
