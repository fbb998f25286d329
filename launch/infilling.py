"""Filling one gap in a text with ranked completions, by any objective that can.

Four ways, chosen by the objective's scorer:
  masked models     a beam over the gap's tokens, left to right, for every length up to `max_tokens`
  masked diffusion  its sampler (see `unmasking`), for every length: from each of the likeliest first tokens; with a
                    number of steps or a temperature from the empty gap, `beam` draws of it
  causal-masked     a beam behind `left <mask:0> right <mask:0>` until the end token
  left-to-right     a beam behind the left text, then ranked by what the whole sentence scores (InCoder's left-to-right
                    reranking, arXiv 2204.05999 section 4)
Completions are ranked by log-probability a token, the end token or the right text included where the model gives it.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from .. import UserError
from ..models import head
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives.attention import AttentionSpec
from ..objectives.base import Objective
from ..objectives.scorers import AnyOrder, Infill, LeftToRight, PseudoLikelihood
from ..objectives.scoring import Query, Unscored
from ..tasks.pipeline import Pipeline, Source
from . import checkpoints as checkpoints_lib
from . import config, identity, unmasking
from . import mesh as mesh_lib
from . import state as state_lib
from .judging.runner import Runner, one_segment
from .step import hidden_states

GAP = '[MASK]'


class Completion(NamedTuple):
  """A filling: its text, log-probability a token in nats, and ids."""

  text: str
  score: float
  ids: tuple[int, ...]


def infill(
  *,
  model_dir: str,
  text: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  max_tokens: int = 4,
  beam: int = 16,
  count: int = 8,
  steps: int = 0,
  temperature: float = 0.0,
  seed: int = 0,
  block: int = 0,
) -> list[Completion]:
  """The best completions of the one `[MASK]` in `text`, best first.

  Args:
    model_dir: a trained model.
    text: with one gap.
    model, objective, pipeline: as it was trained.
    max_tokens: longest completion.
    beam: partial completions kept, or samples drawn.
    count: completions returned.
    steps, temperature, seed, block: of masked diffusion, see `unmasking.Settings`.
  """
  config.refuse_unused()
  if text.count(GAP) != 1:
    raise UserError(f'--text must hold exactly one {GAP}; it holds {text.count(GAP)}.')
  if min(max_tokens, beam, count) < 1:
    raise UserError(f'max_tokens={max_tokens}, beam={beam} and count={count} must be at least 1.')
  sampling = unmasking.Settings(steps, temperature, seed, block)
  saved = checkpoints_lib.Checkpoints(model_dir)
  saved.require()  # before a corpus is opened, which may take minutes
  source = pipeline.open()
  identity.check(model_dir, identity.of_run(model, objective, pipeline, source))
  device_mesh = mesh_lib.MeshConfig().build(jax.devices()[:1])
  with mesh_lib.context(device_mesh):
    decoder = Decoder(model.with_vocabulary(source.vocabulary.vocab_size))
    _, params = saved.restore_params(*state_lib.params_and_shardings(decoder, device_mesh))
    saved.close()
    left, right = _encode(source, text)
    length = pipeline.text_length + 8
    if len(left) + len(right) + max_tokens + 3 > length:
      raise UserError(
        f'The text has {len(left) + len(right)} tokens; this model was trained on {pipeline.text_length}.'
      )
    scorer = objective.scorer(source.special)
    if isinstance(scorer, Unscored):
      raise UserError(f'{type(objective).__name__} fills no gaps: {scorer.why}.')
    if sampling != unmasking.Settings() and not isinstance(scorer, AnyOrder):
      raise UserError(
        f'infill.steps, temperature, seed and block are of masked diffusion; {type(objective).__name__} fills gaps in '
        'another way. Leave them out.'
      )
    rule = scorer.attention or objective.attention
    runner = Runner(params, decoder, rule, device_mesh, length, beam)
    filler = _Filler(decoder, params, source, rule, length, beam, runner, sampling)
    found = filler.fill(scorer, left, right, max_tokens)
  best: dict[str, Completion] = {}
  for ids, score in sorted(found, key=lambda item: -item[1]):
    shown = source.vocabulary.decode([int(i) for i in ids]).strip()
    best.setdefault(shown, Completion(shown, score, tuple(int(i) for i in ids)))
  return list(best.values())[:count]


def _encode(source: Source, text: str) -> tuple[np.ndarray, np.ndarray]:
  """Ids left and right of the gap, `bos` in front; spaces around the gap belong to the words that follow them."""
  left, right = text.split(GAP)
  special, encode = source.special, source.vocabulary.encode
  before = encode(left.rstrip()) if left.strip() else []
  after = encode(right.lstrip()) if right.strip() else []
  if after and not right[0].isspace():
    # Sentence-piece encoding puts a space in front of a text; punctuation that touches the gap has none.
    marker = encode('x')
    joined = encode('x' + right)
    after = joined[len(marker) :] if joined[: len(marker)] == marker else after
  return np.array([special.bos, *before], np.int32), np.array(after, np.int32)


def _join(*parts: Sequence[int] | np.ndarray) -> np.ndarray:
  """One int32 row of all the ids."""
  return np.concatenate([np.asarray(part, np.int32) for part in parts])


@dataclasses.dataclass
class _Filler:
  """Beam search with a trained model; rows of one fixed shape, so there is one compilation."""

  decoder: Decoder
  params: dict
  source: Source
  attention: AttentionSpec
  length: int
  beam: int
  runner: Runner
  sampling: unmasking.Settings

  def __post_init__(self) -> None:
    special, size = self.source.special, self.source.vocabulary.vocab_size
    config_ = self.decoder.config

    @jax.jit
    def log_probs(params, inputs, lengths, prefixes, reads):
      batch = one_segment(inputs, lengths, prefixes)
      hidden = head.pick(hidden_states(self.decoder, params, batch, self.attention), reads)
      return jax.nn.log_softmax(head.logits(hidden, params, config_), axis=-1)

    self._log_probs = log_probs
    ids = np.arange(config_.vocab_size or size)
    # Only text can be said: sentinels were never targets, so their logits mean nothing.
    self._text = special.is_text(ids) & (ids < size)

  def fill(self, scorer, left: np.ndarray, right: np.ndarray, max_tokens: int) -> list[tuple[tuple[int, ...], float]]:
    """(ids, log-probability a token) of completions."""
    if isinstance(scorer, AnyOrder):
      return self._sampled(scorer, left, right, max_tokens)
    if isinstance(scorer, PseudoLikelihood):
      return self._masked(scorer, left, right, max_tokens)
    if isinstance(scorer, Infill):
      prompt = scorer.prompt(left, right)
      return self._causal(
        prompt, scorer.prefix(prompt), max_tokens, scorer.end_of_span if scorer.closes(right) else None
      )
    if isinstance(scorer, LeftToRight):
      return self._reranked(scorer, left, right, max_tokens)
    raise UserError(f'{type(scorer).__name__} gives no completions.')

  def _next(self, rows: list[np.ndarray], reads: list[int], prefix: int = 0) -> np.ndarray:
    """Log-probabilities at one read of each row, [rows, vocabulary]; the rows' prefixes are of one length."""
    return self._at(rows, np.array(reads, np.int32)[:, None], prefix)[:, 0]

  def _at(self, rows: Sequence[np.ndarray] | np.ndarray, reads: np.ndarray, prefix: int = 0) -> np.ndarray:
    """Log-probabilities at some reads of each row, int32 [rows, n]: [rows, n, vocabulary]."""
    inputs, wide = np.zeros((self.beam, self.length), np.int32), np.zeros((self.beam, reads.shape[1]), np.int32)
    lengths, prefixes = np.ones(self.beam, np.int32), np.full(self.beam, prefix, np.int32)
    wide[: len(rows)] = reads
    for i, row in enumerate(rows):
      inputs[i, : len(row)], lengths[i] = row, len(row)
    return np.asarray(self._log_probs(self.params, inputs, lengths, prefixes, wide))[: len(rows)]

  def _grow(self, beams, log_probs: np.ndarray, allowed: np.ndarray):
    """The best `beam` continuations of (ids, score) pairs by one token."""
    scores = np.where(allowed, log_probs, -np.inf) + np.array([score for _, score in beams])[:, None]
    best = np.argsort(scores, axis=None)[::-1][: self.beam]
    where = [np.unravel_index(i, scores.shape) for i in best]
    return [
      ((*beams[b][0], int(token)), float(scores[b, token])) for b, token in where if np.isfinite(scores[b, token])
    ]

  def _masked(self, scorer: PseudoLikelihood, left, right, max_tokens):
    found = []
    for size in range(1, max_tokens + 1):
      beams = [((), 0.0)]
      for done in range(size):
        hidden = [scorer.mask] * (size - done)
        rows = [_join(left, ids, hidden, right) for ids, _ in beams]
        reads = [len(left) + done - int(scorer.shifted)] * len(rows)
        beams = self._grow(beams, self._next(rows, reads), self._text)
      found += [(ids, score / size) for ids, score in beams]
    return found

  def _sampled(self, scorer: AnyOrder, left, right, max_tokens):
    how, found = self.sampling, []
    for size in range(1, max_tokens + 1):
      hidden = len(left) + np.arange(size)
      empty = _join(left, [scorer.mask] * size, right)
      blocks = np.arange(size) // how.block if how.block else hidden // (scorer.block or self.length)
      if how.steps or how.temperature:
        rows = self.beam if how.temperature else 1  # without chance all are the same
        texts, begun, rest = np.tile(empty, (rows, 1)), np.zeros(rows), np.arange(size)
      else:
        texts, begun, rest = self._each_first(empty, hidden, blocks)
      seed = how.seed, size
      texts, scores = unmasking.sample(
        self._at, texts, hidden[rest], self._text, how.steps, how.temperature, seed, blocks[rest]
      )
      found += [(tuple(text[hidden].tolist()), score / size) for text, score in zip(texts, begun + scores, strict=True)]
    return found

  def _each_first(self, empty, hidden, blocks):
    """The likeliest tokens where the model is surest in the first block: texts, their scores, what is still hidden."""
    log_probs = np.where(self._text, self._at([empty], hidden[None])[0], -np.inf)
    place = int(np.where(blocks == blocks[0], log_probs.max(axis=-1), -np.inf).argmax())
    likeliest = np.argsort(-log_probs[place])[: self.beam]
    texts = np.tile(empty, (len(likeliest), 1))
    texts[:, hidden[place]] = likeliest
    return texts, log_probs[place][likeliest].astype(np.float64), np.delete(np.arange(len(hidden)), place)

  def _causal(self, prompt, prefix: int, max_tokens, end: int | None):
    beams, found = [((), 0.0)], []
    for size in range(1, max_tokens + 2):
      rows = [_join(prompt, ids) for ids, _ in beams]
      log_probs = self._next(rows, [len(row) - 1 for row in rows], prefix)
      if size > 1:
        stop = log_probs[:, end] if end is not None else np.zeros(len(beams))
        found += [(ids, (score + stop[i]) / (len(ids) + (end is not None))) for i, (ids, score) in enumerate(beams)]
      beams = self._grow(beams, log_probs, self._text)
    return found

  def _reranked(self, scorer: LeftToRight, left, right, max_tokens):
    fillings = [ids for ids, _ in self._causal(scorer.begun(left), scorer.prefix(left), max_tokens, None)]
    gap = lambda ids: ((len(left), len(left) + len(ids)),)
    rows = [row for ids in fillings for row in scorer.candidate(Query(_join(left, ids, right), gap(ids)))]
    scores = [log_probs.mean() for log_probs, _ in self.runner.log_probs(rows)]
    return list(zip(fillings, scores, strict=True))
