"""The judge's vectors are those of a slow way: a text at a time, no padding, what is read picked by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_decoder
from objective_table import SPECIAL, TABLE
from random_decoder import CONFIG, LONGEST
from unmask import UserError
from unmask.launch import mesh as mesh_lib
from unmask.launch.judging import vectors
from unmask.launch.judging.runner import Runner
from unmask.launch.step import hidden_states
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, AttentionSpec
from unmask.objectives.scoring import Query
from unmask.tasks.questions.test import Item, Test

ROWS = 5


@functools.partial(jax.jit, static_argnames='rule')
def _hidden(params: dict, batch: dict, rule: AttentionSpec) -> jax.Array:
  return hidden_states(Decoder(CONFIG), params, batch, rule)


def _states(params: dict, tokens, rule: AttentionSpec, places=None) -> np.ndarray:
  """float64 [tokens, width]; `places` are positions, if they are not those in the text."""
  batch = {
    'decoder_input_tokens': jnp.asarray([tokens], jnp.int32),
    'decoder_positions': jnp.asarray([range(len(tokens)) if places is None else places], jnp.int32),
    'decoder_segment_ids': jnp.ones((1, len(tokens)), jnp.int32),
  }
  return np.asarray(_hidden(params, batch, rule)[0], np.float64)


def _mean(rule, begin: int = SPECIAL.bos):
  return lambda params, text: _states(params, [begin, *text[1:]], rule).mean(0)


def _special_tokens(params: dict, text) -> np.ndarray:
  """Each by itself behind the text, where it stood in training: special tokens do not see each other."""
  index, marks = list(range(len(text))), SPECIAL.spare[6:9]
  alone = [_states(params, [*text, mark], CAUSAL, [*index, len(text) + k])[-1] for k, mark in enumerate(marks)]
  return np.mean(alone, axis=0)


SLOW = {
  'next_token': _mean(CAUSAL),
  'mlm': _mean(BIDIRECTIONAL),
  'electra': _mean(BIDIRECTIONAL),
  'prefix_lm_mode': _mean(BIDIRECTIONAL, begin=SPECIAL.spare[1]),
  'dup_mae': lambda params, text: _states(params, text, BIDIRECTIONAL)[0],
  'dup_mae_last': lambda params, text: _states(params, [*text, SPECIAL.eos], CAUSAL)[-1],
  'bottleneck_of_three': _special_tokens,
}


def _test(half: int) -> Test:
  random = np.random.default_rng(half)
  first, second = random.integers(*SPECIAL.text, (2, ROWS, half)).astype(np.int32)

  def query(i: int, other: int) -> Query:
    tokens = np.concatenate([[SPECIAL.bos], first[i], second[other]]).astype(np.int32)
    return Query(tokens, ((half + 1, 2 * half + 1),), i)

  items = [Item(tuple(query(i, (i + k) % ROWS) for k in range(4))) for i in range(ROWS)]
  how = {'name': 'halves', 'title': '', 'part': 'vectors', 'kind': 'choices', 'primary': 'accuracy'}
  return Test(items=items, embedded=True, **how)


def _slow_ranks(known: dict[bytes, np.ndarray], test: Test) -> list[float]:
  """Reciprocal ranks of the right candidates, by the vectors of texts without `bos`."""
  found = []
  for item in test.items:
    ((start, end),) = item.candidates[0].gaps
    first = known[item.candidates[0].tokens[1:start].tobytes()]
    others = [known[one.tokens[start:end].tobytes()] for one in item.candidates]
    near = [first @ other / np.sqrt((first @ first) * (other @ other)) for other in others]
    found.append(1 / (1 + sum(one > near[0] for one in near[1:])))
  return found


@pytest.mark.parametrize(('name', 'where'), [*((name, 'one') for name in SLOW), ('bottleneck_of_three', 'all')])
def test_fast_is_slow(name, where):
  one, mesh = random_decoder.mesh('one'), random_decoder.mesh(where)
  objective, test = TABLE[name].make(), _test(7)
  rule = objective.embedding(SPECIAL)
  asked = vectors.ask(test, rule)
  with mesh_lib.context(mesh):
    params, seen = random_decoder.params(mesh), rule.attention or objective.attention
    runner = Runner(params, Decoder(CONFIG), seen, mesh, LONGEST, 2)
    done = []
    found = runner.vectors([row.row for row in asked], len(rule.behind), done.append)
    assert sum(done) == sum(runner.buckets.cost(row.row) for row in asked)
  known = {row.row.inputs[1:8].tobytes(): vector for row, vector in zip(asked, found, strict=True)}
  assert len(known) == 2 * ROWS
  with mesh_lib.context(one):
    alone = random_decoder.params(one)
    slow = {text: SLOW[name](alone, [SPECIAL.bos, *np.frombuffer(text, np.int32).tolist()]) for text in known}
  for text, vector in slow.items():
    np.testing.assert_allclose(known[text], vector, rtol=2e-4, atol=2e-4)
  ranks = _slow_ranks(slow, test)
  np.testing.assert_allclose(vectors.answers(test, asked, found)['reciprocal_rank'], ranks)
  assert len(set(ranks)) > 1


def test_texts_of_all_lengths_in_one_call():
  """Padding and buckets change no vector; equal texts are one row and share an array."""
  mesh = random_decoder.mesh('one')
  random = np.random.default_rng(3)
  texts = [np.array([2, *random.integers(*SPECIAL.text, n)], np.int32) for n in (1, 5, 15, 16, 40, 62)]
  rule = TABLE['mlm'].make().embedding(SPECIAL)
  with mesh_lib.context(mesh):
    params = random_decoder.params(mesh)
    runner = Runner(params, Decoder(CONFIG), BIDIRECTIONAL, mesh, LONGEST, 2)
    found = runner.vectors([rule.row(text) for text in (*texts, texts[1])])
    for text, vector in zip(texts, found, strict=False):
      np.testing.assert_allclose(vector, SLOW['mlm'](params, text.tolist()), rtol=2e-4, atol=2e-4)
  assert found[6] is found[1]


def test_a_model_that_diverged_is_named():
  mesh = random_decoder.mesh('one')
  with mesh_lib.context(mesh):
    broken = jax.tree.map(lambda x: x * jnp.nan, random_decoder.params(mesh))
    runner = Runner(broken, Decoder(CONFIG), BIDIRECTIONAL, mesh, LONGEST, 2)
    with pytest.raises(UserError, match='vectors that are no finite numbers: its training diverged'):
      runner.vectors([TABLE['mlm'].make().embedding(SPECIAL).row(np.array([2, 40, 41], np.int32))])
