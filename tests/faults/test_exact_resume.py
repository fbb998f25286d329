"""Stopped and resumed is never stopped, to the bit, for every objective; and no example is read twice or left out."""

import itertools
import json

import numpy as np
import pytest
import runs
import virtual_devices
from unmask.objectives.causal_masked import CausalMasked
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.next_token import NextToken

NAMES = sorted(path.stem for path in (runs.ROOT / 'gin' / 'objectives').glob('*.gin'))
NEED_ANSWERS = ('meap_fine_tuning', 'answers_only')  # rows of questions; the same data position and state as the others
SETTINGS = {'TRAIN_STEPS': 7, 'CHECKPOINT_PERIOD': 2, 'EVAL_PERIOD': 2, 'train.microbatches': 2}
RUN = SETTINGS | {'devices': 2, 'environment': {'XLA_FLAGS': virtual_devices.flags(2)}}


@pytest.mark.parametrize('objective', [name for name in NAMES if name not in NEED_ANSWERS])
def test_every_objective(objective, zygote, tmp_path):
  """With accumulation, evaluations and the corpus's shuffled rows; rows hold several documents, end to end.

  So every shipped gin file of an objective is trained here by the real entry.
  """
  zygote.train(tmp_path / 'whole', objective, **RUN)
  assert json.loads((tmp_path / 'whole' / 'done.json').read_text())['tokens_read'] > 0
  losses = [row['loss'] for row in runs.lines(tmp_path / 'whole') if 'loss' in row]
  assert len(losses) == 7
  assert all(loss > 0 for loss in losses)
  zygote.train(tmp_path / 'parts', objective, **RUN | {'train.stop_at': 3})
  zygote.train(tmp_path / 'parts', objective, **RUN)
  again = runs.lines(tmp_path / 'parts')
  extra = [row for row in again if row['step'] == 3 and 'eval/loss' in row]  # a run's last update is evaluated
  assert len(extra) == 1
  assert [row for row in again if row not in extra] == runs.lines(tmp_path / 'whole')
  (step, whole, position), (other_step, parts, other_position) = (
    runs.final(tmp_path / name) for name in ('whole', 'parts')
  )
  assert (step, position) == (other_step, other_position) == (7, position)
  assert whole.keys() == parts.keys()
  for name, leaf in whole.items():
    np.testing.assert_array_equal(leaf, parts[name], err_msg=name)


@pytest.mark.parametrize('objective', [NextToken(), CausalMasked(), MaskedLM()], ids=lambda o: type(o).__name__)
def test_an_epoch_reads_each_example_once_however_often_it_stops(objective, default_source):
  """By id: what is read between interruptions, put together, is every row once in each epoch."""
  in_order = default_source.stream('train', objective).take(9000).as_numpy_iterator()
  rows, size = sum(int(row['epoch'] == 0) for row in in_order), 64
  stops = np.cumsum(np.random.default_rng(0).integers(1, 70, 40))
  stops = [0, *(int(stop) for stop in stops if stop < 2 * rows // size), 2 * rows // size]
  ids = []
  for begin, end in itertools.pairwise(stops):
    batches = default_source.batches(objective, size, skip=begin)
    ids += [next(batches)['example_id'] for _ in range(begin, end)]
  ids = np.concatenate(ids)
  first, second = ids[:rows], ids[rows:]
  assert len(set(first.tolist())) == rows
  assert len(set(second.tolist())) == len(second)
  assert first[: len(second)].tolist() != second.tolist()  # another epoch has another order
