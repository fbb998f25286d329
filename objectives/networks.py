"""Networks beside the decoder: what an objective says it needs, and what it may then ask of them. No TensorFlow.

An objective names its networks in `Objective.beside` and says of each what it is, as plain data. Whoever makes the
model (`launch.networks`) builds them from modules of `models`, initialises them beside the decoder's parameters under
the objective's names, and hands `Networks` to the objective's `on_device` and `measure`. They are saved with the
decoder, and trained with it unless they are `Frozen`; who reads a checkpoint for the decoder alone does not notice
them.
"""

import dataclasses
from typing import Any, Protocol

from .. import UserError
from .attention import GroupTable

Array = Any
TAKEN = ('embedding', 'blocks', 'final_norm', 'output')
"""Names that no network can have: the decoder's own parameters stand beside it."""


def is_count(value: float, least: int) -> bool:
  """Whether a setting is a whole number from `least`."""
  return not isinstance(value, bool) and value == int(value) and value >= least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tower:
  """A second decoder, narrower or shallower, that reads and predicts tokens by the first one's tables.

  Attributes:
    width: of its residual stream, heads and MLP, a share of the decoder's; above 0, at most 1.
    layers: its blocks; None takes as many as the decoder has.
    scored, drawn: shares of the positions at which its tokens are scored, and drawn; for counting FLOPs alone.
  """

  width: float = 1.0
  layers: int | None = None
  scored: float = 1.0
  drawn: float = 0.0

  def __post_init__(self) -> None:
    if not 0 < self.width <= 1:
      raise UserError(f'Tower.width is {self.width}; it is a share of the decoder, above 0 and at most 1.')
    if self.layers is not None and not is_count(self.layers, 1):
      raise UserError(f'Tower.layers is {self.layers}; give 1 or more, or None for as many as the decoder has.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
  """A head that gives one number to each position: a dense layer as wide as the decoder, gelu, a weighted sum."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
  """More classes than tokens for the decoder's output head: a row each, in one softmax with the vocabulary's.

  Attributes:
    count: of the classes, 1 or more.
    scored: share of the positions at which one is scored; for counting FLOPs alone.
  """

  count: int
  scored: float = 1.0

  def __post_init__(self) -> None:
    if not is_count(self.count, 1) or self.count >= 2**31:
      raise UserError(f'Classes.count is {self.count}; give a number of classes, 1 or more.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen:
  """The decoder of another run, which is asked and never trained.

  It has its own shape, tables and output head. Its parameters are read from that run's newest sound checkpoint when a
  run begins, and saved with that one's: what goes on needs the other run no more. They get no gradient, no optimizer's
  moments and no weight decay. An objective that has one keeps it in a field of the network's name.

  Attributes:
    checkpoint: MODEL_DIR of a run with the same vocabulary, whose model gives every token of a clean text its
      probability by what stands left of it (`scoring.left_to_right`); None where nothing is trained.
    shape: fields of its decoder's configuration and their values; found by whoever makes the model, not set by hand.
  """

  checkpoint: str | None = None
  # Not in its text: the run that reads a checkpoint is known by the path that it was given.
  shape: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnhancedDecoder:
  """One layer that rebuilds each token from a vector and a random part of the clean ones (RetroMAE, arXiv 2211.08769).

  Attributes:
    hidden: probability that a unit of tokens is out of a position's sight, in [0, 1].
  """

  hidden: float = 0.5

  def __post_init__(self) -> None:
    if isinstance(self.hidden, bool) or not 0 <= self.hidden <= 1:
      raise UserError(f'EnhancedDecoder.hidden is {self.hidden}; it is a probability, in [0, 1].')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraLayers:
  """Blocks behind the decoder, that read its hidden states and see each other's positions under its rule.

  Attributes:
    tables: for each block, bottom to top, which group may see which, `table[query group][key group]`; None lets every
      group see every group. A position always sees itself.
  """

  tables: tuple[GroupTable | None, ...]

  def __post_init__(self) -> None:
    if not self.tables:
      raise UserError('ExtraLayers.tables is empty; give one, or None, for each layer.')


Network = Tower | Detector | Classes | Frozen | EnhancedDecoder | ExtraLayers


class Networks(Protocol):
  """What an objective may ask on the device. B is rows, L positions of a row, N some of them, D the width."""

  def positions(self, wanted: Array, bound: int) -> Array:
    """Where each row of `wanted`, [B, L], is not 0, in order, filled up with other positions: int32 [B, min(L, bound)].

    Args:
      wanted: at most `bound` of a row are not 0.
      bound: static.
    """

  def tower(self, name: str, batch: dict[str, Array], index: Array) -> Array:
    """What a `Tower` gives at some positions of a batch, [B, N, D]; it reads the batch as the decoder does."""

  def head(self, name: str, hidden: Array) -> Array:
    """What a `Detector` gives to hidden states [B, N, D], float32 [B, N]."""

  def rebuild(
    self, name: str, vectors: Array, at: Array, tokens: Array, noise: Array, units: Array, batch: dict[str, Array]
  ) -> Array:
    """What an `EnhancedDecoder` makes of each position's vector and of the tokens that it sees, [B, L, D].

    Args:
      name: of the network.
      vectors: [B, L, D]; a query is one of them and its position.
      at: bool [B, L], where the vector stands in the token's place; every other position of the segment sees it.
      tokens: int32 [B, L], keys and values. No position sees its own.
      noise: int32 [B, L], random bits; what a position sees of the others is a function of them.
      units: int32 [B, L]; tokens of one number are out of a position's sight together.
      batch: for positions and segments.
    """

  def behind(self, name: str, hidden: Array, groups: Array, batch: dict[str, Array]) -> Array:
    """What `ExtraLayers` make of hidden states, [B, L, D]; of [B, L, D] and int32 [B, L], who is in which group."""

  def cross_entropy(self, hidden: Array, targets: Array) -> Array:
    """-log p(target) in nats by the output head, float32 [B, N]; of [B, N, D] and int32 [B, N]."""

  def joint_cross_entropy(self, name: str, hidden: Array, tokens: Array, classes: Array) -> Array:
    """-log p in nats by the output head and the rows of `Classes` together, one softmax; float32 [B, N].

    Args:
      name: of the classes.
      hidden: [B, N, D].
      tokens: int32 [B, N], the target where it is a token.
      classes: int32 [B, N], the target where it is a class, elsewhere below 0.
    """

  def left_to_right(self, name: str, batch: dict[str, Array], tokens: Array) -> Array:
    """log p of each token by what stands left of it in its segment, in nats, by a `Frozen`; no gradient.

    Args:
      name: of the network.
      batch: gives segments and positions.
      tokens: int32 [B, L], what it reads in place of the batch's inputs.

    Returns:
      float32 [B, L]; of the first token of a segment it means nothing.
    """

  def choose(self, weights: Array, noise: Array, able: Array, count: Array) -> Array:
    """Positions drawn without replacement, one after another by weight; bool [B, L], no gradient.

    Args:
      weights: float32 [B, L], logarithms of weights, in nats; only their differences inside a row matter.
      noise: int32 [B, L], random bits, of which, and of the weights, what is chosen is a function.
      able: bool [B, L], what may be chosen.
      count: int32 [B], how many of each row; all that may be, where those are fewer.
    """

  def pooled_cross_entropy(self, hidden: Array, pooled: Array, segment_ids: Array, targets: Array) -> Array:
    """-log p(target) in nats by the largest logits of each position's segment, float32 [B, L].

    Args:
      hidden: [B, L, D].
      pooled: bool [B, L], the positions among which the largest is looked for, of each id by itself.
      segment_ids, targets: int32 [B, L].
    """

  def draw(self, hidden: Array, noise: Array, lowest: Array, highest: Array) -> Array:
    """A token for each position by the output head's probabilities at temperature 1, int32 [B, N]; no gradient.

    Args:
      hidden: [B, N, D].
      noise: int32 [B, N], random bits; the token is a function of them and of the probabilities.
      lowest, highest: int32 [B, N], the half-open range of ids to draw from; of an empty one any id comes.
    """
