"""A prompt: how the fields of an example are asked about, and what the answer is (T0, arXiv 2110.08207, section 4)."""

import dataclasses
import string
from collections.abc import Mapping

import tensorflow as tf

from ... import UserError

_BETWEEN = '|||'  # of answer choices, as in the prompts of P3


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Templates over an example's fields, whose names stand in braces: 'The topic of {text} is'.

  Attributes:
    question: what is read.
    answer: what is predicted behind it.
    choices: answers to choose among, with ||| between them, the right one in any place; '' for an open question.
    held_out: whether training leaves it out, for evaluation.
  """

  question: str
  answer: str = '{answer}'
  choices: str = ''
  held_out: bool = False

  @property
  def fields(self) -> list[str]:
    """Those that question and answer name."""
    return sorted({name for text in (self.question, self.answer) for _, name in _pieces(text) if name})

  def asked(self, example: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """Question, answer, and the other choices of an example in Python; none of an open question."""
    question, answer = (text.format_map(example) for text in (self.question, self.answer))
    choices = [one.strip() for one in self.choices.format_map(example).split(_BETWEEN) if one.strip()]
    return question, answer, [one for one in dict.fromkeys(choices) if one != answer]

  def tensors(self, example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """'inputs' and 'targets' of an example whose fields are scalar strings, in a graph."""
    join = lambda text: tf.strings.join(
      [part for piece, name in _pieces(text) for part in (piece, *([example[name]] if name else []))]
    )
    return {'inputs': join(self.question), 'targets': join(self.answer)}


def _pieces(text: str) -> list[tuple[str, str]]:
  """A template as pieces of text, and behind each the name of a field, '' for none; UserError if it is malformed."""
  try:
    found = list(string.Formatter().parse(text))
  except ValueError as error:
    raise UserError(
      f'The prompt {text!r} is malformed ({error}); write {{{{ and }}}} for braces of the text.'
    ) from error
  if any(name == '' or marks or kind for _, name, marks, kind in found):
    raise UserError(f'The prompt {text!r} has a brace that names no field; write {{field}}, without marks.')
  return [(piece, name or '') for piece, name, _, _ in found]
