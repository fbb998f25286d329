"""How a text becomes a vector: which of a trained decoder's states it is made of. NumPy only.

As a scorer does, a rule turns a text into a row for the model; the judge runs the rows of any rule through the same
function, and an exported folder's README tells the rule in words.
"""

import dataclasses
from typing import Literal

import numpy as np

from .. import UserError
from .attention import AttentionSpec
from .scoring import ScoringRow, begun, row


@dataclasses.dataclass(frozen=True)
class Embedding:
  """A text's vector is the mean of the decoder's last hidden states, behind the final norm, at some positions.

  Attributes:
    reads: the positions: all of the 'text', its 'first' alone, or those of what is put 'behind' it.
    behind: ids put behind the text, at the positions that follow it; of group 1 where attention has groups, all else
      being of group 0.
    begin: an id in the place of `bos`; None for none.
    attention: the rule to run the rows under; None is the one that the model was trained with. Where it has levels, the
      text is a prefix, seen from both sides.
  """

  reads: Literal['text', 'first', 'behind'] = 'text'
  behind: tuple[int, ...] = ()
  begin: int | None = None
  attention: AttentionSpec | None = None

  def __post_init__(self) -> None:
    if self.reads not in ('text', 'first', 'behind') or (self.reads == 'behind') != bool(self.behind):
      raise UserError(
        f"Embedding.reads is {self.reads!r} and Embedding.behind {self.behind}; choose 'text' or 'first', or 'behind' "
        'with ids to put there.'
      )

  def row(self, tokens: np.ndarray) -> ScoringRow:
    """The row of a text, int32 [length] ids from `bos` on; the vector is the mean over its reads. Nothing is scored."""
    inputs = np.concatenate([begun(tokens, self.begin), np.array(self.behind, np.int32)])
    places = {'text': range(len(tokens)), 'first': range(1), 'behind': range(len(tokens), len(inputs))}[self.reads]
    none = [0] * len(places)
    return row(inputs, list(places), none, none, prefix=len(tokens))
