"""A seqio Mixture keeps its rates for as long as it is trained on, and shows all of every task."""

import collections
import contextlib
import itertools
import math

import numpy as np
import pytest
import seqio
from plain_text import task
from unmask.objectives import next_token
from unmask.tasks import pipeline

SIZES = {'a': 50, 'b': 700, 'c': 900}  # examples of a task
LENGTH = 16


@contextlib.contextmanager
def _mixed(rates: dict[str, float], rows_ready: bool):
  """An opened mixture. An example fills a row and says which it is."""
  with contextlib.ExitStack() as stack:
    for name in rates:
      stack.enter_context(task(f'one_{name}', [f'{name}{i:012d}' for i in range(SIZES[name])], rows_ready))
    seqio.MixtureRegistry.add('mixed', [(f'one_{name}', rate) for name, rate in rates.items()])
    stack.callback(seqio.MixtureRegistry.remove, 'mixed')
    lengths = {'targets': LENGTH}
    yield pipeline.Pipeline(mixture_or_task_name='mixed', task_feature_lengths=lengths, shuffle_rows=64).open()


def _examples(source: pipeline.Source, split: str, count: int | None = None) -> list[str]:
  rows = source.stream(split, next_token.NextToken()).as_numpy_iterator()
  special = source.special
  texts = (row['targets'][special.is_text(row['targets'])] for row in itertools.islice(rows, count))
  return [source.vocabulary.decode(text.tolist()) for text in texts]


@pytest.mark.parametrize('rows_ready', [False, True])
@pytest.mark.parametrize('rates', [{'a': 1, 'b': 3}, {'a': 0.7, 'b': 0.3}, {'a': 2, 'b': 1, 'c': 5}], ids=str)
def test_shares_are_the_rates(rates, rows_ready):
  count = 4000
  with _mixed(rates, rows_ready) as source:
    seen = _examples(source, 'train', count)
  drawn = collections.Counter(example[0] for example in seen)
  for name, rate in rates.items():
    share = rate / sum(rates.values())
    assert abs(drawn[name] - count * share) < 5 * math.sqrt(count * share * (1 - share)), drawn
    if drawn[name] > 1.2 * SIZES[name]:
      assert len({example for example in seen if example[0] == name}) == SIZES[name]


@pytest.mark.parametrize('rows_ready', [False, True])
def test_every_held_out_example_comes_once(rows_ready):
  with _mixed({'a': 1, 'b': 3}, rows_ready) as source:
    seen = _examples(source, 'validation')
    batches = list(source.batches(next_token.NextToken(), 64, 'validation'))
  assert sorted(seen) == sorted(f'{name}{i:012d}' for name in 'ab' for i in range(SIZES[name]))
  assert len({example[0] for example in seen[:40]}) == 2, 'the first batches are of one task'
  ids = np.concatenate([batch['example_id'] for batch in batches])
  assert sorted(ids[ids >= 0]) == list(range(750))


def test_a_mixture_goes_on_where_it_was():
  with _mixed({'a': 1, 'b': 3}, rows_ready=False) as source:
    whole = list(itertools.islice(source.batches(next_token.NextToken(), 16), 30))
    later = list(itertools.islice(source.batches(next_token.NextToken(), 16, skip=20), 10))
  for a, b in zip(whole[20:], later, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
