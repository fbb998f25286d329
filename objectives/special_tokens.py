"""The ids that every vocabulary reserves for objectives, and how its tokens are cut. No TensorFlow here."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import UserError


class Fragments(NamedTuple):
  """How each token of a vocabulary is cut between two of its characters.

  Attributes:
    characters: int32 [vocabulary], how many a token adds to a text.
    first: int32 [vocabulary]; a token of n characters cut behind its c-th, 0 < c < n, is row first + c - 1 of both.
    left, right: int32 [cuts, width], the tokens of either part, filled up with 0.
  """

  characters: Any
  first: Any
  left: Any
  right: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecialTokens:
  """Ids that every objective shares, reserved once in every vocabulary so that checkpoints move between objectives.

  Attributes:
    pad, eos, bos: padding (always 0), end and start of a document.
    mask: the [MASK] of BERT and MEAP.
    end_of_span: CM3's <eoss>, InCoder's <EOM>.
    sentinels: CM3's <mask:0>, <mask:1>, ... (16 of them, the paper's upper clamp).
    text: (low, high), the half-open range of ordinary ids. Ids outside it are never corrupted and never drawn as a
      random replacement.
    spare: ids for marks that one objective alone needs, such as UL2's mode tokens; none in some vocabularies.
    fragments: gives the vocabulary's `Fragments`; None where it has no characters that one could count.
  """

  pad: int
  eos: int
  bos: int
  mask: int
  end_of_span: int
  sentinels: tuple[int, ...]
  text: tuple[int, int]
  spare: tuple[int, ...] = ()
  fragments: Callable[[], Fragments] | None = dataclasses.field(default=None, compare=False, repr=False)

  def is_text(self, tokens: Any) -> Any:
    """Whether each id is ordinary text; same shape as `tokens`, NumPy, TensorFlow or JAX."""
    return (tokens >= self.text[0]) & (tokens < self.text[1])

  def mark(self, number: int | None) -> int | None:
    """The id of one of the spare marks; None for none. UserError if there are not so many."""
    if number is not None and not 0 <= number < len(self.spare):
      raise UserError(
        f'The objective marks texts by spare id number {number}; this vocabulary has {len(self.spare)} of them, those '
        f'trained here have 10.'
      )
    return None if number is None else self.spare[number]
