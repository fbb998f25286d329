"""Masked language modelling: BERT's and its relatives, in place or shifted (MNTP), by token or by unit.

Sources
  BERT (google-research/bert, create_pretraining_data.py): 15% of the tokens, count max(1, round(length * 0.15)) with
    the length counting the special tokens, which are never chosen; 80% [MASK], 10% random, 10% kept, drawn per token;
    whole-word masking takes whole words in random order and skips a word that would exceed the count.
  Wettig et al. (2202.08005): [MASK] only, at any rate (`mask_prob=1`, `random_prob=0`).
  Should We Still Pretrain Encoders with MLM? (2507.00994): one decoder stack, full attention, Bernoulli selection.
  LLM2Vec's MNTP (2404.05961): full attention, token i predicted from the output at i - 1 (`shifted=True`); the first
    token of a segment has no such output and is never masked.
"""

import dataclasses
from typing import ClassVar, Literal

import tensorflow as tf

from . import base, checks, features, random, schedules, scorers, scoring, units
from .attention import BIDIRECTIONAL, AttentionSpec

SELECT, _CROSSING, _ACTION, _RANDOM_TOKEN, _OVERLAPS = 0, 1, 2, 3, 4  # random streams; units.select_units takes two


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM(base.Objective):
  """Predict chosen tokens from both sides; loss on the chosen positions only, whatever their replacement.

  Attributes:
    rate: share of a row's tokens that is chosen, or a schedule of it (`schedules.LinearRate`). 0.15 is BERT's.
    mask_prob, random_prob: what a chosen token becomes: [MASK], a uniformly random ordinary token, or itself (the
      rest). 0.8 and 0.1 are BERT's.
    unit: what is chosen together: 'token', 'word' (whole-word masking), 'collocation' or 'salient'.
    overlaps: collocations that overlap in part are told apart at random, anew in every 'epoch' (as PMI-masking, section
      3.2), or once for each 'document', when it is prepared.
    last_unit: how exact selection ends. 'skip' leaves out a unit that would exceed the count and tries the next (BERT);
      'chance' takes it by chance, so that every unit is as likely and the count is met on average.
    draw: whether [MASK] / random / kept is drawn per 'token' (BERT, also for whole words) or once per 'unit'
      (PMI-masking, SpanBERT).
    selection: 'exact' chooses round(rate * length) tokens of a row; 'bernoulli' chooses each unit independently.
    max_overshoot: with 'chance', tokens that a row may exceed its count by. The output head makes room for them; a unit
      that needs more is not taken, so units of more tokens than this are masked less often.
    shifted: False scores the token in place; True is MNTP, which reads it from the output one position before.
  """

  attention: AttentionSpec = BIDIRECTIONAL
  rate: schedules.Rate = 0.15
  mask_prob: float = 0.8
  random_prob: float = 0.1
  unit: Literal['token', 'word', 'collocation', 'salient'] = 'token'
  draw: Literal['token', 'unit'] = 'token'
  overlaps: Literal['epoch', 'document'] = 'epoch'
  selection: Literal['exact', 'bernoulli'] = 'exact'
  last_unit: Literal['skip', 'chance'] = 'skip'
  max_overshoot: int = 16
  shifted: bool = False

  reads_targets: ClassVar[bool] = False
  home: ClassVar[str] = 'masked'

  def __post_init__(self):
    super().__post_init__()
    name = type(self).__name__
    schedules.require(f'{name}.rate', self.rate)
    checks.require_prob(f'{name}.mask_prob', self.mask_prob)
    checks.require_prob(f'{name}.random_prob', self.random_prob, high=1.0 - self.mask_prob + 1e-9)
    checks.require_choice(f'{name}.unit', self.unit, ('token', 'word', 'collocation', 'salient'))
    checks.require_choice(f'{name}.draw', self.draw, ('token', 'unit'))
    checks.require_choice(f'{name}.overlaps', self.overlaps, ('epoch', 'document'))
    checks.require_choice(f'{name}.selection', self.selection, ('exact', 'bernoulli'))
    checks.require_choice(f'{name}.last_unit', self.last_unit, ('skip', 'chance'))
    self._refuse_idle()

  def _refuse_idle(self) -> None:
    if self.unit == 'token':
      checks.refuse_idle(self, ('draw', 'last_unit'), 'a `unit` of more than one token')
    if self.unit != 'collocation':
      checks.refuse_idle(self, ('overlaps',), "unit='collocation'")
    if self.selection == 'bernoulli':
      checks.refuse_idle(self, ('last_unit',), "selection='exact'")
    if self.last_unit != 'chance' or self.selection == 'bernoulli':
      checks.refuse_idle(self, ('max_overshoot',), "last_unit='chance' with selection='exact'")

  @property
  def shift(self) -> int:
    return int(self.shifted)

  @property
  def units(self) -> tuple[str, ...]:
    if self.unit == 'collocation' and self.overlaps == 'epoch':
      return ('word_ids', 'collocation_lengths')
    return () if self.unit == 'token' else (f'{self.unit}_ids',)

  def candidates(self, rows: base.Features, special: base.SpecialTokens) -> tf.Tensor:
    """Tokens that may be chosen: ordinary text, and in the shifted form not the first of a segment."""
    segments = rows['segment_ids']
    able = special.is_text(rows['targets']) & (segments > 0)
    return able & ~features.starts(segments) if self.shifted else able

  def unit_starts(self, rows, seeds, special):
    candidates = self.candidates(rows, special)
    if self.unit == 'token':
      index = tf.range(tf.shape(candidates)[1])[tf.newaxis]
      return tf.where(candidates, index, -1)
    if 'collocation_lengths' in self.units:
      ids = units.break_overlaps(seeds, _OVERLAPS, rows['collocation_lengths'], rows['word_ids'])
    else:
      ids = rows[f'{self.unit}_ids']
    return units.unit_starts(ids, rows['segment_ids'], candidates)

  def choose(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tuple[tf.Tensor, tf.Tensor]:
    """The chosen positions, bool [batch, length], and the places of their units (one draw each, if `draw` says so)."""
    starts = self.unit_starts(rows, seeds, special)
    return self.select(rows, seeds, starts), starts

  def select(self, rows: base.Features, seeds: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """The chosen positions, bool [batch, length], from the units' start positions."""
    if self.selection == 'bernoulli':
      rate = schedules.of_rows(self.rate, rows)
      chance = random.uniform(seeds, SELECT, tf.shape(starts)[1])
      chance = tf.gather(chance, tf.maximum(starts, 0), batch_dims=1)
      return (starts >= 0) & (chance < tf.cast(rate, tf.float32)[:, tf.newaxis])
    budget = schedules.budget(self.rate, rows)
    if self.unit == 'token':
      return units.select_positions(seeds, SELECT, starts >= 0, budget)
    if self.last_unit == 'skip':
      return units.select_fitting_units(seeds, SELECT, starts, budget)
    return units.select_units(seeds, SELECT, starts, budget, self.max_overshoot)

  def replace(
    self, tokens: tf.Tensor, chosen: tf.Tensor, starts: tf.Tensor, seeds: tf.Tensor, special: base.SpecialTokens
  ) -> tf.Tensor:
    """Inputs: `tokens` with the chosen ones masked, randomised or kept; int32 [batch, length]."""
    length = tf.shape(tokens)[1]
    action = random.uniform(seeds, _ACTION, length)
    if self.draw == 'unit':
      action = tf.gather(action, tf.maximum(starts, 0), batch_dims=1)
    other = random.integers(seeds, _RANDOM_TOKEN, length, *special.text)
    inputs = tf.where(chosen & (action < self.mask_prob), special.mask, tokens)
    randomised = (action >= self.mask_prob) & (action < self.mask_prob + self.random_prob)
    return tf.where(chosen & randomised, other, inputs)

  def corrupt(self, rows, seeds, special):
    tokens, segments = rows['targets'], rows['segment_ids']
    chosen, starts = self.choose(rows, seeds, special)
    targets, weights = tokens, chosen
    if self.shifted:
      targets = features.shift_left(tokens, segments)
      weights = features.shift_left(tf.cast(chosen, tf.int32), segments) > 0
    return features.assemble(
      inputs=self.replace(tokens, chosen, starts, seeds, special),
      targets=targets,
      weights=weights,
      segment_ids=segments,
      corrupted=chosen,
      bidirectional=not self.attention.always_ordered,
    )

  def configured(self):
    kept = 1 - self.mask_prob - self.random_prob
    actions = {'masked': self.mask_prob, 'randomised': self.random_prob, 'kept': kept}
    rate = schedules.first(self.rate)
    return {'corrupted': rate, 'supervised': rate, **actions}

  def max_supervised(self, text_length):
    if self.selection == 'bernoulli':
      return text_length
    over = self.max_overshoot if self.unit != 'token' and self.last_unit == 'chance' else 0
    return min(text_length, max(1, round(text_length * schedules.largest(self.rate))) + over)

  def scorer(self, special: base.SpecialTokens) -> scoring.Scorer:
    return scorers.PseudoLikelihood(mask=special.mask, shifted=self.shifted)
