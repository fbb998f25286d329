"""Who may see whom: the static attention specification of an objective. No TensorFlow, no JAX.

Every token carries three integers: `segment` (0 = padding), `level` and `group`. In layer l, token i may attend to
token j iff both are in the same non-zero segment and

    i == j  or  (table[l][group_i][group_j] and (not ordered[l] or level_j <= level_i))

Without explicit levels a token's level is its position in the row; without explicit groups every group is 0. So
`ordered=True` is causal attention and `ordered=False` is bidirectional attention, both inside segments. The rule also
holds prefix-LM, block-causal diffusion and layer-wise causal-mask removal; the L x L mask is made on the device only.
Tokens of one level see each other.
"""

import dataclasses

GroupTable = tuple[tuple[bool, ...], ...]


@dataclasses.dataclass(frozen=True)
class AttentionSpec:
  """A static attention rule, the same for every row of a run.

  Attributes:
    ordered: whether a token sees only tokens of its own or a lower level; one bool for all layers or one per layer,
      bottom to top.
    table: which group may see which, `table[query group][key group]`; None lets every group see every group. The same
      table holds in every layer.
    levels: whether rows bring levels of their own, as the feature 'decoder_levels'.
  """

  ordered: bool | tuple[bool, ...] = True
  table: GroupTable | None = None
  # Not in its text: model directories compare texts, and older ones do not know of it.
  levels: bool = dataclasses.field(default=False, repr=False)

  def ordered_in(self, layer: int, num_layers: int) -> bool:
    """Whether `layer` of `num_layers` is ordered; ValueError if the spec is for another depth."""
    if isinstance(self.ordered, bool):
      return self.ordered
    if len(self.ordered) != num_layers:
      raise ValueError(f'attention spec has {len(self.ordered)} layers, the decoder has {num_layers}')
    return self.ordered[layer]

  @property
  def always_ordered(self) -> bool:
    """True if no layer lets a token see a higher level."""
    return self.ordered if isinstance(self.ordered, bool) else all(self.ordered)

  @property
  def kind(self) -> str:
    """'causal' or 'bidirectional' where one fast kernel serves all layers, otherwise 'general'."""
    if self.table is None and not self.levels and isinstance(self.ordered, bool):
      return 'causal' if self.ordered else 'bidirectional'
    return 'general'


CAUSAL = AttentionSpec(ordered=True)
BIDIRECTIONAL = AttentionSpec(ordered=False)
