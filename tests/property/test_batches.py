"""Held-out rows reach the model each exactly once, whatever the batches and the hosts; empty rows hold nothing."""

import random
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_table import TABLE
from plain_text import source
from unmask.objectives import masked_lm, next_token

LENGTH = 16
OBJECTIVES = ('next_token', 'mlm', 'causal_masked', 'meap')  # of text without units


def _texts(rows: int) -> list[str]:
  """One document of so many rows: it has two tokens more than it has letters."""
  letters = random.Random(0).choices(string.ascii_lowercase, k=rows * (LENGTH - 1))
  return [''.join(letters[3:])] if rows else []


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 50), local=st.integers(1, 24), hosts=st.sampled_from((1, 2, 4)))
def test_every_held_out_row_is_in_one_batch_of_one_host(rows, local, hosts):
  with source(_texts(rows), LENGTH) as opened:
    parts = [
      list(opened.batches(next_token.NextToken(), local * hosts, 'validation', host=host, num_hosts=hosts))
      for host in range(hosts)
    ]
  batches = -(-rows // (local * hosts))
  assert [len(part) for part in parts] == [batches] * hosts
  ids = np.concatenate([batch['example_id'] for part in parts for batch in part])
  assert ids.dtype == np.int64
  assert len(ids) == batches * local * hosts
  assert sorted(ids[ids >= 0]) == list(range(rows))
  assert set(ids[ids < 0]) <= {-1}


def test_a_split_of_nothing_has_no_batch():
  with source(_texts(0), LENGTH) as opened:
    assert list(opened.batches(next_token.NextToken(), 8, 'validation')) == []


@pytest.mark.parametrize('name', OBJECTIVES)
def test_a_row_of_padding_holds_nothing_and_changes_no_other(name):
  objective = TABLE[name].make()
  with source(_texts(11), LENGTH) as opened:
    (large,), single = (
      list(opened.batches(objective, 16, 'validation')),
      list(opened.batches(objective, 1, 'validation')),
    )
  for feature, value in large.items():
    assert np.all(value[11:] == (-1 if feature == 'example_id' else 0)), feature
    np.testing.assert_array_equal(value[:11], np.concatenate([row[feature] for row in single]))
  assert large['decoder_loss_weights'].any()
  assert (large['text_tokens'][:11] > 0).all()


def test_ids_of_training_rows_are_those_of_the_corpus():
  with source(_texts(20), LENGTH) as opened:
    rows = {int(row['example_id']): row['targets'] for row in opened.rows('train').as_numpy_iterator()}
    batches = opened.batches(masked_lm.MaskedLM(rate=1e-9), 8)
    for batch in (next(batches) for _ in range(5)):
      for number, targets in zip(batch['example_id'], batch['decoder_input_tokens'], strict=True):
        assert np.mean(rows[int(number)] == targets) > 0.8
