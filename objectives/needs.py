"""What objectives need of a vocabulary beyond what every one has, and the refusal of one that lacks it. No TensorFlow.

Every vocabulary has pad, eos, bos, [MASK] and <eoss> (`special_tokens`); how many sentinels and spare ids, and
whether its tokens can be cut, differ.
"""

from typing import Any, Literal, NamedTuple

from .. import UserError

# What each is called, and who has it.
_KINDS = {
  'sentinels': ('sentinels', 'as those trained or converted here, with 16'),
  'spare': ('spare ids', 'as those trained here, with 10, or a seqio vocabulary with extra_ids=29'),
  'fragments': ('tokens that can be cut between characters', 'as SentencePiece and byte vocabularies do'),
}


class Need(NamedTuple):
  """Something that an objective needs and some vocabularies lack.

  Attributes:
    of: which field of `SpecialTokens` gives it.
    count: how many of them, counted from the first; 1 of 'fragments', which a vocabulary has or has not.
    instead: which setting of the objective makes it do with less, in words; '' where none does.
  """

  of: Literal['sentinels', 'spare', 'fragments']
  count: int = 1
  instead: str = ''


def of_mark(setting: str, number: int | None) -> tuple[Need, ...]:
  """Of an objective whose setting, by its name, is the number of a spare id; None for none."""
  return () if number is None else (Need('spare', number + 1, f'bind {setting} to a lower number'),)


def require(objective: str, needs: tuple[Need, ...], special: Any) -> None:
  """Raises UserError, with the mend, unless a vocabulary has all of it.

  Args:
    objective: its name, for the error.
    needs: of the objective.
    special: the vocabulary's `SpecialTokens`.
  """
  for need in needs:
    found, (called, where) = getattr(special, need.of), _KINDS[need.of]
    has = len(found) if isinstance(found, tuple) else int(found is not None)
    if has < need.count:
      number = f'1 {called.removesuffix("s")}' if need.count == 1 else f'{need.count} {called}'
      wanted = called if need.of == 'fragments' else number
      raise UserError(
        f'{objective} needs {wanted}, and this vocabulary has {has or "none"}: take one that has them, {where}'
        f'{f"; or {need.instead}" if need.instead else ""}.'
      )
