"""What mixtures and stages of objectives share: parts, each of which reads some of the rows of a batch.

Of a part its loss is the mean over what it scores, in the whole batch; the total is their weighted sum.

A part's attention holds for its own rows. If all parts see alike the rule is theirs, with its fast kernel. If some rows
are causal and others bidirectional, levels say which: positions in the one, nothing but zeros in the other.
"""

import abc
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from .. import UserError
from . import base
from .attention import CAUSAL, AttentionSpec
from .loss import LossTerm

PARTS = 'decoder_parts'
_LEVELS = 'decoder_levels'
_NAME = re.compile(r'[\w.-]+\Z')
_ON_DEVICE = ('on_device', 'measure', 'to_head')  # methods that read a batch without knowing whose rows it holds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts(base.Objective):
  """Several objectives, one of which reads each row.

  Attributes:
    parts: the objectives by name, in whatever order: they are kept by name, as gin writes a dictionary down; one that
      is alone corrupts as it does by itself, bit for bit.
    answers_as: whose scorer answers the judge's questions and fills gaps; None takes what the class says. It changes
      nothing of the training.
  """

  parts: Mapping[str, base.Objective]
  answers_as: str | None = dataclasses.field(default=None, repr=False)
  attention: AttentionSpec = dataclasses.field(default=CAUSAL, init=False, repr=False)

  def __post_init__(self) -> None:
    kind = type(self).__name__
    _check_parts(kind, self.parts)
    if self.answers_as is not None and self.answers_as not in self.parts:
      raise UserError(f'{kind}.answers_as is {self.answers_as!r}; choose one of {", ".join(self.parts)}.')
    if self.static_copies < 0:
      raise UserError(f'{kind}.static_copies is {self.static_copies}; give 0 or more.')
    object.__setattr__(self, 'parts', dict(sorted(self.parts.items())))
    rule = _joined(kind, self.parts)  # whether targets leak, each part has checked for itself
    object.__setattr__(self, 'attention', rule)

  @abc.abstractmethod
  def part_of(self, rows: base.Features, seeds: tf.Tensor, special: base.SpecialTokens) -> tf.Tensor:
    """Which part reads each row, int32 [batch], by its place among `parts`; arguments as for `corrupt`."""

  @property
  @abc.abstractmethod
  def row_shares(self) -> dict[str, float]:
    """By name, which share of the rows of a run each part is meant to read; they add up to 1."""

  @property
  @abc.abstractmethod
  def factors(self) -> dict[str, float]:
    """By name, what each part's mean loss is multiplied by in the total."""

  def balance(self, batch: Any) -> dict[str, Any]:
    """By name, what a training batch multiplies each part's factor by, float32 scalars; see `LossTerm`."""
    del batch
    return dict.fromkeys(self.parts, 1.0)

  @property
  @abc.abstractmethod
  def answering(self) -> base.Objective:
    """The part whose scorer, and whose vectors, are the model's."""

  @property
  def home(self) -> str:  # pyrefly: ignore  # a property where others have a constant
    return self.answering.home

  @property
  def shift(self) -> int:
    return self.answering.shift

  @property
  def units(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(unit for part in self.parts.values() for unit in part.units))

  @property
  def more_features(self) -> tuple[str, ...]:
    theirs = [name for part in self.parts.values() for name in part.more_features]
    return tuple(dict.fromkeys([PARTS, *([_LEVELS] if self.attention.levels else []), *theirs]))

  @property
  def by_part(self) -> Mapping[str, base.Objective]:
    return self.parts

  def reader(self, row: base.Features) -> base.Objective:
    part = list(self.parts.values())[int(row[PARTS][0])]
    return dataclasses.replace(part, static_copies=self.static_copies)

  def model_length(self, text_length: int) -> int:
    return max(part.model_length(text_length) for part in self.parts.values())

  def max_supervised(self, text_length: int) -> int:
    return max(part.max_supervised(text_length) for part in self.parts.values())

  def readers(self, counts: Mapping[str, float] | None = None) -> Sequence[tuple[float, base.Objective]]:
    rows = self.row_shares if counts is None else {name: counts[f'{name}/rows'] for name in self.parts}
    every = sum(rows.values()) or 1.0  # a batch may be of padding alone
    return [(rows[name] / every, part) for name, part in self.parts.items()]

  def check(self, text_length: int) -> None:
    for part in self.parts.values():
      part.check(text_length)

  def check_vocabulary(self, special: base.SpecialTokens) -> None:
    for name, part in self.parts.items():
      try:
        part.check_vocabulary(special)
      except UserError as error:
        raise UserError(f'{type(self).__name__}.parts: {name}: {error}') from error

  def corrupt(self, rows, seeds, special):
    number = self.part_of(rows, seeds, special)
    length = self.model_length(rows['targets'].shape[1])
    places, made = [], []
    for k, part in enumerate(self.parts.values()):
      mine = tf.where(number == k)[:, 0]
      features = part.corrupt(_taken(rows, mine), tf.gather(seeds, mine), special)
      places.append(tf.cast(mine, tf.int32))
      made.append(self._widened(features, part, k, length))
    batch = rows['targets'].shape[0]
    return {
      name: tf.ensure_shape(tf.dynamic_stitch(places, [features[name] for features in made]), [batch, length])
      for name in made[0]
    }

  def loss(self, cross_entropy: Any, weights: Any, batch: Any = None) -> dict[str, LossTerm]:
    """The parts' terms, each named 'part/term', from the rows that it read."""
    terms, balance = {}, self.balance(batch)
    for number, (name, part) in enumerate(self.parts.items()):
      mine = batch[PARTS][:, :1] == number
      alone = {key: value * (mine if value.ndim == 2 else mine[:, 0]) for key, value in batch.items()}
      for term, (top, bottom, coefficient, _) in part.loss(cross_entropy, weights * mine, alone).items():
        terms[f'{name}/{term}'] = LossTerm(top, bottom, coefficient * self.factors[name], balance[name])
    return terms

  def counts(self, batch: Any) -> dict[str, Any]:
    """'part/rows', 'part/tokens' of the corpus and 'part/scored' positions."""
    found = {}
    for number, name in enumerate(self.parts):
      mine = batch[PARTS][:, 0] == number
      found[f'{name}/rows'] = (mine & (batch['decoder_segment_ids'][:, 0] > 0)).sum()
      found[f'{name}/tokens'] = (batch['text_tokens'] * mine).sum()
      found[f'{name}/scored'] = ((batch['decoder_loss_weights'] != 0) & mine[:, None]).sum()
    return found

  def scorer(self, special):
    scorer: Any = self.answering.scorer(special)
    return dataclasses.replace(scorer, attention=scorer.attention or self.answering.attention)

  def embedding(self, special):
    rule = self.answering.embedding(special)
    return dataclasses.replace(rule, attention=rule.attention or self.answering.attention)

  def _able(self, rows: base.Features, special: base.SpecialTokens) -> tf.Tensor:
    """Whether each part finds an example in each row, bool [batch, parts]."""
    every = tf.ones(tf.shape(rows['targets'])[:1], tf.bool)
    kept = [part.keep(rows, special) for part in self.parts.values()]
    return tf.stack([every if able is None else able for able in kept], axis=1)

  def _widened(self, features: base.Features, part: base.Objective, number: int, length: int) -> base.Features:
    """A part's features at the mixture's length, with what tells the parts apart."""
    known = {name: features[name] for name in (*base.MODEL_FEATURES, 'corrupted', *part.more_features)}
    wide = {name: tf.pad(value, [[0, 0], [0, length - value.shape[1]]]) for name, value in known.items()}
    segments = wide['decoder_segment_ids']
    if self.attention.levels and not part.attention.levels:
      block = part.attention.block
      levels = (
        wide['decoder_positions'] // block if block > 1 else tf.broadcast_to(tf.range(length), tf.shape(segments))
      )
      wide[_LEVELS] = levels if part.attention.ordered else tf.zeros_like(segments)
    absent = {name: tf.zeros_like(segments) for name in self.more_features if name not in wide}
    return absent | wide | {PARTS: tf.fill(tf.shape(segments), number)}


def _taken(rows: base.Features, places: tf.Tensor) -> base.Features:
  return {name: tf.gather(value, places) for name, value in rows.items()}


def _joined(kind: str, parts: Mapping[str, base.Objective]) -> AttentionSpec:
  """One rule for the rows of all parts; UserError if there is none."""
  rules = {name: part.attention for name, part in parts.items()}
  first = next(iter(rules.values()))
  if all(rule == first for rule in rules.values()):
    return first
  for name, rule in rules.items():
    if rule.table is not None or rule.ordered not in (True, False):
      raise UserError(
        f'{kind}.parts: {name} has the attention rule {rule}, which differs from the others and cannot be mixed with '
        'them: rows of one batch may be causal, bidirectional or have levels, the same in all layers.'
      )
  return AttentionSpec(ordered=True, levels=True)


def _check_parts(kind: str, parts: Any) -> None:
  if not isinstance(parts, Mapping) or not parts:
    raise UserError(f"{kind}.parts is {parts!r}; give {{'name': objective, ...}}, one or more.")
  for name, part in parts.items():
    if not isinstance(name, str) or not _NAME.match(name) or name == 'corpus':
      raise UserError(f"{kind}.parts names a part {name!r}; a name is of letters, digits, '_', '.' and '-'.")
    if not isinstance(part, base.Objective):
      given = part.__name__ if isinstance(part, type) else repr(part)
      raise UserError(f'{kind}.parts: {name} is {given}, which is no objective; give one of unmask.objectives.')
    if part.static_copies:
      raise UserError(f'{kind}.parts: {name} has static_copies={part.static_copies}; set {kind}.static_copies.')
    _refuse_device_stage(f'{kind}.parts: {name}', part)
    if PARTS in part.more_features:
      raise UserError(f'{kind}.parts: {name} has parts itself; name those here.')


def _refuse_device_stage(named: str, part: base.Objective) -> None:
  """Raises UserError if a part does more on the device than a loss: it would do it to the rows of all parts."""
  has = [f'{name} of its own' for name in _ON_DEVICE if getattr(type(part), name) is not getattr(base.Objective, name)]
  has += ['networks beside the decoder'] * bool(part.beside) + ['measures'] * bool(part.measures)
  has += ['no loss on tokens'] * (not part.predicts_tokens)
  if has:
    raise UserError(
      f'{named}, {type(part).__name__}, has {" and ".join(has)}, for the rows of all parts: train it by itself.'
    )
