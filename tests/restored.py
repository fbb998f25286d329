"""Undoing what an objective did to a row: each (clean row, features row) -> the tokens that both together give back."""

import itertools
import re
from collections.abc import Callable

import numpy as np
from unmask.objectives import base, special_tokens

SPECIAL = base.SpecialTokens(
  pad=0,
  eos=1,
  bos=2,
  mask=4,
  end_of_span=5,
  sentinels=tuple(range(6, 22)),
  spare=tuple(range(22, 32)),
  text=(32, 500),
  fragments=lambda: _fragments(),
)


def _fragments() -> special_tokens.Fragments:
  """Every token has three characters; its parts have ids that tell whose they are: 1000.. left, 2000.. right."""
  characters, first, cuts = (
    np.zeros(500, np.int32),
    np.zeros(500, np.int32),
    np.arange(2 * 468, dtype=np.int32)[:, None],
  )
  characters[32:], first[32:] = 3, 2 * np.arange(468)
  return special_tokens.Fragments(characters, first, 1000 + cuts, 2000 + cuts)


def _mended(tokens: list[int]) -> list[int]:
  """Tokens whose parts stand side by side are whole again."""
  result = []
  for token in tokens:
    if token >= 2000:
      assert result.pop() == token - 1000, 'the parts of a token do not meet'
      token = 32 + (token - 2000) // 2
    result.append(token)
  assert all(token < 1000 for token in result)
  return result


def in_place(clean: dict, row: dict) -> np.ndarray:
  """Inputs where nothing was done, targets where they are scored."""
  return np.where(row['decoder_loss_weights'] > 0, row['decoder_target_tokens'], row['decoder_input_tokens'])


def where_drawn(clean: dict, row: dict) -> np.ndarray:
  """Inputs where the generator draws nothing, targets where it does."""
  assert (row['decoder_loss_weights'] == (row['decoder_segment_ids'] > 0)).all()
  return np.where(row['decoder_highest'] > 0, row['decoder_target_tokens'], row['decoder_input_tokens'])


def shifted(clean: dict, row: dict) -> np.ndarray:
  """The first token of each segment from the input, every other from the target one position before."""
  result = row['decoder_input_tokens'].copy()
  scored = np.flatnonzero(row['decoder_loss_weights'])
  result[scored + 1] = row['decoder_target_tokens'][scored]
  return result


def rotated(clean: dict, row: dict) -> np.ndarray:
  """Puts the tails back where their sentinels stand."""
  result = []
  for segment in range(1, row['decoder_segment_ids'].max(initial=0) + 1):
    tokens = row['decoder_input_tokens'][row['decoder_segment_ids'] == segment].tolist()
    marks = [i for i, token in enumerate(tokens) if token in SPECIAL.sentinels]
    spans = len(marks) // 2
    assert len(marks) == 2 * spans
    assert [tokens[i] for i in marks] == list(SPECIAL.sentinels[:spans]) * 2
    head = tokens[: marks[spans]] if spans else tokens
    tails, current = {}, None
    for token in tokens[len(head) :]:
      if token in SPECIAL.sentinels:
        current = tails.setdefault(token, [])
      elif token == SPECIAL.end_of_span:
        current = None
      else:
        current.append(token)
    assert all(tails.values()), 'a span is empty'
    for token in head:
      result += tails.get(token, [token])
  return np.pad(np.array(result, np.int32), (0, len(clean['targets']) - len(result)))


def spans_behind(clean: dict, row: dict) -> np.ndarray:
  """Puts span corruption's targets back into its inputs; the first end token parts them, and who sees both sides."""
  result = []
  for segment in range(1, row['decoder_segment_ids'].max(initial=0) + 1):
    mine = row['decoder_segment_ids'] == segment
    tokens = row['decoder_input_tokens'][mine].tolist()
    end = 1 + tokens.index(SPECIAL.end_of_span) if SPECIAL.end_of_span in tokens else len(tokens)
    inputs, targets = tokens[:end], tokens[end:]
    if 'decoder_levels' in row:
      np.testing.assert_array_equal(row['decoder_levels'][mine] == 0, np.arange(len(tokens)) < end)
    if targets:
      assert inputs.pop() == targets.pop() == SPECIAL.end_of_span
      # The first sentinel is the last input; what follows is predicted, so it stands among the targets.
    marks = [i for i, token in enumerate(targets) if token in SPECIAL.sentinels]
    order = [SPECIAL.sentinels[i % len(SPECIAL.sentinels)] for i in range(len(marks))]
    assert [targets[i] for i in marks] == order == [token for token in inputs if token in SPECIAL.sentinels]
    tails = iter([targets[a + 1 : b] for a, b in itertools.pairwise([*marks, len(targets)])])
    for token in inputs:
      result += next(tails) if token in SPECIAL.sentinels else [token]
    edges = np.diff([-1, *(i for i, token in enumerate(inputs) if token in SPECIAL.sentinels)])
    assert (edges > 1).all(), 'two spans touch'
    assert (np.diff([*marks, len(targets)]) > 1).all(), 'a span is empty'
  return np.pad(np.array(result, np.int32), (0, len(clean['targets']) - len(result)))


def spans_within_budgets(clean: dict, row: dict) -> np.ndarray:
  """The text as it is, after it was seen that inputs and targets are of it."""
  for segment in range(1, clean['segment_ids'].max(initial=0) + 1):
    mine = row['decoder_segment_ids'] == segment
    if not mine.any():
      assert 4 * segment > round(len(clean['targets']) / 2), 'there was room for `bos <mask:0> eos <eoss>`'
      continue
    tokens, seen = row['decoder_input_tokens'][mine].tolist(), row['decoder_levels'][mine] == 0
    text = clean['targets'][clean['segment_ids'] == segment].tolist()
    _assert_of_text(tokens[: seen.sum()], tokens[seen.sum() :], text)
  return clean['targets']


def _assert_of_text(inputs: list[int], targets: list[int], text: list[int]) -> None:
  """Targets are one after another of the spans that the inputs leave out; what is not asked for may be any tokens."""
  word = lambda tokens: ''.join(chr(0x4E00 + token) for token in tokens)
  holes = [i for i, token in enumerate(inputs) if token in SPECIAL.sentinels]
  names = [SPECIAL.sentinels[i % len(SPECIAL.sentinels)] for i in range(len(holes))]
  assert [inputs[i] for i in holes] == names
  assert (np.diff(holes) > 1).all(), 'two spans touch'
  assert not holes or inputs.pop() == SPECIAL.end_of_span
  whole = targets[-1:] == [SPECIAL.end_of_span]  # not cut by the budget
  marks = [i for i, token in enumerate(targets) if token in SPECIAL.sentinels]
  asked = [word(targets[a + 1 : b]) for a, b in itertools.pairwise([*marks, len(targets) - whole])]
  if asked and not whole:
    asked[-1] += '.*' if asked[-1] else '.+'

  def fits(first: int) -> bool:
    filled = iter(['.+'] * first + asked + ['.+'] * (len(holes) - first - len(asked)))
    pattern = ''.join(next(filled) if token in SPECIAL.sentinels else word([token]) for token in inputs)
    same = names[first : first + len(asked)] == [targets[i] for i in marks]
    return same and re.fullmatch(pattern, word(text)) is not None

  last = len(holes) - len(asked)
  assert any(fits(first) for first in ([last] if whole else range(last + 1)))


def middle_put_back(clean: dict, row: dict) -> np.ndarray:
  """Prefix, middle and suffix in their order, and cut tokens whole again."""
  pre, suf, mid = SPECIAL.spare[3:6]
  result = []
  for segment in range(1, row['decoder_segment_ids'].max(initial=0) + 1):
    tokens = row['decoder_input_tokens'][row['decoder_segment_ids'] == segment].tolist()
    if pre in tokens:
      assert [tokens.count(mark) for mark in (pre, suf, mid, SPECIAL.end_of_span)] == [1] * 4
      end = tokens.index(SPECIAL.end_of_span)
      begin, prefix = tokens[: tokens.index(pre)], tokens[tokens.index(pre) + 1 : tokens.index(suf)]
      suffix, middle = tokens[tokens.index(suf) + 1 : tokens.index(mid)], tokens[tokens.index(mid) + 1 : end]
      tokens = begin + _mended(prefix + middle + suffix) + tokens[end + 1 :]  # SPM has its prefix before the middle
    result += tokens
  return np.pad(np.array(result, np.int32), (0, len(clean['targets']) - len(result)))


def without_specials(clean: dict, row: dict) -> np.ndarray:
  """What is left without the special tokens, which stand side by side."""
  special = np.isin(row['decoder_input_tokens'], SPECIAL.spare[6:])
  np.testing.assert_array_equal(special, row['decoder_groups'] == 1)
  tokens = row['decoder_input_tokens'][~special & (row['decoder_segment_ids'] > 0)]
  return np.pad(tokens, (0, len(clean['targets']) - len(tokens)))


def expanded(clean: dict, row: dict) -> np.ndarray:
  """The text, with the targets of the typed masks in place of the [MASK] whose position they have."""
  segments, typed, place = row['decoder_segment_ids'], row['decoder_groups'] > 0, row['decoder_positions']
  np.testing.assert_array_equal(typed, row['decoder_loss_weights'] > 0)
  result, asked = [], 0
  for i in np.flatnonzero((segments > 0) & ~typed):
    masked = row['decoder_ngrams'][i] > 0
    assert masked == (row['decoder_input_tokens'][i] == SPECIAL.mask)
    behind = np.flatnonzero(typed & (segments == segments[i]) & (place == place[i])) if masked else []
    tokens = row['decoder_target_tokens'][behind] if masked else row['decoder_input_tokens'][[i]]
    if masked:
      assert row['decoder_input_tokens'][behind].tolist() == list(SPECIAL.sentinels[: len(behind)])
      assert (len(behind) > 1) == (row['decoder_ngrams'][i] > 1)
    result += tokens.tolist()
    asked += len(behind)
  assert asked == typed.sum()
  return np.pad(np.array(result, np.int32), (0, len(clean['targets']) - len(result)))


def begins(restore: Callable[[dict, dict], np.ndarray], begin: int) -> Callable[[dict, dict], np.ndarray]:
  """As `restore`, with `bos` where segments begin with another token."""

  def restored(clean: dict, row: dict) -> np.ndarray:
    tokens = restore(clean, row)
    assert ((tokens == begin) == (clean['targets'] == SPECIAL.bos)).all()
    return np.where(tokens == begin, SPECIAL.bos, tokens)

  return restored


def copied(joined: bool) -> Callable[[dict, dict], np.ndarray]:
  """The original, after the copies behind it were held against it; `joined` says how their segments are numbered."""

  def restore(clean: dict, row: dict) -> np.ndarray:
    length = len(clean['targets'])
    original, segments = row['decoder_input_tokens'][:length], row['decoder_segment_ids'][:length]
    copy, behind = row['decoder_input_tokens'][length:].copy(), row['decoder_segment_ids'][length:]
    scored = np.flatnonzero(row['decoder_loss_weights'][length:])
    assert (copy[scored + 1] == SPECIAL.mask).all()
    copy[scored + 1] = row['decoder_target_tokens'][length:][scored]
    np.testing.assert_array_equal(copy[behind > 0], original[behind > 0])
    np.testing.assert_array_equal(behind[behind > 0], (segments + (0 if joined else segments.max()))[behind > 0])
    for segment in range(1, segments.max() + 1):
      answer = (segments == segment) & (clean['answer_ids'] > 0) & SPECIAL.is_text(clean['targets'])
      masked = (row['decoder_input_tokens'][length:] == SPECIAL.mask) & (segments == segment)
      long = answer.sum() > 8
      assert masked.sum() == (max(1, int(0.1 * answer.sum())) if long else 0)
      assert not masked[~answer].any()
      assert (behind[segments == segment] > 0).all() == long
    answers = (clean['answer_ids'] > 0) & (segments > 0)
    np.testing.assert_array_equal(np.flatnonzero(row['decoder_loss_weights'][:length]) + 1, np.flatnonzero(answers))
    return original

  return restore


def answers_scored(clean: dict, row: dict) -> np.ndarray:
  """The text as it is, after it was seen that what is scored are the answers, each token from the one before it."""
  answers = (clean['answer_ids'] > 0) & (clean['segment_ids'] > 0)
  np.testing.assert_array_equal(np.flatnonzero(row['decoder_loss_weights']) + 1, np.flatnonzero(answers))
  return shifted(clean, row)
