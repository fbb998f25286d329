"""A trained model that reads rows: in batches of like lengths, over any mesh and several processes."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ... import UserError
from ...models import head, logical_axes
from ...models.decoder import Decoder
from ...objectives.attention import AttentionSpec
from ...objectives.scoring import ScoringRow
from .. import mesh as mesh_lib
from ..step import Batch, hidden_states

_SHORTEST = 16  # positions of the smallest bucket
_AHEAD = 2  # batches on the device beside the one that is read


class RowScores(NamedTuple):
  """Of one row: float64 [reads] log p(target) in nats, int32 [reads] the best id."""

  log_probs: np.ndarray
  best: np.ndarray


class Laid(NamedTuple):
  """A batch of rows on the device: int32 [batch, length] inputs, [batch] lengths, prefixes and counts of reads, [batch,
  width] reads and targets.
  """

  inputs: jax.Array
  lengths: jax.Array
  prefixes: jax.Array
  counts: jax.Array
  reads: jax.Array
  targets: jax.Array


def one_segment(inputs: jax.Array, lengths: jax.Array, prefixes: jax.Array, behind: int = 0) -> Batch:
  """A batch of rows that each hold one segment: int32 [batch, length] ids, of which the first `lengths` are real.

  Where attention has levels, the first `prefixes` tokens are of one; where it has groups, the last `behind` are of
  group 1.
  """
  index = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
  return {
    'decoder_input_tokens': inputs,
    'decoder_positions': index,
    'decoder_segment_ids': (index < lengths[:, None]).astype(jnp.int32),
    'decoder_levels': jnp.where(index < prefixes[:, None], 0, index),
    'decoder_groups': (index >= lengths[:, None] - behind).astype(jnp.int32),
  }


@dataclasses.dataclass(frozen=True)
class Buckets:
  """The shapes of batches: few, so that few programs are compiled, and near to the rows' own.

  Attributes:
    longest: positions of the longest row, a multiple of what the mesh splits them over.
    rows: of a batch of longest rows; shorter ones have as many more as make about as many positions.
    step: rows of a batch are a multiple of this, over which the mesh splits them.
  """

  longest: int
  rows: int
  step: int

  @classmethod
  def of(cls, longest: int, rows: int, mesh: Mesh) -> 'Buckets':
    """For rows of up to `longest` positions; positions and rows are rounded up to what the mesh divides."""
    step, ways = logical_axes.batch_ways(mesh.shape), math.lcm(8, mesh.shape['sequence'])
    return cls(-(-longest // ways) * ways, -(-rows // step) * step, step)

  def length(self, positions: int) -> int:
    """Positions of the batch that a row goes into: a power of two, or the longest."""
    size = max(_SHORTEST, 1 << (positions - 1).bit_length())
    return size if size <= 0.75 * self.longest else self.longest

  def width(self, reads: int) -> int:
    """Reads of a row of its batch: a power of four, or of two from 64 on; the vocabulary's share of the work."""
    exact = 1 << (reads - 1).bit_length()
    return exact if exact > 64 or exact.bit_length() % 2 else 2 * exact

  def count(self, length: int) -> int:
    """Rows of a batch of this length."""
    return max(self.step, self.rows * self.longest // length // self.step * self.step)

  def key(self, row: ScoringRow) -> tuple[int, int]:
    return self.length(len(row.inputs)), self.width(len(row.reads))

  def cost(self, row: ScoringRow) -> int:
    """Positions that the row takes of a batch."""
    return self.length(len(row.inputs))


class Runner:
  """Scores rows, or makes vectors of them, by one set of parameters under one attention rule.

  All processes of a mesh call it alike, with the same rows, and all get all answers.
  """

  def __init__(
    self,
    params: dict,
    decoder: Decoder,
    attention: AttentionSpec,
    mesh: Mesh,
    longest: int,
    batch_size: int,
  ):
    """
    Args:
      params, decoder: of the model; the parameters lie on the mesh.
      attention: who may see whom.
      mesh: rows are split over it.
      longest: positions of the longest row that will come.
      batch_size: rows of that length in a batch; of shorter ones there are more.
    """
    self._params, self._mesh = params, mesh
    self.buckets = Buckets.of(longest, batch_size, mesh)

    def read(params, laid: Laid, behind: int = 0) -> jax.Array:
      batch = one_segment(laid.inputs, laid.lengths, laid.prefixes, behind)
      return head.pick(hidden_states(decoder, params, batch, attention), laid.reads)

    def score(params, laid: Laid) -> head.Scores:
      return head.score(read(params, laid), laid.targets, params, decoder.config)

    def mean(params, laid: Laid, behind: int) -> jax.Array:
      states = read(params, laid, behind).astype(jnp.float32)
      counted = jnp.arange(states.shape[1])[None] < laid.counts[:, None]
      return jnp.where(counted[..., None], states, 0.0).sum(1) / laid.counts[:, None]

    out = mesh_lib.replicated(mesh)
    self._score = jax.jit(score, out_shardings=out)
    self._mean = jax.jit(mean, static_argnames='behind', out_shardings=out)

  def log_probs(self, rows: Sequence[ScoringRow], tick: Callable[[int], None] = lambda cost: None) -> list[RowScores]:
    """Scores of each row, in the rows' order; rows with equal inputs are run once.

    Args:
      rows: what to score.
      tick: called as batches are done, with the `cost` of their rows, that of rows not run again included.

    Raises:
      UserError: a row is too long, or a score is not a number.
    """
    merged, of = _merge(rows)
    results: list[RowScores | None] = [None] * len(merged)
    for numbers, scores in self._answers(self._score, merged):
      nll, best = np.asarray(scores.cross_entropy, np.float64), np.asarray(scores.best)
      for i, number in enumerate(numbers):
        reads = len(merged[number].reads)
        results[number] = RowScores(-nll[i, :reads], best[i, :reads])
        if not np.isfinite(nll[i, :reads]).all():
          raise UserError('The model gives log-probabilities that are no finite numbers: its training diverged.')
      tick(sum(self.buckets.cost(rows[k]) for number in numbers for k in of[number]))
    return _split(rows, of, results)

  def vectors(
    self, rows: Sequence[ScoringRow], behind: int = 0, tick: Callable[[int], None] = lambda cost: None
  ) -> list[np.ndarray]:
    """The mean of the states at the reads of each row, float32 [width], in the rows' order.

    Args:
      rows: what to read; of equal ones one is run, and they share an array.
      behind: so many tokens at the end of each row are of group 1.
      tick: as for `log_probs`.

    Raises:
      UserError: a row is too long, or a vector holds no numbers.
    """
    of = _equal(rows)
    results: dict[int, np.ndarray] = {}
    for numbers, found in self._answers(functools.partial(self._mean, behind=behind), [rows[same[0]] for same in of]):
      vectors = np.asarray(found)[: len(numbers)]
      if not np.isfinite(vectors).all():
        raise UserError('The model gives vectors that are no finite numbers: its training diverged.')
      every = [(k, vector) for number, vector in zip(numbers, vectors, strict=True) for k in of[number]]
      results.update(every)
      tick(sum(self.buckets.cost(rows[k]) for k, _ in every))
    return [results[number] for number in range(len(rows))]

  def _answers(
    self, program: Callable[[dict, Laid], Any], rows: Sequence[ScoringRow]
  ) -> Iterator[tuple[list[int], Any]]:
    """Batch by batch: the numbers of its rows, and what the program gives for them, in its first places."""
    running: collections.deque[tuple[list[int], Any]] = collections.deque()
    for numbers in self._batches(rows):
      running.append((numbers, program(self._params, self._laid([rows[number] for number in numbers]))))
      if len(running) > _AHEAD:
        yield running.popleft()
    yield from running

  def _batches(self, rows: Sequence[ScoringRow]) -> Iterator[list[int]]:
    """Numbers of the rows of each batch: the longest first, a batch filled up with the next shorter ones."""
    order = sorted(range(len(rows)), key=lambda number: self.buckets.key(rows[number]), reverse=True)
    while order:
      count = self.buckets.count(self.buckets.length(len(rows[order[0]].inputs)))
      yield order[:count]
      del order[:count]

  def _laid(self, rows: Sequence[ScoringRow]) -> Laid:
    length = max(self.buckets.length(len(row.inputs)) for row in rows)
    width = max(self.buckets.width(len(row.reads)) for row in rows)
    if max(len(row.inputs) for row in rows) > self.buckets.longest:
      raise UserError(f'A question is longer than the {self.buckets.longest} positions that the model is run with.')
    size = self.buckets.count(length)
    inputs, prefixes = np.zeros((size, length), np.int32), np.zeros(size, np.int32)
    lengths, counts = np.ones((2, size), np.int32)
    reads, targets = np.zeros((2, size, width), np.int32)
    for i, row in enumerate(rows):
      inputs[i, : len(row.inputs)], lengths[i], prefixes[i] = row.inputs, len(row.inputs), row.prefix
      reads[i, : len(row.reads)], targets[i, : len(row.reads)], counts[i] = row.reads, row.targets, len(row.reads)
    return Laid(*(self._put(array) for array in (inputs, lengths, prefixes, counts, reads, targets)))

  def _put(self, array: np.ndarray) -> jax.Array:
    """An array that every process has, with each device's rows on it."""
    sharding = mesh_lib.batch_sharding(self._mesh, array.ndim)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _equal(rows: Sequence[ScoringRow]) -> list[list[int]]:
  """Which rows have equal inputs."""
  groups: dict[tuple[int, bytes], list[int]] = collections.defaultdict(list)
  for number, row in enumerate(rows):
    groups[row.prefix, np.asarray(row.inputs, np.int32).tobytes()].append(number)
  return list(groups.values())


def _merge(rows: Sequence[ScoringRow]) -> tuple[list[ScoringRow], list[list[int]]]:
  """Rows with different inputs, each with all reads of those that had them; and which rows those were.

  Candidates of a masked model differ at first in what is scored alone.
  """
  of = _equal(rows)
  merged = []
  for numbers in of:
    parts = [rows[number] for number in numbers]
    reads, targets, gaps = (np.concatenate(arrays) for arrays in zip(*(row[1:4] for row in parts), strict=True))
    merged.append(ScoringRow(parts[0].inputs, reads, targets, gaps, parts[0].prefix))
  return merged, of


def _split(rows: Sequence[ScoringRow], of: list[list[int]], merged: Sequence[RowScores | None]) -> list[RowScores]:
  """The scores of each row, from those of the merged ones."""
  result: dict[int, RowScores] = {}
  for numbers, scores in zip(of, merged, strict=True):
    assert scores is not None  # every batch was read
    edges = np.cumsum([len(rows[number].reads) for number in numbers])[:-1]
    parts = zip(np.split(scores.log_probs, edges), np.split(scores.best, edges), strict=True)
    result |= {number: RowScores(*part) for number, part in zip(numbers, parts, strict=True)}
  return [result[number] for number in range(len(rows))]
