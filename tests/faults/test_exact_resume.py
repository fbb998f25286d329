"""Stopped and resumed is never stopped, to the bit, for every objective; and no example is read twice or left out."""

import itertools
import json
import os
import shutil

import numpy as np
import pytest
import runs
import virtual_devices
from unmask.objectives.next_token import NextToken

NAMES = sorted(path.stem for path in (runs.ROOT / 'gin' / 'objectives').glob('*.gin'))
# Rows of questions: the same data position and state as the others. A scorer: see below.
NEED_MORE = ('meap_fine_tuning', 'answers_only', 'guided_masking')
# The core; and those whose rows or losses depend on more than the row: parts, stages, a rate that falls, places in the
# batch, tokens drawn on the device, who sees whom drawn there, each kind of network or table beside the decoder. The
# others change rows on the host alone, as those of the core do, and are stopped too where UNMASK_RESUMED=all.
RESUMED = ['next_token', 'causal_masked', 'mlm', 'pmi_masking', 'salient_span', 'meap']
RESUMED += ['gpt_bert', 'antlm', 'mlm_schedule', 'masked_diffusion', 'electra', 'dup_mae', 'ernie_gram', 'bpdec']
SETTINGS = {'TRAIN_STEPS': 7, 'CHECKPOINT_PERIOD': 2, 'EVAL_PERIOD': 2, 'train.microbatches': 2}
RUN = SETTINGS | {'devices': 2, 'environment': {'XLA_FLAGS': virtual_devices.flags(2)}}


def _stops(objective: str) -> bool:
  return objective in RESUMED or os.environ.get('UNMASK_RESUMED') == 'all'


@pytest.mark.parametrize('objective', [name for name in NAMES if name not in NEED_MORE])
def test_every_objective(objective, zygote, tmp_path):
  """With accumulation, evaluations and the corpus's shuffled rows; rows hold several documents, end to end.

  So every shipped gin file of an objective is trained here by the real entry. The run that goes on is a copy of what
  was there after update 4: what an interruption leaves is tested in test_preemption and test_kills.
  """
  zygote.train(tmp_path / 'whole', objective, **RUN)
  assert json.loads((tmp_path / 'whole' / 'done.json').read_text())['tokens_read'] > 0
  losses = [row['loss'] for row in runs.lines(tmp_path / 'whole') if 'loss' in row]
  assert len(losses) == 7
  assert all(loss > 0 for loss in losses)
  if not _stops(objective):
    return
  shutil.copytree(tmp_path / 'whole', tmp_path / 'parts')
  for gone in (6, 7):
    shutil.rmtree(tmp_path / 'parts' / 'checkpoints' / str(gone))
  assert runs.steps(tmp_path / 'parts') == [4]
  (tmp_path / 'parts' / 'done.json').unlink()
  assert '4/7' in zygote.train(tmp_path / 'parts', objective, **RUN)
  runs.assert_same(tmp_path / 'whole', tmp_path / 'parts')
  assert runs.final(tmp_path / 'parts')[0] == 7


def test_a_scorer_is_needed_once(zygote, tmp_path):
  """Masks by another run's model: its bits are the run's own, and what goes on does not miss that run."""
  scorer, whole, parts = (tmp_path / name for name in ('scorer', 'whole', 'parts'))
  shape = {'DecoderConfig.embed_dim': 16, 'DecoderConfig.num_layers': 1, 'TRAIN_STEPS': 2}
  zygote.train(scorer, 'next_token', **RUN | shape)
  given = RUN | {'Frozen.checkpoint': str(scorer)}
  zygote.train(whole, 'guided_masking', **given)
  _, own, _ = runs.final(scorer)
  step, state, _ = runs.final(whole)
  asked = {name: value for name, value in state.items() if "['guide']" in name}
  assert step == 7
  assert {name.replace("['guide']", '') for name in asked} == {name for name in own if "['params']" in name}
  runs.assert_same_arrays(
    {name.replace("['guide']", ''): value for name, value in asked.items()},
    {name: value for name, value in own.items() if "['params']" in name},
  )
  shutil.copytree(whole, parts)
  for gone in (6, 7):
    shutil.rmtree(parts / 'checkpoints' / str(gone))
  (parts / 'done.json').unlink()
  shutil.rmtree(scorer)
  assert '4/7' in zygote.train(parts, 'guided_masking', **given)
  runs.assert_same(whole, parts)


def test_an_epoch_reads_each_example_once_however_often_it_stops(default_source):
  """By id: what is read between interruptions, put together, is every row once in each epoch.

  Of whichever objective: rows are counted and left out before it sees them.
  """
  objective = NextToken()
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
