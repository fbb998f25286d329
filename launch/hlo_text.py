"""The text of optimised HLO, taken apart: computations, instructions, shapes, trip counts of loops, replica groups."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator

import numpy as np

_BITS = {'pred': 8, 'token': 0, 'opaque': 0, 'bf16': 16, 'c64': 64, 'c128': 128}
_HEAD = re.compile(r'^(ENTRY\s+)?%?([\w.\-]+) \(.*\) -> .*\{\s*$')
_NAMED = re.compile(r'^\s+(ROOT\s+)?%?([\w.\-]+) = ')
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,<=]*)\]')
_NO_ESTIMATE = 2**62  # cycles from here on are none
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: without '%'.
    computation: the one it stands in.
    shape: of what it gives, with layout; a tuple's in parentheses.
    opcode: such as 'fusion'.
    operands: names.
    attributes: the rest of the line.
    root: whether the computation gives it.
  """

  name: str
  computation: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  root: bool

  @property
  def cycles(self) -> int | None:
    """The compiler's estimate; 0 if it states none, None if it states that it has none (the largest integer)."""
    found = _CYCLES.search(self.attributes)
    cycles = int(found[1]) if found else 0
    return cycles if cycles < _NO_ESTIMATE else None

  def attribute(self, name: str) -> str:
    """A short attribute's text, '' if there is none."""
    found = re.search(rf'\b{name}=(\{{[^}}]*\}}|[^,\s]+)', self.attributes)
    return found[1] if found else ''

  def called(self, name: str) -> str:
    """The computation an attribute names."""
    return self.attribute(name).strip('{}').lstrip('%')

  def all_called(self) -> list[str]:
    """The computations that run when it does: of a call, of both branches of a condition."""
    names = re.findall(
      r'(?:to_apply|calls|branch_computations|true_computation|false_computation)=\{?([^}\s]*(?:, [^}=\s]+)*)',
      self.attributes,
    )
    return [name.strip().lstrip('%') for several in names for name in several.strip(',').split(',') if name.strip()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Module:
  """Computations by name, each its instructions by name, and the name of the one that runs."""

  computations: dict[str, dict[str, Instruction]]
  entry: str


def parse(text: str) -> Module:
  """Takes a module's text apart; ValueError if it has no entry computation."""
  computations: dict[str, dict[str, Instruction]] = {}
  entry, current = '', ''
  for line in _whole_lines(text):
    head = _HEAD.match(line)
    if head and not line.startswith(' '):
      current = head[2]
      computations[current] = {}
      entry = current if head[1] else entry
    elif current and (named := _NAMED.match(line)):
      one = _instruction(line, named, current)
      computations[current][one.name] = one
  if not entry:
    raise ValueError('the text has no ENTRY computation')
  return Module(computations=computations, entry=entry)


def _whole_lines(text: str) -> Iterator[str]:
  """Lines, those joined that an attribute's text breaks: such a one neither names a thing nor opens or ends one."""
  pending = ''
  for line in text.split('\n'):
    if _NAMED.match(line) or line == '}' or _HEAD.match(line):
      yield pending
      pending = line
    else:
      pending += ' ' + line
  yield pending


def _instruction(line: str, named: re.Match, computation: str) -> Instruction:
  rest = line[named.end() :]
  end = _closing(rest, 0) if rest.startswith('(') else rest.index(' ')
  shape, rest = rest[:end], rest[end:].lstrip()
  opcode, _, after = rest.partition('(')
  end = _closing('(' + after, 0) - 1
  operands = tuple(re.findall(r'%([\w.\-]+)', after[:end]))
  if opcode in ('constant', 'parameter'):
    operands = (after[: end - 1],)  # the number, which a constant or parameter is known by
  return Instruction(
    name=named[2],
    computation=computation,
    shape=shape,
    opcode=opcode,
    operands=operands,
    attributes=after[end:],
    root=bool(named[1]),
  )


def _closing(text: str, start: int) -> int:
  """One past the parenthesis that closes the one at `start`."""
  depth = 0
  for found in re.finditer(r'[()]', text[start:]):
    depth += 1 if found[0] == '(' else -1
    if depth == 0:
      return start + found.end()
  return len(text)


def arrays(shape: str) -> list[str]:
  """The arrays of a shape, such as 'bf16[8,128]', without layouts."""
  return [found[0] for found in _ARRAY.finditer(re.sub(r'\{[^}]*\}', '', shape))]


def dimensions(shape: str) -> tuple[int, ...]:
  """Sizes of an array's dimensions."""
  found = _ARRAY.search(shape)
  return tuple(int(size.lstrip('<=')) for size in found[2].split(',') if size) if found else ()


def num_bytes(shape: str) -> float:
  """Bytes of one array."""
  found = _ARRAY.search(shape)
  if found is None:
    return 0.0
  bits = _BITS[found[1]] if found[1] in _BITS else numbers(found[1])[0]
  return math.prod(dimensions(shape)) * bits / 8


def numbers(text: str) -> list[int]:
  """All whole numbers of a text."""
  return [int(number) for number in re.findall(r'\d+', text)]


def convolution_flops(
  instruction: Instruction, left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]
) -> float:
  """Two a multiplication that meets an input, not padding or the zeros between dilated elements.

  TPU's compiler writes products of matrices as convolutions, whose windows may be mostly padding.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  window = re.search(r'window=\{([^}]*)\}', instruction.attributes)
  if labels is None:
    return 0.0
  fields = dict(part.split('=') for part in window[1].split()) if window else {}
  flops = 2.0 * out[labels[3].index('b')] * out[labels[3].index('f')] * right[labels[2].index('i')]
  for axis, digit in enumerate(sorted(set(labels[1]) - set('bf'))):

    def field(name: str, default: str, axis: int = axis) -> list[int]:
      value = fields[name].split('x')[axis] if name in fields else default
      return [int(number) for number in value.split('_')]

    low, _ = field('pad', '0_0')
    stride, spread_left, spread_right = (field(name, '1')[0] for name in ('stride', 'lhs_dilate', 'rhs_dilate'))
    size = left[labels[1].index(digit)]
    place = (
      np.arange(out[labels[3].index(digit)])[:, None] * stride
      + np.arange(right[labels[2].index(digit)])[None] * spread_right
      - low
    )
    inside = (place >= 0) & (place < (size - 1) * spread_left + 1) & (place % spread_left == 0)
    flops *= int(inside.sum())
  batches = re.search(r'batch_group_count=(\d+)', instruction.attributes)
  return flops / (int(batches[1]) if batches else 1)


def first_group(attributes: str) -> tuple[int, ...]:
  """The members of a collective's first group; of a permutation, of its longest route.

  Reads {{0,1},{2,3}}, [2,4]<=[4,2]T(1,0) and mesh['a'=2,'b'=4] {'b'}; none written means all in one, here (0,).
  """
  pairs = re.search(r'source_target_pairs=\{\{([^=]*?)\}\}', attributes)
  if pairs:
    routes = [tuple(map(int, pair.split(','))) for pair in pairs[1].split('},{')]
    return max(routes, key=lambda route: abs(route[0] - route[1]))
  written = re.search(r'replica_groups=\{\{([\d,]*)\}', attributes)
  if written:
    return tuple(numbers(written[1]))
  iota = re.search(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', attributes)
  if iota:
    groups, sizes = numbers(iota[1]), numbers(iota[2])
    order = np.arange(math.prod(sizes)).reshape(sizes)
    if iota[3]:
      order = order.transpose(numbers(iota[3]))
    return tuple(int(i) for i in order.reshape(-1, groups[-1])[0])
  mesh = re.search(r'replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([\d,]*\))?\s*\{([^}]*)\}', attributes)
  if mesh:
    return _mesh_group(mesh[1], mesh[2])
  return (0,)


def _mesh_group(axes: str, chosen: str) -> tuple[int, ...]:
  """The first group along some axes of a mesh; 'a':(2)4 is the part of axis a of size 4 with 2 parts before it."""
  sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes)}
  after = list(itertools.accumulate([*reversed(sizes.values())][:-1], int.__mul__, initial=1))[::-1]
  strides = dict(zip(sizes, after, strict=True))
  members = [0]
  for name, before, part in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", chosen):
    size = int(part) if part else sizes[name]
    step = strides[name] * (sizes[name] // (int(before) * size) if part else 1)
    members = [member + i * step for member in members for i in range(size)]
  return tuple(members)


def trip_count(module: Module, computation: str, loop: Instruction) -> int | None:
  """How often a while loop's body runs; None where the text does not tell.

  The compiler states it on some backends. Elsewhere a loop counts: its condition compares one element of the carry,
  or a copy of it, with a constant; the body adds a constant to that element; it starts as a constant.
  """
  known = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.attributes)
  if known:
    return int(known[1])
  found = _comparison(module, loop.called('condition'))
  if found is None:
    return None
  index, limit, direction = found
  start = _constant_element(module, computation, loop.operands[0], index)
  step = _step(module, loop.called('body'), index)
  span = limit - (0 if start is None else start) + (direction in ('LE', 'GE'))
  return max(0, math.ceil(span / step)) if step else None


def _comparison(module: Module, condition: str) -> tuple[int, int, str] | None:
  """(element of the carry, limit, direction) of a loop's condition."""
  scope = module.computations[condition]
  (root,) = (one for one in scope.values() if one.root)
  if root.opcode == 'fusion':
    inner = module.computations[root.called('calls')]
    (compare,) = (one for one in inner.values() if one.root)
    operands = [_through(inner, name) for name in compare.operands]
    # A parameter of the fusion is one of its operands.
    sides = [scope[root.operands[int(one.operands[0])]] if one.opcode == 'parameter' else one for one in operands]
  else:
    compare, sides = root, [scope[name] for name in root.operands]
  if compare.opcode != 'compare' or len(sides) != 2:
    return None
  sides = [_through(scope, one.name) if one.name in scope else one for one in sides]
  constants = [one for one in sides if one.opcode == 'constant']
  elements = [one for one in sides if one.opcode == 'get-tuple-element']
  if len(constants) != 1 or len(elements) != 1:
    return None
  return int(elements[0].attribute('index')), int(constants[0].operands[0]), compare.attribute('direction')


def _through(scope: dict[str, Instruction], name: str) -> Instruction:
  """The instruction behind copies of it."""
  one = scope[name]
  while one.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start', 'convert') and one.operands[0] in scope:
    one = scope[one.operands[0]]
  return one


def _constant_element(module: Module, computation: str, tuple_name: str, index: int) -> int | None:
  """The value of a tuple's element, if it is a constant."""
  scope = module.computations[computation]
  if scope[tuple_name].opcode != 'tuple':
    return None
  one = _through(scope, scope[tuple_name].operands[index])
  return int(one.operands[0]) if one.opcode == 'constant' else None


def _step(module: Module, body: str, index: int) -> int | None:
  """What a loop's body adds to an element of its carry: 1 unless it adds another constant."""
  scope = module.computations[body]
  root = next((one for one in scope.values() if one.root), None)
  if root is None or root.opcode != 'tuple':
    return 1
  one = _through(scope, root.operands[index])
  if one.opcode != 'add':
    return 1
  constants = [side for side in (_through(scope, name) for name in one.operands) if side.opcode == 'constant']
  return abs(int(constants[0].operands[0])) if constants else 1
