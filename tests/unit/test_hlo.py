"""Counting by the text of optimised HLO: loops, collectives in parts, products written as convolutions, kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unmask.launch import hlo, hlo_text

MODULE = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%product (p0: bf16[8,16], p1: bf16[16,32]) -> bf16[8,32] {
  %p0 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[16,32]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.1 = bf16[8,32]{1,0:T(8,128)(2,1)} convolution(%p0, %p1), dim_labels=bf_io->bf
}

%cut (p: f32[64,4]) -> f32[16,4] {
  %p = f32[64,4]{1,0} parameter(0)
  %all-reduce.2 = f32[64,4]{1,0} all-reduce(%p), channel_id=9, replica_groups={{0,1,2,3}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %slice = f32[16,4]{1,0} dynamic-slice(%all-reduce.2, %zero, %zero), dynamic_slice_sizes={16,4}
}

%start (p: bf16[4,16]) -> (bf16[4,16], bf16[16,16]) {
  %p = bf16[4,16]{1,0} parameter(0)
  %all-gather.5 = bf16[16,16]{1,0} all-gather(%p), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %c = (bf16[4,16]{1,0}, bf16[16,16]{1,0}) custom-call(%all-gather.5), custom_call_target="AsyncCollectiveStart"
}

%done (p: bf16[4,16]) -> bf16[16,16] {
  %p = bf16[4,16]{1,0} parameter(0)
  %all-gather.6 = bf16[16,16]{1,0} all-gather(%p), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %c = bf16[16,16]{1,0} custom-call(%all-gather.6), custom_call_target="AsyncCollectiveDone"
}

%inner_condition (i: (s32[], bf16[8,16], bf16[16,32])) -> pred[] {
  %i = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[16,32]{1,0}) parameter(0)
  %n = s32[]{:T(128)} get-tuple-element(%i), index=0
  %limit = s32[]{:T(128)} constant(5)
  ROOT %lt = pred[] compare(%n, %limit), direction=LT
}

%inner (i: (s32[], bf16[8,16], bf16[16,32])) -> (s32[], bf16[8,16], bf16[16,32]) {
  %i = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[16,32]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%i), index=0
  %one = s32[] constant(2)
  %next = s32[] add(%n, %one)
  %x = bf16[8,16]{1,0} get-tuple-element(%i), index=1
  %w = bf16[16,32]{1,0} get-tuple-element(%i), index=2
  %y = bf16[8,32]{1,0} fusion(%x, %w), kind=kOutput, calls=%product, backend_config={"window_config":{"estimated_cycles":"1000"}}
  ROOT %t = (s32[], bf16[8,16]{1,0}, bf16[16,32]{1,0}) tuple(%next, %x, %w)
}

%outer_condition (o: (s32[], f32[64,4])) -> pred[] {
  %o = (s32[], f32[64,4]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%o), index=0
  %limit = s32[] constant(7)
  ROOT %lt = pred[] compare(%n, %limit), direction=LT
}

%outer (o: (s32[], f32[64,4])) -> (s32[], f32[64,4]) {
  %o = (s32[], f32[64,4]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%o), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%n, %one)
  %g = f32[64,4]{1,0} get-tuple-element(%o), index=1
  %s = bf16[4,16]{1,0} constant({...})
  %async-collective-start.1 = (bf16[4,16]{1,0}, bf16[16,16]{1,0}) fusion(%s), kind=kCustom, calls=%start
  %async-collective-done.1 = bf16[16,16]{1,0} fusion(%s), kind=kCustom, calls=%done
  %rs = f32[16,4]{1,0} fusion(%g), kind=kCustom, calls=%cut, backend_config={"emitter":"all-reduce-scatter"}
  %zero = s32[] constant(1)
  %x = bf16[8,16]{1,0} constant({...})
  %w = bf16[16,32]{1,0} constant({...})
  %init = (s32[], bf16[8,16]{1,0}, bf16[16,32]{1,0}) tuple(%zero, %x, %w)
  %loop = (s32[], bf16[8,16]{1,0}, bf16[16,32]{1,0}) while(%init), condition=%inner_condition, body=%inner
  %copy.3 = f32[64,4]{1,0} copy(%g), backend_config={"window_config":{"estimated_cycles":"10"}}
  %splash_mha_fwd.3 = (f32[2,4,512,128]{3,2,1,0}) custom-call(%q, %k), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="splash"}
  %q = bf16[2,4,512,128]{3,2,1,0} constant({...})
  %k = bf16[2,4,512,128]{3,2,1,0} constant({...})
  ROOT %t = (s32[], f32[64,4]{1,0}) tuple(%next, %g)
}

ENTRY %main (a: f32[64,4]) -> f32[64,4] {
  %a = f32[64,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %init = (s32[], f32[64,4]{1,0}) tuple(%zero, %a)
  %loop = (s32[], f32[64,4]{1,0}) while(%init), condition=%outer_condition, body=%outer
  %ag = (f32[16,4]{1,0}, f32[64,4]{1,0}) all-gather-start(%a), channel_id=1, replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}
  %agd = f32[64,4]{1,0} all-gather-done(%ag)
  %recv = (f32[16,4]{1,0}, u32[], token[]) recv(%tok), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %cp = f32[64,4]{1,0} collective-permute(%agd), channel_id=2, source_target_pairs={{0,1},{1,3}}
}
"""  # noqa: E501


@pytest.fixture(scope='module')
def cost() -> hlo.Cost:
  return hlo.cost(MODULE)


def test_cycles_and_products_are_counted_as_often_as_their_loops_run(cost):
  # The inner loop counts 1, 3: its start, step and limit are all read. The outer runs 7 times.
  assert cost.cycles == 7 * (2 * 1000 + 10)
  assert cost.flops == 7 * 2 * 2 * 8 * 16 * 32
  assert cost.unknown_loops == 0


def test_a_collective_in_parts_is_one(cost):
  gathers = [one for one in cost.collectives if one.kind == 'all-gather' and one.times == 7]
  assert [(one.payload, one.overlapped, one.members) for one in gathers] == [(16 * 16 * 2, True, (0, 1, 2, 3))]


def test_bytes_by_kind(cost):
  assert cost.bytes_by_kind() == {
    'all-gather': 7 * 16 * 16 * 2 + 64 * 4 * 4,
    'between slices: all-reduce': 16 * 4 * 4,
    'collective-permute': 64 * 4 * 4,
    'reduce-scatter': 7 * 64 * 4 * 4,
  }


def test_only_what_is_waited_for_is_exposed(cost):
  assert {one.kind for one in cost.collectives if not one.overlapped} == {'reduce-scatter', 'collective-permute'}


def test_kernels_carry_calls_and_shapes(cost):
  (kernel,) = cost.kernels
  assert (kernel.name, kernel.times, kernel.operands) == ('splash_mha_fwd', 7, ((2, 4, 512, 128),) * 2)


def test_a_loop_of_unknown_length_is_said():
  text = MODULE.replace('%limit = s32[] constant(7)', '%limit = s32[] get-tuple-element(%o), index=0')
  found = hlo.cost(text)
  assert found.unknown_loops == 1
  assert found.cycles == 2 * 1000 + 10


def test_a_stated_trip_count_is_taken():
  body = 'condition=%outer_condition, body=%outer'
  found = hlo.cost(MODULE.replace(body, body + ', backend_config={"known_trip_count":{"n":"3"}}'))
  assert found.cycles == 3 * (2 * 1000 + 10)


@pytest.mark.parametrize(
  ('attributes', 'members'),
  [
    ('replica_groups={{0,4},{1,5},{2,6},{3,7}}', (0, 4)),
    ('replica_groups=[4,2]<=[2,4]T(1,0)', (0, 4)),
    ('replica_groups=[2,4]<=[8]', (0, 1, 2, 3)),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", (0, 4)),
    ("replica_groups=mesh['a'=8] {'a':(2)2}", (0, 2)),
    ('source_target_pairs={{0,1},{1,7}}', (1, 7)),
  ],
)
def test_groups_in_every_form(attributes, members):
  assert hlo_text.first_group(attributes) == members


@pytest.mark.parametrize(
  ('window', 'labels', 'left', 'right', 'out', 'products'),
  [
    # A product over heads, as libtpu writes it: of the window's four places one meets the input, the rest padding.
    (
      'size=1x4 pad=0_0x3_3 rhs_reversal=0x1',
      '0bf1_i1o0->0b1f',
      (2, 512, 256, 1),
      (256, 4, 128, 1),
      (2, 512, 4, 128),
      4,
    ),
    ('size=3 pad=1_1', 'b0f_0io->b0f', (2, 10, 8), (3, 8, 16), (2, 10, 16), 28 / 10),
  ],
)
def test_padding_is_no_work(window, labels, left, right, out, products):
  one = hlo_text.Instruction(
    name='c',
    computation='x',
    shape='',
    opcode='convolution',
    operands=(),
    attributes=f'window={{{window}}}, dim_labels={labels}',
    root=False,
  )
  contracted = right[labels.split('_')[1].index('i')]
  positions = np.prod(out) / (4 if len(out) == 4 else 1)
  assert hlo_text.convolution_flops(one, left, right, out) == pytest.approx(2 * positions * contracted * products)


def test_cpu_programs_are_counted_too():
  def chain(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  shapes = jnp.zeros((32, 64)), jnp.zeros((5, 64, 64))
  found = hlo.cost(jax.jit(chain).lower(*shapes).compile().as_text())
  assert (found.flops, found.cycles, found.unknown_loops) == (5 * 2 * 32 * 64 * 64, 0, 0)
