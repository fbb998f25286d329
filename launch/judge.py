"""One judge for all: the same held-out questions to every model, each answered through its own objective's scorer."""

import dataclasses
import io
import json
import os
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from ..models import head
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives.base import Objective
from ..objectives.scoring import Query, ScoringRow
from ..tasks.evaluation import Questions, digest
from ..tasks.pipeline import Pipeline, Source
from . import checkpoints as checkpoints_lib
from . import config, files, identity
from . import mesh as mesh_lib
from . import state as state_lib
from .step import Batch, hidden_states


def evaluate(
  *,
  model_dir: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  questions: Questions = Questions(),
  batch_size: int = 64,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
) -> dict:
  """Asks the newest checkpoint of `model_dir` all questions and writes 'evaluation.json' there.

  A checkpoint that was asked the same questions before is not asked again.

  Returns:
    {'checkpoint', 'questions', 'asked' (a digest of the queries), 'sees', 'home', 'tests': {test: {'loss', 'loss_se',
    'unigram_loss', 'exact', 'exact_se', 'token_top1', 'tokens', 'gaps'}}}. Losses are in nats a token; standard errors
    take the queries about one segment as one. Tests that the text has no material for are left out.
  """
  config.refuse_unused()
  device_mesh = mesh.build()
  mesh_lib.check_batch(device_mesh, batch_size)
  source = pipeline.open()
  identity.check(model_dir, identity.of_run(model, objective, pipeline, source))
  path = files.path(model_dir) / 'evaluation.json'
  saved = checkpoints_lib.Checkpoints(model_dir)
  queries = questions.draw(source)
  facts = {'checkpoint': saved.newest_sound(), 'questions': dataclasses.asdict(questions), 'asked': digest(queries)}
  if path.exists():
    before = json.loads(path.read_text())
    if all(before.get(name) == value for name, value in facts.items()):
      saved.close()
      return before
  with mesh_lib.context(device_mesh):
    runner = Runner.restore(saved, source, model, objective, device_mesh, batch_size)
    tests, by_cluster = {}, {}
    for name, asked in queries.items():
      tests[name], by_cluster[name] = runner.test(asked, f'{os.path.basename(os.path.normpath(model_dir))}: {name}')
  scorer = objective.scorer(source.special)
  result = facts | {'sees': scorer.sees, 'home': objective.home, 'tests': tests}
  # Losses by cluster of queries, so that a report can compare two models on the same questions.
  arrays = io.BytesIO()
  np.savez_compressed(arrays, **by_cluster)
  files.write_atomically(path.with_name('evaluation.npz'), arrays.getvalue())
  files.write_atomically(path, json.dumps(result, indent=2))
  return result


def one_segment(inputs: jax.Array, lengths: jax.Array) -> Batch:
  """A batch of rows that each hold one segment: int32 [batch, length] ids, of which the first `lengths` are real."""
  index = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
  return {
    'decoder_input_tokens': inputs,
    'decoder_positions': index,
    'decoder_segment_ids': (index < lengths[:, None]).astype(jnp.int32),
  }


class Runner:
  """A trained model that scores rows."""

  def __init__(
    self, params: dict, decoder: Decoder, source: Source, objective: Objective, mesh: jax.sharding.Mesh, batch_size: int
  ):
    self._params, self._mesh, self._batch_size = params, mesh, batch_size
    self._scorer = objective.scorer(source.special)
    self._log_unigram = unigram(source)
    self._length = -(-(source.config.text_length + 2) // 8) * 8  # an infilling row is two sentinels longer
    attention = objective.attention

    def score(params: dict, inputs: jax.Array, lengths: jax.Array, reads: jax.Array, targets: jax.Array) -> head.Scores:
      hidden = hidden_states(decoder, params, one_segment(inputs, lengths), attention)
      return head.score(head.pick(hidden, reads), targets, params, decoder.config)

    self._score = jax.jit(score)

  @classmethod
  def restore(
    cls,
    saved: checkpoints_lib.Checkpoints,
    source: Source,
    model: DecoderConfig,
    objective: Objective,
    mesh: jax.sharding.Mesh,
    batch_size: int,
  ) -> 'Runner':
    """From the newest checkpoint; the optimizer's state is not read."""
    decoder = Decoder(model.with_vocabulary(source.vocabulary.vocab_size))
    _, params = saved.restore_params(*state_lib.params_and_shardings(decoder, mesh))
    saved.close()
    return cls(params, decoder, source, objective, mesh, batch_size)

  def log_probs(self, rows: Sequence[ScoringRow], label: str = '') -> list[tuple[np.ndarray, np.ndarray]]:
    """For each row, log p(target) in nats and the best id, at each of its reads."""
    width = 1 << (max(len(row.reads) for row in rows) - 1).bit_length()
    results = []
    starts = range(0, len(rows), self._batch_size)
    for start in tqdm.tqdm(starts, desc=label, unit='batch', leave=False, mininterval=5, disable=not label):
      part = rows[start : start + self._batch_size]
      batch = mesh_lib.put_batch(self._mesh, self._pad(part, width))
      scores = self._score(self._params, batch['inputs'], batch['lengths'], batch['reads'], batch['targets'])
      nll, best = np.asarray(scores.cross_entropy), np.asarray(scores.best)
      results += [(-nll[i, : len(row.reads)], best[i, : len(row.reads)]) for i, row in enumerate(part)]
    return results

  def _pad(self, rows: Sequence[ScoringRow], width: int) -> dict[str, np.ndarray]:
    size = self._batch_size
    batch = {
      'inputs': np.zeros((size, self._length), np.int32),
      'lengths': np.ones(size, np.int32),
      'reads': np.zeros((size, width), np.int32),
      'targets': np.zeros((size, width), np.int32),
    }
    for i, row in enumerate(rows):
      batch['inputs'][i, : len(row.inputs)] = row.inputs
      batch['lengths'][i] = len(row.inputs)
      batch['reads'][i, : len(row.reads)] = row.reads
      batch['targets'][i, : len(row.targets)] = row.targets
    return batch

  def test(self, queries: Sequence[Query], label: str) -> tuple[dict[str, float], np.ndarray]:
    """The figures of one test, see `evaluate`; and by cluster the loss and the tokens, float64 [2, clusters]."""
    rows = [(number, row) for number, query in enumerate(queries) for row in self._scorer.rows(query)]
    scores = self.log_probs([row for _, row in rows], label)
    # What queries about one segment have in common is no independent evidence: sums by cluster.
    clusters = np.unique([query.cluster for query in queries], return_inverse=True)[1]
    nll, base, tokens, right, gaps, exact = np.zeros((6, clusters.max() + 1))
    missed: set[tuple[int, int]] = set()
    for (number, row), (log_prob, best) in zip(rows, scores, strict=True):
      here = clusters[number]
      nll[here] -= log_prob.sum()
      base[here] -= self._log_unigram[row.targets].sum()
      tokens[here] += len(row.targets)
      right[here] += (best == row.targets).sum()
      missed |= {(number, int(gap)) for gap in row.gaps[best != row.targets]}
    for number, query in enumerate(queries):
      gaps[clusters[number]] += len(query.gaps)
      exact[clusters[number]] += sum((number, gap) not in missed for gap in range(len(query.gaps)))
    loss, loss_se = ratio(nll, tokens)
    exact_share, exact_se = ratio(exact, gaps)
    figures = {
      'loss': loss,
      'loss_se': loss_se,
      'unigram_loss': ratio(base, tokens)[0],
      'exact': exact_share,
      'exact_se': exact_se,
      'token_top1': ratio(right, tokens)[0],
      'tokens': int(tokens.sum()),
      'gaps': int(gaps.sum()),
    }
    return figures, np.stack([nll, tokens])


def ratio(tops: np.ndarray, bottoms: np.ndarray) -> tuple[float, float]:
  """sum(tops) / sum(bottoms) and its standard error, the pairs being independent (linearised ratio estimator)."""
  if not bottoms.sum():
    return float('nan'), float('nan')
  value = tops.sum() / bottoms.sum()
  residual = tops - value * bottoms
  return float(value), float(np.sqrt((residual**2).sum()) / bottoms.sum())


def unigram(source: Source) -> np.ndarray:
  """The baseline that sees nothing: log of each id's share of the training tokens, one added to each count."""
  size = source.vocabulary.vocab_size
  counts = np.zeros(size)
  path = os.path.join(source.folder, 'unigram.npy') if source.folder else None
  if path and os.path.exists(path):
    counts[:] = np.load(path)[:size]
  else:
    _add_counts(counts, source.rows('train').take(20_000).as_numpy_iterator())
  return np.log((counts + 1) / (counts.sum() + size))


def _add_counts(counts: np.ndarray, rows: Iterable[dict[str, np.ndarray]]) -> None:
  for row in rows:
    np.add.at(counts, row['targets'][row['segment_ids'] > 0], 1)
