"""Every objective in one table: what the property tests know of it. A new objective is a new row."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from unmask.objectives import (
  answers_only,
  base,
  bottleneck,
  bpdec,
  budgeted_spans,
  causal_masked,
  dup_mae,
  electra,
  ernie_gram,
  fill_in_the_middle,
  forgetful_causal,
  guided_masking,
  masked_diffusion,
  masked_lm,
  meap,
  meap_fine_tuning,
  next_token,
  noise_strategies,
  pmi_masking,
  prefix_lm,
  preprocessor,
  random_span,
  salient_span,
  salient_text_to_text,
  span_corruption,
  token_replacement,
)
from unmask.objectives.attention import CAUSAL, AttentionSpec

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


def _fragments() -> base.Fragments:
  """Every token has three characters; its parts have ids that tell whose they are: 1000.. left, 2000.. right."""
  characters, first, cuts = (
    np.zeros(500, np.int32),
    np.zeros(500, np.int32),
    np.arange(2 * 468, dtype=np.int32)[:, None],
  )
  characters[32:], first[32:] = 3, 2 * np.arange(468)
  return base.Fragments(characters, first, 1000 + cuts, 2000 + cuts)


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


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of an objective.

  Attributes:
    make: builds it.
    restore: (clean row, features row) -> the tokens that inputs and targets together give back.
    share: share of a full row's text that is corrupted, where the paper gives one.
    exact: the exact number of corrupted positions for a row of n real tokens, where it is exact.
    flat: whether each text position is equally likely to be corrupted.
    random: whether copies of a row are corrupted in many ways (False where a row has few things to corrupt).
    draws: whether anything is left to chance.
    copies: whether a copy of the row stands behind it.
    hides: whether every corrupted token is hidden from the model (no random or kept tokens).
    sentinels: whether sentinels are predicted too.
    begin: what a segment begins with in place of `bos`.
    streams: whether positions repeat behind the row, where its hidden tokens are asked for one by one.
  """

  make: Callable[[], base.Objective]
  restore: Callable[[dict, dict], np.ndarray]
  share: float | None = None
  exact: Callable[[int], int] | None = None
  flat: bool = True
  random: bool = True
  draws: bool = True
  copies: bool = False
  hides: bool = True
  sentinels: bool = False
  begin: int = SPECIAL.bos
  streams: bool = False


def _in_place(clean: dict, row: dict) -> np.ndarray:
  """Inputs where nothing was done, targets where they are scored."""
  return np.where(row['decoder_loss_weights'] > 0, row['decoder_target_tokens'], row['decoder_input_tokens'])


def _where_drawn(clean: dict, row: dict) -> np.ndarray:
  """Inputs where the generator draws nothing, targets where it does."""
  assert (row['decoder_loss_weights'] == (row['decoder_segment_ids'] > 0)).all()
  return np.where(row['decoder_highest'] > 0, row['decoder_target_tokens'], row['decoder_input_tokens'])


def _shifted(clean: dict, row: dict) -> np.ndarray:
  """The first token of each segment from the input, every other from the target one position before."""
  result = row['decoder_input_tokens'].copy()
  scored = np.flatnonzero(row['decoder_loss_weights'])
  result[scored + 1] = row['decoder_target_tokens'][scored]
  return result


def _rotated(clean: dict, row: dict) -> np.ndarray:
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


def _spans_behind(clean: dict, row: dict) -> np.ndarray:
  """Puts span corruption's targets back into its inputs; they are apart by what sees what."""
  result = []
  for segment in range(1, row['decoder_segment_ids'].max(initial=0) + 1):
    mine = row['decoder_segment_ids'] == segment
    tokens, seen = row['decoder_input_tokens'][mine].tolist(), row['decoder_levels'][mine] == 0
    inputs, targets = tokens[: seen.sum()], tokens[seen.sum() :]
    assert seen[: len(inputs)].all()
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


def _spans_within_budgets(clean: dict, row: dict) -> np.ndarray:
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


def _middle_put_back(clean: dict, row: dict) -> np.ndarray:
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


def _without_specials(clean: dict, row: dict) -> np.ndarray:
  """What is left without the special tokens, which stand side by side."""
  special = np.isin(row['decoder_input_tokens'], SPECIAL.spare[6:])
  np.testing.assert_array_equal(special, row['decoder_groups'] == 1)
  tokens = row['decoder_input_tokens'][~special & (row['decoder_segment_ids'] > 0)]
  return np.pad(tokens, (0, len(clean['targets']) - len(tokens)))


def _expanded(clean: dict, row: dict) -> np.ndarray:
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


def _begins(restore: Callable[[dict, dict], np.ndarray], begin: int) -> Callable[[dict, dict], np.ndarray]:
  """As `restore`, with `bos` where segments begin with another token."""

  def restored(clean: dict, row: dict) -> np.ndarray:
    tokens = restore(clean, row)
    assert ((tokens == begin) == (clean['targets'] == SPECIAL.bos)).all()
    return np.where(tokens == begin, SPECIAL.bos, tokens)

  return restored


def _copied(joined: bool) -> Callable[[dict, dict], np.ndarray]:
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


def _answers_scored(clean: dict, row: dict) -> np.ndarray:
  """The text as it is, after it was seen that what is scored are the answers, each token from the one before it."""
  answers = (clean['answer_ids'] > 0) & (clean['segment_ids'] > 0)
  np.testing.assert_array_equal(np.flatnonzero(row['decoder_loss_weights']) + 1, np.flatnonzero(answers))
  return _shifted(clean, row)


def _budget(rate: float) -> Callable[[int], int]:
  return lambda n: max(1, round(n * rate))


def _t5_moved(rate: float, mean_length: float) -> Callable[[int], int]:
  """What is not where it was: a sentinel a span in the inputs, and the targets."""

  def count(n: int) -> int:
    noise = round(n * rate)
    spans = round(noise / mean_length)
    return spans + noise + spans + 1

  return count


TABLE = {
  'next_token': Row(next_token.NextToken, _shifted, share=0.0, exact=lambda n: 0, draws=False),
  'causal_masked': Row(lambda: causal_masked.CausalMasked(spans_per_row=16), _rotated, flat=False),
  'meap': Row(meap.MEAP, _shifted, share=0.15, exact=lambda n: max(1, int(n * 0.15)), flat=True),
  'mlm': Row(masked_lm.MaskedLM, _in_place, share=0.15, exact=_budget(0.15), hides=False),
  'mlm_mask_only': Row(
    lambda: masked_lm.MaskedLM(rate=0.4, mask_prob=1.0, random_prob=0.0), _in_place, share=0.4, exact=_budget(0.4)
  ),
  'mlm_bernoulli': Row(
    lambda: masked_lm.MaskedLM(rate=0.3, mask_prob=1.0, random_prob=0.0, selection='bernoulli'), _in_place, share=0.3
  ),
  'mntp': Row(
    lambda: masked_lm.MaskedLM(shifted=True, rate=0.2, mask_prob=1.0, random_prob=0.0),
    _shifted,
    share=0.2,
    exact=_budget(0.2),
  ),
  'whole_word': Row(lambda: masked_lm.MaskedLM(unit='word'), _in_place, share=0.15, hides=False),
  'pmi_masking': Row(pmi_masking.PMIMasking, _in_place, share=0.15, hides=False),
  'salient_span': Row(salient_span.SalientSpan, _in_place, flat=False, random=False),
  'random_span': Row(
    random_span.RandomSpan, _in_place, share=0.15, exact=lambda n: math.ceil(n * 0.15), flat=False, hides=False
  ),
  'salient_text_to_text': Row(salient_text_to_text.SalientTextToText, _rotated, flat=False, random=False),
  'meap_fine_tuning': Row(
    lambda: meap_fine_tuning.MEAPFineTuning(min_answer=8), _copied(joined=True), flat=False, random=False, copies=True
  ),
  'meap_fine_tuning_separate': Row(
    lambda: meap_fine_tuning.MEAPFineTuning(min_answer=8, form='separate'),
    _copied(joined=False),
    flat=False,
    random=False,
    copies=True,
  ),
  'bottleneck': Row(lambda: bottleneck.Bottleneck(rate=0.9), _without_specials, flat=False),
  'bottleneck_of_three': Row(
    lambda: bottleneck.Bottleneck(rate=1.0, specials=3, room=12), _without_specials, exact=lambda n: 3, flat=False
  ),
  'forgetful_causal': Row(forgetful_causal.ForgetfulCausal, _shifted, share=0.075),
  'forgetful_causal_fixed': Row(
    lambda: forgetful_causal.ForgetfulCausal(fixed_rate=0.3, max_rate=0.15),
    _shifted,
    share=0.3,
    exact=lambda n: round(0.3 * n),
  ),
  'fill_in_the_middle': Row(fill_in_the_middle.FillInTheMiddle, _middle_put_back, flat=False),
  'fill_in_the_middle_tokens': Row(
    lambda: fill_in_the_middle.FillInTheMiddle(rate=1.0, split='token', room=40), _middle_put_back, flat=False
  ),
  'answers_only': Row(answers_only.AnswersOnly, _answers_scored, share=0.0, exact=lambda n: 0, flat=False, draws=False),
  'answers_only_causal': Row(
    lambda: answers_only.AnswersOnly(attention=CAUSAL),
    _answers_scored,
    share=0.0,
    exact=lambda n: 0,
    flat=False,
    draws=False,
  ),
  'prefix_lm': Row(prefix_lm.PrefixLM, _shifted, share=0.0, exact=lambda n: 0, flat=False),
  'prefix_lm_mode': Row(
    lambda: prefix_lm.PrefixLM(mode=1), _begins(_shifted, 23), share=0.0, exact=lambda n: 0, flat=False, begin=23
  ),
  'prefix_lm_causal': Row(
    lambda: prefix_lm.PrefixLM(attention=CAUSAL), _shifted, share=0.0, exact=lambda n: 0, flat=False
  ),
  'span_corruption': Row(
    span_corruption.SpanCorruption, _spans_behind, exact=_t5_moved(0.15, 3.0), flat=False, sentinels=True
  ),
  'span_corruption_extreme': Row(
    lambda: span_corruption.SpanCorruption(rate=0.5, mean_length=2.0, mode=2),
    _begins(_spans_behind, 24),
    exact=_t5_moved(0.5, 2.0),
    flat=False,
    sentinels=True,
    begin=24,
  ),
  'budgeted_spans': Row(budgeted_spans.BudgetedSpans, _spans_within_budgets, flat=False, sentinels=True),
  'masked_diffusion': Row(masked_diffusion.MaskedDiffusion, _in_place, share=0.495),
  'masked_diffusion_blocks': Row(
    lambda: masked_diffusion.MaskedDiffusion(schedule='cosine', attention=AttentionSpec(ordered=True, block=4)),
    _in_place,
    share=0.632,
  ),
  'electra': Row(electra.Electra, _where_drawn, share=0.15, exact=_budget(0.15), hides=False),
  'ernie_gram': Row(lambda: ernie_gram.ERNIEGram(classes=64), _expanded, streams=True),
  'guided_masking': Row(guided_masking.GuidedMasking, _in_place, share=0.15, exact=_budget(0.15), hides=False),
  'dup_mae': Row(dup_mae.DupMAE, _in_place, share=0.3, hides=False),
  'dup_mae_last': Row(
    lambda: dup_mae.DupMAE(attention=CAUSAL, bottleneck='last', unit='token'),
    _in_place,
    share=0.3,
    exact=_budget(0.3),
    hides=False,
  ),
  'bpdec': Row(bpdec.BPDec, _in_place, share=0.15, exact=_budget(0.15), hides=False),
  'bpdec_shifted': Row(
    lambda: bpdec.BPDec(shifted=True, mask_prob=1.0, random_prob=0.0, rate=0.2, layers=1),
    _shifted,
    share=0.2,
    exact=_budget(0.2),
  ),
  'noise_strategies': Row(noise_strategies.NoiseStrategies, _in_place, flat=False),
  'token_replacement': Row(token_replacement.TokenReplacement, _in_place, share=0.491, hides=False),
  'salient_span_budget': Row(lambda: salient_span.SalientSpan(form='budget'), _in_place, flat=False),
}


def corrupt(
  objective: base.Objective, rows: dict[str, np.ndarray], seed: int = 0, epoch: int = 0, first: int = 0
) -> dict:
  """Features of rows numbered from `first`, NumPy in and out."""
  count = len(rows['targets'])
  known = {'example_id': np.arange(first, first + count), 'epoch': np.full(count, epoch)}
  features = preprocessor.corrupt_block(objective, SPECIAL, seed)(
    {name: tf.constant(value) for name, value in (rows | known).items()}
  )
  return {name: value.numpy() for name, value in features.items()}


def make_rows(generator: np.random.Generator, count: int, length: int, segments: int = 3, full: bool = False) -> dict:
  """Random rows: 1 to `segments` documents each, of at least one token, with units; then padding unless `full`."""
  names = ('targets', 'segment_ids', 'word_ids', 'collocation_ids', 'collocation_lengths', 'salient_ids', 'answer_ids')
  rows = {name: np.zeros((count, length), np.int32) for name in names}
  for b in range(count):
    pieces = int(generator.integers(1, segments + 1))
    cuts = np.sort(generator.choice(np.arange(3, length), size=pieces - 1, replace=False)) if pieces > 1 else []
    edges = [0, *cuts, length if full else int(generator.integers(max([3, *cuts]), length + 1))]
    for number, (start, end) in enumerate(itertools.pairwise(edges), 1):
      if end - start < 3:
        continue
      rows['targets'][b, start] = SPECIAL.bos
      rows['targets'][b, start + 1 : end - 1] = generator.integers(*SPECIAL.text, end - start - 2)
      rows['targets'][b, end - 1] = SPECIAL.eos
      rows['segment_ids'][b, start:end] = number
      words = 1 + np.cumsum(generator.random(end - start - 2) < 0.6)
      rows['word_ids'][b, start + 1 : end - 1] = words
      rows['collocation_ids'][b, start + 1 : end - 1] = 1 + words // 2
      rows['collocation_lengths'][b, start + 1 : end - 1] = _entries(generator, words)
      rows['answer_ids'][b, start + (end - start) // 3 : end] = 1
      rows['salient_ids'][b, start + 1 : end - 1] = np.where(words % 3 == 0, words, 0)
    # Segments that were too short leave holes: close them up.
    kept = rows['segment_ids'][b] > 0
    for name in names:
      value = rows[name][b][kept]
      rows[name][b] = np.pad(value, (0, length - len(value)))
    rows['segment_ids'][b] = _renumber(rows['segment_ids'][b])
  return rows


def documents(count: int, length: int, seed: int = 0) -> dict:
  """Rows of one document each that fill them."""
  return make_rows(np.random.default_rng(seed), count, length, segments=1, full=True)


def _entries(generator: np.random.Generator, words: np.ndarray) -> np.ndarray:
  """Lengths of entries of 2 to 5 words that begin at random words and may overlap; none lies inside another."""
  lengths, last, most = np.zeros_like(words), 0, int(words[-1])  # they are in order, and none is left out
  begins = np.searchsorted(words, np.arange(most + 2)).tolist()
  for first in range(int(words[0]), most + 1):
    end = first + int(generator.integers(2, 6))
    if generator.random() < 0.3 and last < end <= most + 1:
      lengths[begins[first]] = begins[end] - begins[first]
      last = end
  return lengths


def _renumber(segments: np.ndarray) -> np.ndarray:
  values = {value: i for i, value in enumerate(sorted(set(segments.tolist()) - {0}), 1)} | {0: 0}
  return np.array([values[value] for value in segments.tolist()], np.int32)
