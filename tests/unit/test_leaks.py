"""Who learns of the next token, against products of masks; and that a run is refused where it is the target."""

import dataclasses
import time

import numpy as np
import pytest
from objective_table import TABLE, corrupt, make_rows
from unmask import UserError
from unmask.launch import inspection, leaks, loop
from unmask.models.config import DecoderConfig
from unmask.objectives import features
from unmask.objectives.attention import CAUSAL, PREFIX, AttentionSpec, by_layer
from unmask.objectives.bottleneck import BOTTLENECK
from unmask.objectives.mixture import Mixture
from unmask.objectives.next_token import NextToken
from unmask.objectives.prefix_lm import PrefixLM


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaky(NextToken):
  """All tokens of one level, or `pairs` of them: each is scored, and all or every second see what against."""

  attention: AttentionSpec = PREFIX
  pairs: bool = False

  @property
  def more_features(self):
    return ('decoder_levels',)

  def corrupt(self, rows, seeds, special):
    made = super().corrupt(rows, seeds, special)
    levels = features.positions(rows['segment_ids']) // 2
    return made | {'decoder_levels': levels if self.pairs else 0 * levels}


def _slow(spec: AttentionSpec, row: dict[str, np.ndarray]) -> np.ndarray:
  """Through sixteen layers of each of the rule's groups."""
  index = np.arange(len(row['decoder_segment_ids']))
  levels = row['decoder_levels'] if spec.levels else index
  levels = row['decoder_positions'] // spec.block if spec.block > 1 else levels
  groups = row['decoder_groups'] if spec.table else 0 * index
  table = np.array(spec.table or [[True]])
  segments = row['decoder_segment_ids']
  same = (segments[:, None] == segments) & (segments > 0)
  ordered = (spec.ordered,) if isinstance(spec.ordered, bool) else spec.ordered
  reach = np.eye(len(index), dtype=bool)
  for layer in ordered:
    lower = (levels <= levels[:, None]) | (not layer)
    sees = same & ((table[groups[:, None], groups] & lower) | np.eye(len(index), dtype=bool))
    for _ in range(16):
      reach = sees @ reach
  return np.append(reach[index[:-1], index[1:]], False)


@pytest.mark.parametrize('seed', range(12))
def test_it_is_what_products_of_all_masks_give(seed):
  random = np.random.default_rng(seed)
  seen = 0
  for _ in range(60):
    count, length = int(random.integers(1, 4)), int(random.integers(2, 14))
    table = tuple(map(tuple, random.random((count, count)) < 0.5))
    ordered = [True, (True, False), (False, True), False, (True, True)][random.integers(5)]
    levels = bool(random.integers(2))
    block = 1 if levels else int(random.integers(1, 4))
    spec = AttentionSpec(ordered=ordered, table=table if random.random() < 0.8 else None, levels=levels, block=block)
    segments = np.sort(random.integers(1, 3, length))
    segments[length - int(random.integers(0, 2)) :] = 0
    row = {
      'decoder_segment_ids': segments,
      'decoder_positions': np.concatenate([np.arange((segments == number).sum()) for number in (1, 2, 0)]),
      'decoder_levels': random.integers(-1, 4, length),
      'decoder_groups': random.integers(0, count, length),
    }
    found = leaks.next_is_seen(spec, row)
    np.testing.assert_array_equal(found, _slow(spec, row), err_msg=f'{spec} {spec.levels} {row}')
    seen += found.sum()
  assert seen > 20


@pytest.mark.parametrize('name', sorted(TABLE))
def test_no_shipped_objective_is_refused(name):
  objective = TABLE[name].make()
  if objective.shift and objective.reads_targets:
    made = corrupt(objective, make_rows(np.random.default_rng(5), 16, 40))
    leaks.require_hidden(objective, made)
    if objective.attention.levels:  # and all of them are looked at
      with pytest.raises(UserError, match='trains on its own targets'):
        leaks.require_hidden(objective, made | {'decoder_levels': made['decoder_levels'] * 0})


def test_a_run_that_would_train_on_its_own_targets_is_refused(default_source):
  leaks.check(PrefixLM(), default_source)
  with pytest.raises(UserError, match=r'Leaky trains on its own targets: in row \d+, position 0 .*levels 0 and 0'):
    leaks.check(Leaky(), default_source)
  with pytest.raises(UserError, match='position 0 is scored against the token of position 1'):
    leaks.check(Leaky(pairs=True), default_source)
  mixed = Mixture(parts={'often': NextToken(), 'rare': Leaky()}, shares={'often': 1.0, 'rare': 1e-6})
  with pytest.raises(UserError, match='rare: Leaky trains on its own targets'):
    leaks.check(mixed, default_source)


def test_what_stands_masked_in_the_input_is_no_leak():
  made = corrupt(Leaky(), make_rows(np.random.default_rng(0), 4, 24))
  with pytest.raises(UserError):
    leaks.require_hidden(Leaky(), made)
  leaks.require_hidden(Leaky(), made | {'decoder_input_tokens': np.full_like(made['decoder_input_tokens'], 4)})


@pytest.mark.parametrize('spec', [PREFIX, BOTTLENECK, CAUSAL, by_layer('01')], ids=repr)
def test_long_rows_are_quick(spec):
  length = 2048
  row = {'decoder_segment_ids': np.ones(length, np.int32), 'decoder_levels': np.arange(length)}
  row['decoder_groups'] = np.arange(length) % 3
  began = time.process_time()
  for _ in range(64):
    assert leaks.next_is_seen(spec, row).any() == (spec == by_layer('01'))
  assert time.process_time() - began < 2  # seconds of CPU, for 64 rows


def test_training_and_inspect_refuse_it_before_anything_is_written(default_source, tmp_path):
  model = DecoderConfig(embed_dim=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=8, mlp_dim=16)
  how = {'objective': Leaky(), 'model': model, 'pipeline': default_source.config}
  with pytest.raises(UserError, match='Leaky trains on its own targets'):
    loop.train(model_dir=str(tmp_path), train_steps=1, batch_size=8, **how)
  assert not list(tmp_path.glob('*.json'))
  with pytest.raises(UserError, match='Leaky trains on its own targets'):
    inspection.inspect(**how)
