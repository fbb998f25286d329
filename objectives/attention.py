"""Who may see whom: the static attention specification of an objective. No TensorFlow, no JAX.

Every token carries three integers: `segment` (0 = padding), `level` and `group`. In layer l, token i may attend to
token j iff both are in the same non-zero segment and

    i == j  or  (table[l][group_i][group_j] and (not ordered[l] or level_j <= level_i))

Without explicit levels a token's level is its position in the segment; without explicit groups every group is 0. So
`ordered=True` is causal attention and `ordered=False` is bidirectional attention, both inside segments. The rule also
holds prefix-LM, block-causal diffusion and layer-wise causal-mask removal; the L x L mask is made on the device only.
Tokens of one level see each other.
"""

import dataclasses

from .. import UserError

GroupTable = tuple[tuple[bool, ...], ...]


@dataclasses.dataclass(frozen=True)
class AttentionSpec:
  """A static attention rule, the same for every row of a run.

  Attributes:
    ordered: whether a token sees only tokens of its own or a lower level; one bool for all layers or one for each of
      several groups of layers, as large as each other, bottom to top.
    table: which group may see which, `table[query group][key group]`; None lets every group see every group. The same
      table holds in every layer.
    levels: whether rows bring levels of their own, as the feature 'decoder_levels'.
    block: tokens of a segment that have one level, where rows bring none; more than 1 is block-causal.
  """

  ordered: bool | tuple[bool, ...] = True
  table: GroupTable | None = None
  # Not in its text: model directories compare texts, and older ones do not know of it.
  levels: bool = dataclasses.field(default=False, repr=False)
  block: int = 1

  def __post_init__(self) -> None:
    if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 1:
      raise UserError(f'AttentionSpec.block is {self.block!r}; give the tokens of a block, 1 or more.')
    if self.block > 1 and self.levels:
      raise UserError(f'AttentionSpec.block is {self.block}, which has no effect here: rows bring their own levels.')

  def __repr__(self) -> str:
    block = f', block={self.block}' if self.block > 1 else ''  # as for levels
    return f'{type(self).__name__}(ordered={self.ordered!r}, table={self.table!r}{block})'

  def ordered_in(self, layer: int, num_layers: int) -> bool:
    """Whether `layer` of `num_layers` is ordered; UserError if the layers make no such groups."""
    if isinstance(self.ordered, bool):
      return self.ordered
    groups = len(self.ordered)
    if not groups or num_layers % groups:
      raise UserError(
        f'The attention rule is for {groups} groups of layers; {num_layers} layers make no {groups} groups.'
      )
    return self.ordered[layer * groups // num_layers]

  @property
  def always_ordered(self) -> bool:
    """True if no layer lets a token see a later one, but for what the rows' own levels allow."""
    return self.blocks == 1

  @property
  def blocks(self) -> int:
    """Tokens of the blocks of a segment that all layers see from left to right; 0 where one sees both sides.

    1 is causal. Levels and tables that rows bring are not looked at.
    """
    ordered = self.ordered if isinstance(self.ordered, bool) else all(self.ordered)
    return self.block if ordered else 0

  def visible_share(self, length: int) -> float:
    """Share of the pairs of a row of `length` positions that the order lets see each other, for counting FLOPs alone.

    The mean over layers: one half where a layer is ordered (MaxText's convention, which leaves the diagonal out), by
    blocks a little more, 1 where it is not. Where rows bring their own levels it is 1 too: how long their prefixes are
    is not known here. What a table or segments hide is not taken off: which pairs those are differs from row to row.
    """
    if self.levels:
      return 1.0
    layers = (self.ordered,) if isinstance(self.ordered, bool) else self.ordered
    ordered = min(1.0, 0.5 + (self.block - 1) / (2 * length))
    return sum(ordered if one else 1.0 for one in layers) / len(layers)

  @property
  def kind(self) -> str:
    """'causal' or 'bidirectional' where one fast kernel serves all layers, otherwise 'general'."""
    if self.table is None and not self.levels and self.block == 1 and isinstance(self.ordered, bool):
      return 'causal' if self.ordered else 'bidirectional'
    return 'general'


def by_layer(pattern: str) -> AttentionSpec:
  """Causal masks removed from some layers, inside segments ("Looking Right is Sometimes Right", arXiv 2401.14556).

  Args:
    pattern: a digit for each of several groups of layers, as large as each other, bottom to top: 1 lets its layers see
      both sides, 0 leaves them causal. '0011' opens the upper half.

  Raises:
    UserError: it is no such pattern.
  """
  if not isinstance(pattern, str) or not pattern or set(pattern) - {'0', '1'}:
    raise UserError(f"by_layer.pattern is {pattern!r}; give a digit 0 or 1 for each group of layers, such as '0011'.")
  return AttentionSpec(ordered=tuple(digit == '0' for digit in pattern))


CAUSAL = AttentionSpec(ordered=True)
BIDIRECTIONAL = AttentionSpec(ordered=False)
PREFIX = AttentionSpec(ordered=True, levels=True)
"""Rows whose prefixes are of level 0, all else of rising levels."""
