"""Model FLOPs by what attention lets through: ordered layers by half, parts by their share of the rows."""

import dataclasses
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from unmask.launch import mesh
from unmask.launch.program import Program, token_flops, update_flops
from unmask.models import attention
from unmask.models.config import DecoderConfig
from unmask.objectives import (
  MEAP,
  AttentionSpec,
  Bottleneck,
  BPDec,
  CausalMasked,
  ERNIEGram,
  ForgetfulCausal,
  MaskedDiffusion,
  MaskedLM,
  Mixture,
  NextToken,
  PMIMasking,
  PrefixLM,
  SalientSpan,
  SpanCorruption,
  Stages,
  by_layer,
)
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, PREFIX

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=4
)
LENGTH = 64
TWO = {'causal': NextToken(), 'masked': MaskedLM()}


def _flops(objective, text_length: int = LENGTH, batch_size: int = 1) -> float:
  return update_flops(CONFIG, objective, text_length, batch_size)


def _by_hand(positions: int, scored: int, visible: float) -> float:
  blocks = 4 * (32 * 8 * (2 * 4 + 2 * 2) + 3 * 32 * 64)
  return 6 * blocks * positions + 12 * 4 * 4 * 8 * positions * positions * visible + 6 * 32 * 512 * scored


@pytest.mark.parametrize(
  ('rule', 'share'),
  [
    (CAUSAL, 0.5),
    (BIDIRECTIONAL, 1.0),
    (by_layer('01'), 0.75),
    (by_layer('0001'), 0.625),
    (AttentionSpec(ordered=True, block=8), 0.5 + 7 / 128),
    (AttentionSpec(ordered=True, block=64), 1 - 1 / 128),
  ],
  ids=str,
)
def test_the_share_is_that_of_the_pairs_that_the_mask_leaves(rule, share):
  """Of one segment that fills the row; an ordered layer without half of its diagonal, as the convention is."""
  segments, levels = jnp.ones((1, LENGTH), jnp.int32), jnp.arange(LENGTH)[None] // rule.block
  left = 0.0
  for layer in range(4):
    ordered = rule.ordered_in(layer, 4)
    left += float(attention.visible(segments, ordered, levels).sum()) - (LENGTH / 2 if ordered else 0)
  assert rule.visible_share(LENGTH) == share == pytest.approx(left / 4 / LENGTH**2)


def test_blocks_longer_than_a_row_see_all_of_it():
  assert AttentionSpec(ordered=True, block=1000).visible_share(LENGTH) == 1.0


def test_what_rows_hide_by_tables_or_show_by_levels_is_not_counted():
  assert ForgetfulCausal().attention.visible_share(LENGTH) == 0.5
  assert ERNIEGram().attention.visible_share(LENGTH) == 1.0
  assert PREFIX.visible_share(LENGTH) == 1.0


@pytest.mark.parametrize(
  ('objective', 'visible'),
  [
    (NextToken(), 0.5),
    (CausalMasked(), 0.5),
    (MaskedLM(), 1.0),
    (PMIMasking(), 1.0),
    (SalientSpan(), 1.0),
    (MEAP(), 0.5),
    (ForgetfulCausal(), 0.5),
    (Bottleneck(), 0.5),
    (MaskedLM(attention=by_layer('01')), 0.75),
    (MaskedLM(attention=by_layer('10')), 0.75),
    (PrefixLM(), 1.0),
    (PrefixLM(attention=CAUSAL), 0.5),
    (SpanCorruption(), 1.0),
    (MaskedDiffusion(), 1.0),
    (MaskedDiffusion(attention=AttentionSpec(ordered=True, block=9)), 0.5 + 8 / 128),
  ],
  ids=lambda value: type(value).__name__,
)
def test_flops_are_by_half_where_attention_is_ordered(objective, visible):
  positions, scored = objective.model_length(LENGTH), objective.max_supervised(LENGTH)
  assert _flops(objective, batch_size=3) == pytest.approx(3 * _by_hand(positions, scored, visible), rel=1e-12)


def test_what_cannot_be_seen_now_and_then_costs_what_next_token_prediction_costs():
  assert _flops(ForgetfulCausal()) == _flops(NextToken()) == _flops(MEAP())
  room = Bottleneck(room=16)
  assert _flops(room) == pytest.approx(_by_hand(LENGTH + 16, room.max_supervised(LENGTH), 0.5))


def test_networks_beside_the_decoder_see_as_it_does():
  """Extra layers are counted as more of the decoder's."""
  for rule in (CAUSAL, BIDIRECTIONAL):
    deeper = dataclasses.replace(CONFIG, num_layers=6)
    plain = update_flops(deeper, MaskedLM(attention=rule), LENGTH, 1)
    assert _flops(BPDec(attention=rule, layers=2)) == plain


def test_stages_count_each_part_by_its_updates():
  causal, masked = _flops(NextToken()), _flops(MaskedLM())
  staged = Stages(parts=TWO, order=[('causal', 1), ('masked', 3)], steps=600)
  assert _flops(staged) == pytest.approx(0.25 * causal + 0.75 * masked)
  back = Stages(parts=TWO, order=[('causal', 1), ('masked', 1), ('causal', 1)], steps=10)
  assert back.starts == (0, 4, 7)
  assert back.row_shares == {'causal': pytest.approx(0.7), 'masked': pytest.approx(0.3)}
  assert _flops(back) == pytest.approx(0.7 * causal + 0.3 * masked)


def test_a_mixture_counts_each_part_by_its_rows():
  mixed = Mixture(parts=TWO, shares={'causal': 1, 'masked': 15})
  assert _flops(mixed) == pytest.approx(_flops(NextToken()) / 16 + _flops(MaskedLM()) * 15 / 16)
  alike = Mixture(parts={'a': NextToken(), 'b': MEAP()})
  assert _flops(alike) == _flops(NextToken())


@pytest.mark.parametrize('kind', ['stages', 'mixture'])
def test_an_update_is_counted_by_the_rows_that_it_read(kind):
  """So utilisation is right in every stage, and a run's total is of what it read, not of what it was meant to."""
  parts = Mixture(parts=TWO)
  if kind == 'stages':
    parts = Stages(parts=TWO, order=[('causal', 1), ('masked', 3)], steps=600)
  useful = lambda objective, rows: _program(objective).useful_flops({'padding': 0.25, 'scored': 40.0} | rows)
  causal, masked = useful(NextToken(), {}), useful(MaskedLM(), {})
  assert masked - causal == pytest.approx(12 * 4 * 4 * 8 * LENGTH * 0.5 * 8 * 0.75 * LENGTH)
  assert useful(parts, {'causal/rows': 8.0, 'masked/rows': 0.0}) == causal
  assert useful(parts, {'causal/rows': 0.0, 'masked/rows': 8.0}) == masked
  assert useful(parts, {'causal/rows': 2.0, 'masked/rows': 6.0}) == pytest.approx(causal / 4 + masked * 3 / 4)
  nothing = {'padding': 1.0, 'scored': 0.0, 'causal/rows': 0.0, 'masked/rows': 0.0}
  assert _program(parts).useful_flops(nothing) == 0


def test_a_token_costs_an_update_over_the_tokens_that_it_reads():
  """Of the text: positions that an objective adds cost, and are no tokens."""
  for objective in (NextToken(), CausalMasked(), Mixture(parts=TWO)):
    assert token_flops(CONFIG, objective, LENGTH) * 16 * LENGTH == pytest.approx(_flops(objective, batch_size=16))
  assert token_flops(CONFIG, CausalMasked(), LENGTH) > 1.2 * token_flops(CONFIG, NextToken(), LENGTH)


def test_the_page_has_what_a_token_costs_under_every_gin_file():
  spec = importlib.util.spec_from_file_location('make_flops', ROOT / 'docs' / 'make_flops.py')
  make_flops = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make_flops)
  page = (ROOT / 'docs' / 'objectives.md').read_text(encoding='utf-8')
  table = make_flops.table()
  names = re.findall(r'(?m)^\| `(\w+)` \| [\d.]+ \| [\d.]+ \|$', table)
  assert sorted(names) == sorted(path.stem for path in (ROOT / 'gin' / 'objectives').glob('*.gin'))
  (written,) = make_flops.TABLE.finditer(page)
  assert written[0] == table, 'run python docs/make_flops.py'
  # By hand: 4 layers of 128 with 384 between, 8,192 ids, 128 tokens a row.
  blocks, head = 4 * (4 * 128 * 128 + 3 * 128 * 384), 128 * 8192
  assert f'| `next_token` | {(6 * (blocks + head) + 12 * 4 * 128 * 128 * 0.5) / 1e6:.3f} | 1.00 |' in page


def _program(objective) -> Program:
  return Program(
    model=CONFIG,
    objective=objective,
    text_length=LENGTH,
    batch_size=8,
    optimizer=optax.sgd(0.1),
    mesh=mesh.MeshConfig(data=1).build(jax.devices()[:1]),
  )
