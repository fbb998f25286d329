"""The contract of an objective. No TensorFlow here.

Words used throughout
  row        `text_length` token ids cut from the corpus: one or more segments (pieces of documents), then padding.
  segment    one piece of a document inside a row, numbered from 1; 0 is padding. It starts with `bos`.
  features   what the model is fed, `model_length(text_length)` positions a row, named as in seqio's and t5x's decoder.
  shift      1 if the output at position i is scored against the token of position i + 1, 0 if against that of i.

Features (int32 [batch, model_length] unless said)
  decoder_input_tokens       what the model reads
  decoder_target_tokens      what it is scored against; 0 where there is nothing to predict
  decoder_loss_weights       float32, 0 where a position is not scored
  decoder_segment_ids        1..n, 0 = padding
  decoder_positions          position inside the segment, from 0
  decoder_causal_attention   1 where attention is bidirectional: on whole rows, or on prefixes (t5x's name and meaning)
  corrupted                  1 where the input was masked, replaced, kept on purpose, or moved; not fed to the model,
                             but counted and shown by `inspect`
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .. import UserError
from . import loss, networks, scoring
from . import needs as needs_lib
from .attention import CAUSAL, AttentionSpec
from .embedding import Embedding
from .special_tokens import SpecialTokens

Tensor = Any
Features = dict[str, Tensor]

MODEL_FEATURES = (
  'decoder_input_tokens',
  'decoder_target_tokens',
  'decoder_loss_weights',
  'decoder_segment_ids',
  'decoder_positions',
  'decoder_causal_attention',
)
TRAINED = 2**63 - 1  # as a step of training: one after the last, whenever that is
HOST_FEATURES = ('example_id', 'corpus_tokens')  # of a batch: for the host alone, never put on a device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
  """What is corrupted, what may be seen, what is scored.

  Attributes:
    attention: the attention rule; a shifted objective that reads its own targets refuses any layer that is not ordered,
      and what levels and tables let it see is looked up in rows when a run begins (`launch.leaks`).
    static_copies: 0 corrupts a row anew in every epoch (dynamic masking, RoBERTa, arXiv 1907.11692 section 4.1); n > 0
      makes n corruptions of it and uses them in turn (static masking; BERT's dupe_factor is 10).
  """

  attention: AttentionSpec = CAUSAL
  static_copies: int = 0

  reads_targets: ClassVar[bool] = True
  """Whether the tokens to predict also stand, clean, in the input one position further on."""
  home: ClassVar[str] = 'left_to_right'
  """The held-out test that asks for what the objective trains: 'left_to_right', 'masked', 'infill' or 'salient'."""
  note: ClassVar[str] = ''
  """What one should know who uses an exported model, for its README."""
  by_step: ClassVar[bool] = False
  """Whether `corrupt` reads 'step' for more than a `schedules.LinearRate` among the settings."""
  on_the_device: ClassVar[str] = ''
  """What `on_device` does to the rows of `corrupt`, for `inspect`, which shows these; goes on from 'on the device '."""
  predicts_tokens: ClassVar[bool] = True
  """Whether the decoder's output head scores tokens; where not, `measure` says all that the loss is made of."""

  @property
  def shift(self) -> int:
    """1 if output i is scored against token i + 1, 0 if against token i."""
    return 1

  @property
  def units(self) -> tuple[str, ...]:
    """The unit features of a row that `corrupt` reads, such as 'word_ids'."""
    return ()

  @property
  def needs(self) -> tuple[needs_lib.Need, ...]:
    """What the objective needs of a vocabulary that some vocabularies lack; nothing as a rule."""
    return ()

  @property
  def more_features(self) -> tuple[str, ...]:
    """Features beside MODEL_FEATURES that `corrupt` gives for the device, int32 [batch, model_length] each.

    'decoder_levels' and 'decoder_groups' go to attention (see `attention`), all of them to `loss` and `counts`.
    """
    return ()

  @property
  def beside(self) -> Mapping[str, networks.Network]:
    """What the model has beside its decoder, by name; see `networks`. Nothing as a rule."""
    return {}

  @property
  def head_uses(self) -> float:
    """How often `measure` asks the output head of each position, for counting FLOPs alone; not at all as a rule."""
    return 0.0

  def readers(self, counts: Mapping[str, float] | None = None) -> Sequence[tuple[float, 'Objective']]:
    """Who reads the rows, each with its share of them, for counting FLOPs alone: the objective itself as a rule.

    Args:
      counts: of one update by name, as `counts` gives them; None for what the whole run is meant to read.
    """
    del counts
    return ((1.0, self),)

  @property
  def measures(self) -> tuple[str, ...]:
    """What `on_device` and `measure` add to a batch for `loss`: float32 [batch, n] each, 0 where nothing counts."""
    return ()

  def __post_init__(self) -> None:
    if self.shift and self.reads_targets and not self.attention.always_ordered:
      raise UserError(
        f'{type(self).__name__} predicts the next token and reads it too, so every layer must be causal; '
        f'attention={self.attention} would let a position see its own target.'
      )
    if self.attention.levels != ('decoder_levels' in self.more_features):
      wants = 'gives its tokens levels' if not self.attention.levels else 'gives its tokens no levels'
      raise UserError(f'{type(self).__name__} {wants}; attention={self.attention} has levels={self.attention.levels}.')
    if (self.attention.table is not None) != ('decoder_groups' in self.more_features):
      raise UserError(
        f'{type(self).__name__} gives its tokens {"no " if self.attention.table else ""}groups; '
        f'attention={self.attention}.'
      )
    if self.static_copies < 0:
      raise UserError(f'{type(self).__name__}.static_copies is {self.static_copies}; give 0 or more.')

  @abc.abstractmethod
  def corrupt(self, rows: Features, seeds: Tensor, special: SpecialTokens) -> Features:
    """Rows to features, as a TensorFlow graph function.

    Args:
      rows: int32 [batch, text_length] each: 'targets' (token ids), 'segment_ids' and the features named in `units`;
        and int64 [batch] 'example_id', 'epoch', 'seed' (the run's) and, where the reader knows them, 'step' (batches
        read before) and 'place', float64 [batch], the share of a training batch that stands before the row, below 0 in
        other batches.
      seeds: uint32 [batch, 2] from `random.row_seeds`; all randomness comes from here.
      special: the vocabulary's reserved ids.

    Returns:
      The features of the module docstring.
    """

  def unit_starts(self, rows: Features, seeds: Tensor, special: SpecialTokens) -> Tensor | None:
    """Position of the first token of each token's unit, -1 where the token may not be chosen; int32 [batch, length].

    None if the objective knows no units. Arguments as for `corrupt`.
    """
    del rows, seeds, special

  def keep(self, rows: Features, special: SpecialTokens) -> Tensor | None:
    """Which rows hold an example, bool [batch]; None if every row does. Rows that do not are dropped and counted."""
    del rows, special
    return None

  def reader(self, row: Features) -> 'Objective':
    """Who read a row of features [model_length]: this objective, or the one of a mixture's parts that did."""
    del row
    return self

  def model_length(self, text_length: int) -> int:
    """Positions the model reads for a row of `text_length` tokens."""
    return text_length

  def max_supervised(self, text_length: int) -> int:
    """An upper bound on the positions of one row whose loss weight is not 0; the output head computes no more."""
    return self.model_length(text_length)

  def configured(self) -> dict[str, float]:
    """What the realised figures of the same names should come to, as far as the settings say; see `launch.realised`."""
    return {}

  def check(self, text_length: int) -> None:
    """Raises UserError if rows of `text_length` tokens are too short for this objective."""
    if text_length < 4:
      raise UserError(f"TASK_FEATURE_LENGTHS['targets'] is {text_length}; rows need at least 4 tokens.")

  @property
  def by_part(self) -> 'Mapping[str, Objective]':
    """Who reads the rows, by the name of the part that each is; as a rule this objective alone, without a name."""
    return {'': self}

  def check_vocabulary(self, special: SpecialTokens) -> None:
    """Raises UserError unless the vocabulary has what the objective `needs`; asked before anything is corrupted."""
    needs_lib.require(type(self).__name__, self.needs, special)

  def on_device(self, nets: networks.Networks, batch: Features) -> Features:
    """The device stage: corruption that needs a network. JAX; before the decoder reads the batch, in every microbatch.

    All randomness comes from features that `corrupt` gave, so it is each row's own: whatever the mesh, the microbatches
    and the interruptions, a row is corrupted alike by the same parameters.

    Args:
      nets: the model's networks with their parameters, which get the gradient of what is made here.
      batch: all features of some rows, [batch, model_length].

    Returns:
      The features, of which those that the model reads may be others, and some of `measures`.
    """
    del nets
    return batch

  def measure(self, nets: networks.Networks, hidden: Tensor, batch: Features) -> Features:
    """The rest of `measures`, by the decoder's hidden states [batch, model_length, width]; JAX, none as a rule.

    Args:
      nets: as for `on_device`.
      hidden: behind the final norm.
      batch: as `on_device` left it.
    """
    del nets, hidden, batch
    return {}

  def to_head(self, nets: networks.Networks, hidden: Tensor, batch: Features) -> Tensor:
    """What the output head reads in training and in held-out losses, [batch, model_length, width]; JAX.

    The decoder's hidden states as a rule; arguments as for `measure`. Whoever asks a trained model for scores, states
    or weights gets the decoder and the head without it.
    """
    del nets, batch
    return hidden

  def loss(self, cross_entropy: Tensor, weights: Tensor, batch: Features | None = None) -> dict[str, loss.LossTerm]:
    """Named loss terms.

    Args:
      cross_entropy, weights: float32 [batch, positions], nats; of the positions that are scored, at most
        `max_supervised` a row, in order. Of an objective that does not predict tokens, zeros and the weights of all.
      batch: all features of the same rows, [batch, model_length], 'text_tokens', int32 [batch], and `measures`.

    Returns:
      Terms whose denominators depend on `weights` and on what `corrupt` gave alone, not on `measures`. A term of
      coefficient 0 is only shown.
    """
    del batch
    return loss.weighted_cross_entropy(cross_entropy, weights)

  @property
  def held_out_steps(self) -> tuple[int, ...]:
    """The steps of training as which held-out rows are read, once each; the loss is that of the first reading."""
    return (TRAINED,)

  def counts(self, batch: Features) -> dict[str, Tensor]:
    """Numbers to show beside the loss, each a sum over the batch, as a scalar; none as a rule."""
    del batch
    return {}

  @abc.abstractmethod
  def scorer(self, special: SpecialTokens) -> scoring.Scorer:
    """How a model trained on this objective gives a log-probability to tokens in a gap, or `scoring.Unscored`."""

  def embedding(self, special: SpecialTokens) -> Embedding:
    """How a text becomes a vector; as a rule the mean of its states under the scorer's attention."""
    return Embedding(attention=self.scorer(special).attention)
