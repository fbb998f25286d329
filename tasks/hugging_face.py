"""A Hugging Face tokenizer ('tokenizer.json') with reserved ids as a seqio vocabulary. Needs the package tokenizers.

seqio.Feature(HuggingFaceVocabulary('converted/tokenizer.json'), add_eos=False)
"""

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from .. import UserError
from ..objectives.base import SpecialTokens

RESERVED_LIKE = re.compile(
  r'unused|reserved|extra_?id|spare|special[:_ ]?\d|placeholder|dummy|madeup|<mask>\Z', re.IGNORECASE
)
BEGINS = ('<s>', '<bos>', '<|begin_of_text|>', '[CLS]')
ENDS = ('</s>', '<eos>', '<|end_of_text|>', '<|endoftext|>', '[SEP]', '<|im_end|>')


class HuggingFaceVocabulary(seqio.Vocabulary):
  """Ids of a 'tokenizer.json', without what it puts around a text.

  Attributes:
    content: of the file.
    names: of all ids.
  """

  def __init__(self, path: str):
    """UserError if it is missing, damaged, or tokenizers is not installed."""
    super().__init__()
    self.path = path
    try:
      with open(path, 'rb') as file:
        self.content: dict[str, Any] = json.loads(file.read())
      self.names = names(self.content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
      raise UserError(f'{path} is no readable tokenizer.json ({error}).') from error
    self._specials = {int(entry['id']) for entry in self.content['added_tokens'] if entry.get('special')}

  @functools.cached_property
  def tokenizer(self) -> Any:
    """The library's own object."""
    try:
      import tokenizers
    except ImportError as error:
      raise UserError(f"{self.path} needs the package tokenizers: pip install 'unmask[hf]'.") from error
    try:
      return tokenizers.Tokenizer.from_str(json.dumps(self.content))
    except Exception as error:  # the library raises nothing more special
      raise UserError(f'{self.path} is no tokenizer.json that tokenizers reads ({error}).') from error

  def is_special(self, token: int) -> bool:
    """Whether an id is a special token."""
    return int(token) in self._specials

  def offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last character of each token of a text, the leading spaces left out; int64 [tokens]."""
    found = np.array(self.tokenizer.encode(text, add_special_tokens=False).offsets, np.int64).reshape(-1, 2)
    begins, ends = found[:, 0], found[:, 1]
    spaces = np.cumsum([0, *(character == ' ' for character in text)])
    # From each character on, the next that is no space.
    visible = np.flatnonzero(np.diff(spaces, append=spaces[-1]) == 0)
    following = np.append(visible, len(text))[np.searchsorted(visible, begins)]
    return np.where(following < ends, following, begins), ends

  def token_id(self, known: Sequence[str]) -> int | None:
    """The id of the first of these names that there is."""
    ids = {name: i for i, name in self.names.items()}
    return next((ids[name] for name in known if name in ids), None)

  @property
  def bos_id(self) -> int | None:
    return self.token_id(BEGINS)

  @property
  def eos_id(self) -> int | None:
    return self.token_id(ENDS)

  @property
  def unk_id(self) -> int | None:
    return None  # seqio would put it in the place of ids it takes for extra ones

  @property
  def _base_vocab_size(self) -> int:
    return max(self.names) + 1

  def special_tokens(self, reserved: Sequence[str], spare: Sequence[str] = ()) -> SpecialTokens:
    """The reserved ids by name, and the spare ones that it has; UserError if reserved ones are missing."""
    ids = {name: i for i, name in self.names.items() if i in self._specials}
    bos, eos = self.bos_id, self.eos_id
    if missing := [name for name in reserved if name not in ids] or ['bos or eos'] * (None in (bos, eos)):
      raise UserError(f'{self.path} has no {missing[0]}: convert it by `unmask convert-vocab`.')
    mask, end_of_span, *sentinels = (ids[name] for name in reserved)
    plain = [i for i, name in self.names.items() if i not in self._specials and not RESERVED_LIKE.search(name)]
    low, high = max(1, min(plain)), max(plain) + 1
    if any(low <= i < high for i in (mask, end_of_span, *sentinels)):
      raise UserError(f'{self.path} has reserved ids among its ordinary ones: it cannot be used.')
    return SpecialTokens(
      pad=0,
      eos=eos or 0,
      bos=bos or 0,
      mask=mask,
      end_of_span=end_of_span,
      sentinels=tuple(sentinels),
      text=(low, high),
      spare=tuple(ids[name] for name in spare if name in ids and not low <= ids[name] < high),
    )

  def _encode(self, s: str) -> list[int]:
    return self.tokenizer.encode(s, add_special_tokens=False).ids

  def _decode(self, ids: Sequence[int]) -> str:
    return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    encode = lambda text: np.asarray(self._encode(np.asarray(text).item().decode()), np.int32)
    return tf.ensure_shape(tf.numpy_function(encode, [tf.convert_to_tensor(s)], tf.int32), [None])

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.numpy_function(lambda ids: self._decode(ids).encode(), [ids], tf.string), [])

  def __eq__(self, other: object) -> bool:
    return isinstance(other, HuggingFaceVocabulary) and self.content == other.content

  def __hash__(self) -> int:
    return hash(self.path)


def names(content: dict[str, Any]) -> dict[int, str]:
  """The name of each id of a tokenizer.json; LookupError or the like if it is none."""
  listed = content['model']['vocab']
  if isinstance(listed, dict):
    found = {int(i): str(name) for name, i in listed.items()}
  else:
    found = {i: str(pair[0]) for i, pair in enumerate(listed)}
  return found | {int(entry['id']): str(entry['content']) for entry in content.get('added_tokens', [])}


def added_token(token: int, content: str, *, lstrip: bool = False, special: bool = True) -> dict[str, Any]:
  """An entry of 'added_tokens'; `lstrip`: whether the blanks before it in a text belong to it."""
  return {
    'id': token,
    'content': content,
    'single_word': False,
    'lstrip': lstrip,
    'rstrip': False,
    'normalized': not special,
    'special': special,
  }
