"""Every objective in one table: what the property tests know of it. A new objective is a new row."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import expected_counts
import numpy as np
import tensorflow as tf
from restored import (
  SPECIAL,
  answers_scored,
  begins,
  copied,
  expanded,
  in_place,
  middle_put_back,
  rotated,
  shifted,
  spans_behind,
  spans_within_budgets,
  where_drawn,
  without_specials,
)
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


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of an objective.

  Attributes:
    make: builds it.
    restore: (clean row, features row) -> the tokens that inputs and targets together give back.
    share: share of a full row's text that is corrupted, where the paper gives one.
    exact: the exact number of corrupted positions for a row of n real tokens, where it is exact.
    expected: how many positions of rows are corrupted on the average, where neither of the two above says it.
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
  expected: Callable[[dict], np.ndarray | float] | None = None
  flat: bool = True
  random: bool = True
  draws: bool = True
  copies: bool = False
  hides: bool = True
  sentinels: bool = False
  begin: int = SPECIAL.bos
  streams: bool = False


def _budget(rate: float) -> Callable[[int], int]:
  return lambda n: max(1, round(n * rate))


def _of_answer(n: int) -> int:
  """A tenth of the answer, which is all behind the first third, without its end."""
  return max(1, int(0.1 * (n - n // 3 - 1)))


def _t5_moved(rate: float, mean_length: float) -> Callable[[int], int]:
  """What is not where it was: a sentinel a span in the inputs, and the targets."""

  def count(n: int) -> int:
    noise = round(n * rate)
    spans = round(noise / mean_length)
    return spans + noise + spans + 1

  return count


TABLE = {
  'next_token': Row(next_token.NextToken, shifted, share=0.0, exact=lambda n: 0, draws=False),
  'causal_masked': Row(
    lambda: causal_masked.CausalMasked(spans_per_row=16),
    rotated,
    expected=expected_counts.causal_masked,
    flat=False,
  ),
  'meap': Row(meap.MEAP, shifted, share=0.15, exact=lambda n: max(1, int(n * 0.15)), flat=True),
  'mlm': Row(masked_lm.MaskedLM, in_place, share=0.15, exact=_budget(0.15), hides=False),
  'mlm_mask_only': Row(
    lambda: masked_lm.MaskedLM(rate=0.4, mask_prob=1.0, random_prob=0.0),
    in_place,
    share=0.4,
    exact=_budget(0.4),
  ),
  'mlm_bernoulli': Row(
    lambda: masked_lm.MaskedLM(rate=0.3, mask_prob=1.0, random_prob=0.0, selection='bernoulli'),
    in_place,
    share=0.3,
  ),
  'mntp': Row(
    lambda: masked_lm.MaskedLM(shifted=True, rate=0.2, mask_prob=1.0, random_prob=0.0),
    shifted,
    share=0.2,
    exact=_budget(0.2),
  ),
  'whole_word': Row(lambda: masked_lm.MaskedLM(unit='word'), in_place, share=0.15, hides=False),
  'pmi_masking': Row(pmi_masking.PMIMasking, in_place, share=0.15, hides=False),
  'salient_span': Row(
    salient_span.SalientSpan,
    in_place,
    expected=expected_counts.one_salient_span(),
    flat=False,
    random=False,
  ),
  'random_span': Row(
    random_span.RandomSpan, in_place, share=0.15, exact=lambda n: math.ceil(n * 0.15), flat=False, hides=False
  ),
  'salient_text_to_text': Row(
    salient_text_to_text.SalientTextToText,
    rotated,
    expected=expected_counts.one_salient_span(more=3),  # two sentinels and an end
    flat=False,
    random=False,
  ),
  'meap_fine_tuning': Row(
    lambda: meap_fine_tuning.MEAPFineTuning(min_answer=8),
    copied(joined=True),
    exact=_of_answer,
    flat=False,
    random=False,
    copies=True,
  ),
  'meap_fine_tuning_separate': Row(
    lambda: meap_fine_tuning.MEAPFineTuning(min_answer=8, form='separate'),
    copied(joined=False),
    exact=_of_answer,
    flat=False,
    random=False,
    copies=True,
  ),
  'bottleneck': Row(lambda: bottleneck.Bottleneck(rate=0.9), without_specials, expected=lambda rows: 0.9, flat=False),
  'bottleneck_of_three': Row(
    lambda: bottleneck.Bottleneck(rate=1.0, specials=3, room=12),
    without_specials,
    exact=lambda n: 3,
    flat=False,
  ),
  'forgetful_causal': Row(forgetful_causal.ForgetfulCausal, shifted, share=0.075),
  'forgetful_causal_fixed': Row(
    lambda: forgetful_causal.ForgetfulCausal(fixed_rate=0.3, max_rate=0.15),
    shifted,
    share=0.3,
    exact=lambda n: round(0.3 * n),
  ),
  'fill_in_the_middle': Row(
    fill_in_the_middle.FillInTheMiddle,
    middle_put_back,
    expected=expected_counts.fill_in_the_middle(0.5, characters=3),
    flat=False,
  ),
  'fill_in_the_middle_tokens': Row(
    lambda: fill_in_the_middle.FillInTheMiddle(rate=1.0, split='token', room=40),
    middle_put_back,
    expected=expected_counts.fill_in_the_middle(1.0, characters=1),
    flat=False,
  ),
  'answers_only': Row(answers_only.AnswersOnly, answers_scored, share=0.0, exact=lambda n: 0, flat=False, draws=False),
  'answers_only_causal': Row(
    lambda: answers_only.AnswersOnly(attention=CAUSAL),
    answers_scored,
    share=0.0,
    exact=lambda n: 0,
    flat=False,
    draws=False,
  ),
  'prefix_lm': Row(prefix_lm.PrefixLM, shifted, share=0.0, exact=lambda n: 0, flat=False),
  'prefix_lm_mode': Row(
    lambda: prefix_lm.PrefixLM(mode=1),
    begins(shifted, 23),
    share=0.0,
    exact=lambda n: 0,
    flat=False,
    begin=23,
  ),
  'prefix_lm_causal': Row(
    lambda: prefix_lm.PrefixLM(attention=CAUSAL), shifted, share=0.0, exact=lambda n: 0, flat=False
  ),
  'span_corruption': Row(
    span_corruption.SpanCorruption, spans_behind, exact=_t5_moved(0.15, 3.0), flat=False, sentinels=True
  ),
  'span_corruption_causal': Row(
    lambda: span_corruption.SpanCorruption(attention=CAUSAL),
    spans_behind,
    spans_within_budgets,
    exact=_t5_moved(0.15, 3.0),
    flat=False,
    sentinels=True,
  ),
  'span_corruption_extreme': Row(
    lambda: span_corruption.SpanCorruption(rate=0.5, mean_length=2.0, mode=2),
    begins(spans_behind, 24),
    exact=_t5_moved(0.5, 2.0),
    flat=False,
    sentinels=True,
    begin=24,
  ),
  'budgeted_spans': Row(budgeted_spans.BudgetedSpans, spans_within_budgets, flat=False, sentinels=True),
  'masked_diffusion': Row(masked_diffusion.MaskedDiffusion, in_place, share=0.495),
  'masked_diffusion_blocks': Row(
    lambda: masked_diffusion.MaskedDiffusion(schedule='cosine', attention=AttentionSpec(ordered=True, block=4)),
    in_place,
    share=0.632,
  ),
  'electra': Row(electra.Electra, where_drawn, share=0.15, exact=_budget(0.15), hides=False),
  'ernie_gram': Row(
    lambda: ernie_gram.ERNIEGram(classes=64), expanded, expected=expected_counts.boundaries(0.15), streams=True
  ),
  'guided_masking': Row(guided_masking.GuidedMasking, in_place, share=0.15, exact=_budget(0.15), hides=False),
  'dup_mae': Row(dup_mae.DupMAE, in_place, share=0.3, hides=False),
  'dup_mae_last': Row(
    lambda: dup_mae.DupMAE(attention=CAUSAL, bottleneck='last', unit='token'),
    in_place,
    share=0.3,
    exact=_budget(0.3),
    hides=False,
  ),
  'bpdec': Row(bpdec.BPDec, in_place, share=0.15, exact=_budget(0.15), hides=False),
  'bpdec_shifted': Row(
    lambda: bpdec.BPDec(shifted=True, mask_prob=1.0, random_prob=0.0, rate=0.2, layers=1),
    shifted,
    share=0.2,
    exact=_budget(0.2),
  ),
  'noise_strategies': Row(
    noise_strategies.NoiseStrategies, in_place, expected=expected_counts.noise_strategies, flat=False
  ),
  'token_replacement': Row(token_replacement.TokenReplacement, in_place, share=0.491, hides=False),
  'salient_span_budget': Row(
    lambda: salient_span.SalientSpan(form='budget'),
    in_place,
    expected=expected_counts.salient_budget(0.15),
    flat=False,
  ),
}


def corrupt(
  objective: base.Objective, rows: dict[str, np.ndarray], seed: int = 0, epoch: int = 0, first: int = 0
) -> dict:
  """Features of rows numbered from `first`, NumPy in and out; eager, which for a few calls costs less than a graph."""
  features = preprocessor.corrupt_block(objective, SPECIAL, seed)(_known(rows, epoch, first))
  return {name: value.numpy() for name, value in features.items()}


def corruption(objective: base.Objective, seed: int = 0) -> Callable[..., dict]:
  """`corrupt` of one objective and seed, as a graph."""
  block = tf.function(preprocessor.corrupt_block(objective, SPECIAL, seed), autograph=False)

  def made(rows: dict[str, np.ndarray], epoch: int = 0, first: int = 0) -> dict:
    return {name: value.numpy() for name, value in block(_known(rows, epoch, first)).items()}

  return made


def _known(rows: dict[str, np.ndarray], epoch: int, first: int) -> dict:
  count = len(rows['targets'])
  known = {'example_id': np.arange(first, first + count), 'epoch': np.full(count, epoch)}
  return {name: tf.constant(value) for name, value in (rows | known).items()}


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
