"""Attention rules as the compiled decoder follows them, against loops: who learns of whom through all layers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unmask import UserError
from unmask.launch.step import hidden_states
from unmask.models import attention as device
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, AttentionSpec, by_layer
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.next_token import NextToken

CONFIG = DecoderConfig(embed_dim=16, num_layers=4, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=24).with_vocabulary(
  32
)
LENGTH = 9
SEGMENTS = np.array([1, 1, 1, 1, 1, 1, 2, 2, 0])
LEVELS = np.array([0, 0, 3, 1, 2, 2, 0, 5, 0])
GROUPS = np.array([0, 1, 1, 2, 0, 2, 1, 0, 0])
TABLE = ((True, True, False), (False, True, True), (True, False, False))
RULES = {
  **{pattern: by_layer(pattern) for pattern in ('0', '1', '01', '10', '0011', '0101', '1000', '0110')},
  'levels': AttentionSpec(ordered=True, levels=True),
  'levels_0101': AttentionSpec(ordered=(True, False, True, False), levels=True),
  'blocks': AttentionSpec(ordered=True, block=2),
  'blocks_01': AttentionSpec(ordered=(True, False), block=3),
  'table': AttentionSpec(ordered=True, table=TABLE),
  'table_0011': AttentionSpec(ordered=(True, True, False, False), table=TABLE, levels=True),
}


def _sees(spec: AttentionSpec, layer: int) -> np.ndarray:
  """The rule of the module's docstring, a pair at a time."""
  sees = np.zeros((LENGTH, LENGTH), bool)
  level = LEVELS if spec.levels else np.arange(LENGTH) // spec.block
  for i, j in itertools.product(range(LENGTH), repeat=2):
    allowed = spec.table is None or spec.table[GROUPS[i]][GROUPS[j]]
    lower = level[j] <= level[i] or not spec.ordered_in(layer, CONFIG.num_layers)
    sees[i, j] = SEGMENTS[i] and SEGMENTS[i] == SEGMENTS[j] and (i == j or (allowed and lower))
  return sees


@pytest.mark.parametrize('name', RULES)
def test_what_a_position_learns_of(name):
  """A token that is changed changes exactly the outputs that it reaches through the layers."""
  spec = RULES[name]
  reach = np.eye(LENGTH, dtype=bool)
  for layer in range(CONFIG.num_layers):
    reach = (_sees(spec, layer) | np.eye(LENGTH, dtype=bool)) @ reach
  decoder = Decoder(CONFIG)
  tokens = 1 + np.arange(LENGTH)
  changed = np.where(np.eye(LENGTH, dtype=bool), 20 + np.arange(LENGTH), tokens)
  inputs = np.concatenate([tokens[None], changed])
  wide = lambda row: jnp.broadcast_to(jnp.asarray(row, jnp.int32), inputs.shape)
  batch = {
    'decoder_input_tokens': jnp.asarray(inputs, jnp.int32),
    'decoder_positions': wide(np.arange(LENGTH)),
    'decoder_segment_ids': wide(SEGMENTS),
    'decoder_levels': wide(LEVELS),
    'decoder_groups': wide(GROUPS),
  }
  params = jax.jit(lambda: decoder.init(jax.random.key(0), *list(batch.values())[:3])['params'])()
  hidden = np.asarray(jax.jit(lambda params, batch: hidden_states(decoder, params, batch, spec))(params, batch))
  learned = (np.abs(hidden[1:] - hidden[:1]) > 0).any(axis=-1).T  # output by changed token
  real = SEGMENTS > 0
  np.testing.assert_array_equal(learned[real], reach[real])


@pytest.mark.parametrize('name', RULES)
def test_masks_are_those_of_the_loops(name):
  spec = RULES[name]
  levels, groups = (LEVELS if spec.levels else np.arange(LENGTH) // spec.block), (GROUPS if spec.table else None)
  row = lambda value: None if value is None else jnp.asarray(value)[None]
  for layer in range(CONFIG.num_layers):
    ordered = spec.ordered_in(layer, CONFIG.num_layers)
    mask = device.visible(row(SEGMENTS), ordered, row(levels), row(groups), spec.table)
    real = SEGMENTS > 0
    np.testing.assert_array_equal(np.asarray(mask)[0][real], _sees(spec, layer)[real])


def test_patterns_are_bit_strings_from_the_bottom():
  assert by_layer('0011').ordered == (True, True, False, False)
  assert [by_layer('01').ordered_in(layer, 4) for layer in range(4)] == [True, True, False, False]
  assert [by_layer('1').ordered_in(0, 4), by_layer('0').ordered_in(3, 4)] == [False, True]
  assert BIDIRECTIONAL.kind == 'bidirectional'
  assert CAUSAL.kind == 'causal'
  assert by_layer('01').kind == 'general'


@pytest.mark.parametrize('pattern', ['', '012', 'upper', 11, None])
def test_what_is_no_pattern_is_refused(pattern):
  with pytest.raises(UserError, match=r'by_layer\.pattern'):
    by_layer(pattern)


def test_layers_that_make_no_groups_are_named():
  decoder, row = Decoder(CONFIG), jnp.ones((1, 8), jnp.int32)
  with pytest.raises(UserError, match='3 groups of layers'):
    jax.eval_shape(lambda: decoder.init(jax.random.key(0), row, row, row, ordered=by_layer('001').ordered))
  with pytest.raises(UserError, match='3 groups'):
    by_layer('001').ordered_in(0, 4)


def test_a_next_token_loss_beside_an_open_layer_is_refused():
  for pattern in ('0001', '1000', '1'):
    with pytest.raises(UserError, match='every layer must be causal'):
      NextToken(attention=by_layer(pattern))
  assert MaskedLM(attention=by_layer('0001'), shifted=True).attention.ordered[3] is False


def test_blocks():
  assert repr(AttentionSpec()) == 'AttentionSpec(ordered=True, table=None)'  # older model directories have this text
  assert repr(AttentionSpec(block=4)) == 'AttentionSpec(ordered=True, table=None, block=4)'
  assert AttentionSpec(block=4).kind == 'general'
  for wrong in ({'block': 0}, {'block': 2.0}, {'block': 2, 'levels': True}):
    with pytest.raises(UserError, match=r'AttentionSpec\.block'):
      AttentionSpec(**wrong)
  with pytest.raises(UserError, match='every layer must be causal'):
    NextToken(attention=AttentionSpec(block=4))


def test_levels_belong_to_those_who_give_them():
  with pytest.raises(UserError, match='no levels'):
    NextToken(attention=AttentionSpec(ordered=True, levels=True))
