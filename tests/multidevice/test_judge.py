"""The judge's scores are those of a slow one: a row at a time, no padding, no buckets, softmax in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_decoder
from objective_table import SPECIAL, TABLE
from random_decoder import CONFIG, LONGEST, MESHES
from unmask import UserError
from unmask.launch import mesh as mesh_lib
from unmask.launch.judging import answers
from unmask.launch.judging.runner import Buckets, Runner
from unmask.launch.step import hidden_states
from unmask.models import head
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, PREFIX, AttentionSpec
from unmask.objectives.scorers import PrefixLeftToRight
from unmask.objectives.scoring import Query, Scorer, ScoringRow, Unscored
from unmask.tasks.questions.test import Item, Test


def _tests() -> list[Test]:
  random = np.random.default_rng(1)
  text = lambda n: np.array([SPECIAL.bos, *random.integers(*SPECIAL.text, n - 1)], np.int32)

  sizes = [9, 9, 40, 40, LONGEST]  # few, for the slow one compiles each
  asked = [Item((Query(text(n), ((n // 2, n // 2 + 1), (n // 2 + 2, n - 1)), i),)) for i, n in enumerate(sizes)]
  choices = []
  for i, n in enumerate(sizes):
    tokens, start, end = text(n), n // 3, n // 3 + 2
    candidates = [np.concatenate([tokens[:start], text(3)[1:], tokens[end:]]) for _ in range(3)]
    choices.append(Item(tuple(Query(c, ((start, end),), i) for c in candidates)))
  wholes = [Item((Query(text(n // 2), (), i), Query(text(n // 2), (), i))) for i, n in enumerate(sizes[:4])]
  how = {'title': '', 'part': 'cloze'}
  return [
    Test(name='gaps', kind='gaps', primary='loss', items=asked, **how),
    Test(name='choices', kind='choices', primary='accuracy', items=choices, **how),
    Test(name='wholes', kind='choices', primary='accuracy', items=wholes, **how),
  ]


@functools.partial(jax.jit, static_argnames='rule')
def _logits(params: dict, batch: dict, rule) -> jax.Array:
  return head.logits(hidden_states(Decoder(CONFIG), params, batch, rule), params, CONFIG)


def _slow(params: dict, rule, row: ScoringRow) -> tuple[np.ndarray, np.ndarray]:
  """Log-probabilities and best ids of one row."""
  length = len(row.inputs)
  batch = {
    'decoder_input_tokens': jnp.asarray(row.inputs)[None],
    'decoder_positions': jnp.arange(length)[None],
    'decoder_segment_ids': jnp.ones((1, length), jnp.int32),
    'decoder_levels': jnp.where(jnp.arange(length) < row.prefix, 0, jnp.arange(length))[None],
  }
  logits = np.asarray(_logits(params, batch, rule), np.float64)[0]
  log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  return log_p[row.reads, row.targets], log_p[row.reads].argmax(-1)


@functools.cache
def _expected(rule: AttentionSpec, scorer: Scorer) -> dict[str, list]:
  mesh = random_decoder.mesh('one')
  with mesh_lib.context(mesh):
    params = random_decoder.params(mesh)
    return {test.name: [_slow(params, rule, one.row) for one in answers.ask(test, scorer)] for test in _tests()}


# Whose scorers and attention are those of all, see below.
EVERYWHERE = ('next_token', 'mlm', 'mntp', 'causal_masked')
ON_ALL_AXES = (
  'prefix_lm_mode',
  'span_corruption_extreme',
  'span_corruption_causal',
  'fill_in_the_middle',
  'masked_diffusion',
  'masked_diffusion_blocks',
  'dup_mae_last',
)
KINDS = EVERYWHERE + ON_ALL_AXES
CASES = [(name, where) for name in EVERYWHERE for where in MESHES] + [(name, 'all') for name in ON_ALL_AXES]


@pytest.mark.parametrize(('name', 'where'), CASES)
def test_fast_is_slow(name, where):
  mesh = random_decoder.mesh(where)
  objective = TABLE[name].make()
  scorer = objective.scorer(SPECIAL)
  rule = scorer.attention or objective.attention
  with mesh_lib.context(mesh):
    runner = Runner(random_decoder.params(mesh), Decoder(CONFIG), rule, mesh, LONGEST + 4, 8)
    for test in _tests():
      asked = answers.ask(test, scorer)
      done = []
      scores = runner.log_probs([one.row for one in asked], done.append)
      assert sum(done) == sum(runner.buckets.cost(one.row) for one in asked)
      expected = _expected(rule, scorer)[test.name]
      for one, (log_probs, best), (exact, top) in zip(asked, scores, expected, strict=True):
        np.testing.assert_allclose(log_probs, exact, rtol=2e-4, atol=2e-4, err_msg=f'{test.name} {one}')
        np.testing.assert_array_equal(best, top)


def test_these_are_all_kinds():
  """Every objective has the scorer and the attention of one of them: all that the judge takes of it."""

  def kind(name: str) -> tuple:
    objective = TABLE[name].make()
    scorer = objective.scorer(SPECIAL)
    return scorer.attention or objective.attention, type(scorer), getattr(scorer, 'shifted', None)

  assert {kind(name) for name in TABLE} - {(BIDIRECTIONAL, Unscored, None), (CAUSAL, PrefixLeftToRight, None)} == {
    kind(name) for name in KINDS
  }


def test_a_prefix_is_part_of_a_row():
  """Rows that differ in their prefix alone are not taken for one."""
  mesh = random_decoder.mesh('one')
  rows = [_row(20, 19)._replace(prefix=prefix) for prefix in (1, 10, 1)]
  with mesh_lib.context(mesh):
    runner = Runner(random_decoder.params(mesh), Decoder(CONFIG), PREFIX, mesh, LONGEST, 8)
    one, other, again = runner.log_probs(rows)
  np.testing.assert_array_equal(one.log_probs, again.log_probs)
  assert (np.abs(one.log_probs[:9] - other.log_probs[:9]) > 1e-4).all()


def _runner(params=None, longest: int = LONGEST, batch_size: int = 8) -> Runner:
  mesh = random_decoder.mesh('one')
  made = random_decoder.params(mesh) if params is None else params
  return Runner(made, Decoder(CONFIG), AttentionSpec(), mesh, longest, batch_size)


def _row(length: int, reads: int = 1, first: int = 40) -> ScoringRow:
  inputs = np.arange(first, first + length, dtype=np.int32)
  return ScoringRow(inputs, np.arange(reads), np.arange(reads) + first, np.zeros(reads, np.int32))


def test_rows_with_equal_inputs_are_run_once():
  mesh = random_decoder.mesh('one')
  rows = [_row(10), _row(12), _row(10, 3), _row(10, first=50), _row(12, 2)]
  with mesh_lib.context(mesh):
    runner = _runner()
    laid, sizes = runner._laid, []
    runner._laid = lambda part: sizes.append(len(part)) or laid(part)
    together = runner.log_probs(rows)
    assert sum(sizes) == 3
    for row, (log_probs, best) in zip(rows, together, strict=True):
      ((alone, top),) = runner.log_probs([row])
      np.testing.assert_allclose(log_probs, alone, rtol=1e-5)
      np.testing.assert_array_equal(best, top)


def test_batches_are_of_like_lengths_and_few_shapes():
  rows = [_row(n, reads) for n in range(2, LONGEST) for reads in (1, n // 2 + 1)]
  runner = _runner({})
  seen = []
  for numbers in runner._batches(rows):
    length = max(runner.buckets.length(len(rows[number].inputs)) for number in numbers)
    assert len(numbers) <= runner.buckets.count(length)
    assert runner.buckets.count(length) * length <= 8 * LONGEST
    seen += numbers
  assert sorted(seen) == list(range(len(rows)))
  assert {runner.buckets.length(n) for n in range(1, LONGEST + 1)} == {16, 32, 64}
  assert {runner.buckets.width(n) for n in range(1, 129)} == {1, 4, 16, 64, 128}
  for n in range(1, LONGEST + 1):
    assert runner.buckets.length(n) >= n <= runner.buckets.width(n)


def test_buckets_are_what_the_mesh_divides():
  mesh = random_decoder.mesh('all')
  found = Buckets.of(101, 3, mesh)
  assert (found.longest, found.rows, found.step) == (104, 4, 2)
  assert all(found.count(length) % 2 == 0 for length in (16, 32, 64, 104))


def test_a_model_that_diverged_is_named():
  mesh = random_decoder.mesh('one')
  with mesh_lib.context(mesh):
    broken = jax.tree.map(lambda x: x * jnp.nan, random_decoder.params(mesh))
    with pytest.raises(UserError, match='no finite numbers: its training diverged'):
      _runner(broken).log_probs([_row(10)])


def test_too_long_a_row_is_refused():
  with pytest.raises(UserError, match='longer than the 64 positions'):
    _runner({}).log_probs([_row(65)])
