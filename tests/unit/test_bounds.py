"""The bound on a step: links of the torus, kernels' FLOPs, what is added and what is hidden."""

import dataclasses
import types

import jax
import pytest
from unmask.launch import bounds, devices, hlo, mesh, optimizers
from unmask.launch.program import Program
from unmask.models.config import DecoderConfig
from unmask.objectives.next_token import NextToken

V5E, V5P = devices.CHIPS['TPU v5 lite'], devices.CHIPS['TPU v5']


def _slice(*sizes: int) -> list:
  count = [(x, y, z) for x in range(sizes[0]) for y in range(sizes[1]) for z in range(sizes[2])]
  return [types.SimpleNamespace(coords=place) for place in count]


@pytest.mark.parametrize(
  ('chip', 'sizes', 'members', 'links'),
  [
    (V5E, (4, 4, 1), range(16), 2),  # a corner of a mesh without wrap-around
    (V5E, (16, 16, 1), range(256), 4),  # both axes close
    (V5E, (8, 16, 1), range(128), 3),  # one does
    (V5E, (2, 2, 1), (0, 1), 1),
    (V5E, (1, 1, 1), (0,), 0),
    (V5P, (4, 4, 4), range(64), 6),
    (V5P, (2, 2, 1), range(4), 2),
    (V5P, (2, 4, 4), range(32), 3),  # no whole cube, so nothing closes
  ],
)
def test_links_of_the_worst_placed_chip(chip, sizes, members, links):
  assert bounds.links_in(_slice(*sizes), tuple(members), chip) == links


def test_a_group_uses_the_axes_it_spans():
  one_slice = _slice(4, 4, 4)
  line = tuple(i for i, device in enumerate(one_slice) if device.coords[:2] == (0, 0))
  assert bounds.links_in(one_slice, line, V5P) == 2


@pytest.mark.parametrize(
  ('name', 'fused', 'products'),
  [
    ('splash_mha_fwd_segmented_residuals', False, 2),
    ('splash_mha_dq_segmented_no_residuals', False, 3),
    ('splash_mha_dkv_segmented_no_residuals', False, 4),
    ('splash_mha_dkv_segmented_no_residuals', True, 5),
    ('my_kernel', False, 0),
  ],
)
def test_kernels_flops(name, fused, products):
  arrays = ((2, 8, 512, 128), (2, 2, 1024, 128), (2, 2, 1024, 128))
  kernel = hlo.Kernel(name=name, operands=arrays, times=3, fused_backward=fused)
  whole = products * 2 * 2 * 8 * 512 * 1024 * 128
  assert bounds.kernel_flops(kernel, causal=False) == whole
  assert bounds.kernel_flops(kernel, causal=True) == whole / 2


def _tpu_program(count: int = 16) -> Program:
  """A program on devices that only say what they are."""
  model = DecoderConfig(vocab_size=1024)
  real = mesh.MeshConfig(data=1, fsdp=1).build([jax.devices()[0]])
  program = Program(
    model=model,
    objective=NextToken(),
    text_length=128,
    batch_size=count,
    optimizer=optimizers.Optimizer().build(10),
    mesh=real,
  )
  places = _slice(4, 4, 1)
  found = [types.SimpleNamespace(coords=d.coords, device_kind='TPU v5 lite', platform='tpu') for d in places]
  flat = types.SimpleNamespace(flat=found, size=len(found))
  return dataclasses.replace(program, mesh=types.SimpleNamespace(devices=flat))


def _cost(**changes) -> hlo.Cost:
  gather = hlo.Collective(kind='all-gather', payload=16e9, members=tuple(range(16)), times=1, overlapped=True)
  plain = {'cycles': 1.5e9, 'flops': 1e12, 'collectives': (gather,), 'kernels': (), 'unknown_loops': 0}
  return hlo.Cost(**(plain | changes))


def test_what_overlaps_is_not_added_and_what_is_waited_for_is():
  program = _tpu_program()
  hidden = bounds.of_cost(_cost(), program, 0)
  assert hidden.compute == pytest.approx(1.0)
  assert hidden.overlapped == pytest.approx(15e9 / (2 * V5E.link))  # 15/16 of it through the corner's two links
  assert hidden.seconds == pytest.approx(1.0)
  assert hidden.serial == pytest.approx(1.0 + hidden.overlapped)
  assert hidden.mfu == pytest.approx(program.train_flops() / 16 / V5E.peak_flops)
  waited = dataclasses.replace(_cost().collectives[0], overlapped=False, kind='all-reduce')
  exposed = bounds.of_cost(_cost(collectives=(waited,)), program, 0)
  assert exposed.seconds == pytest.approx(1.0 + 2 * 15e9 / (2 * V5E.link))


def test_the_peak_bounds_too():
  assert bounds.of_cost(_cost(flops=2 * V5E.peak_flops), _tpu_program(), 0).seconds == pytest.approx(2.0)


def test_kernels_fill_the_matrix_unit_by_their_head():
  arrays = ((1, 1, 8192, 64),) * 3
  kernel = hlo.Kernel(name='splash_mha_fwd', operands=arrays, times=10)
  found = bounds.of_cost(_cost(kernels=(kernel,)), _tpu_program(), 0)
  flops = 10 * 2 * 2 * 8192 * 8192 * 64 / 2
  assert found.kernels == pytest.approx(flops / V5E.peak_flops * 2)
  assert found.compiled_flops == pytest.approx(1e12 + flops)


def test_without_cycles_a_roofline():
  found = bounds.of_cost(_cost(cycles=0.0, flops=V5E.peak_flops), _tpu_program(), 3 * V5E.bandwidth)
  assert (found.basis, found.seconds) == ('roofline', pytest.approx(3.0))


def test_a_compiled_step_on_this_machine():
  program = Program(
    model=DecoderConfig(vocab_size=512, num_layers=2),
    objective=NextToken(),
    text_length=64,
    batch_size=8,
    optimizer=optimizers.Optimizer().build(10),
    mesh=mesh.MeshConfig(data=1, fsdp=8).build(),
  )
  found = bounds.of_compiled(program.compile(), program)
  assert found.basis == 'roofline'
  assert 0 < found.mfu <= 1
  assert found.compiled_flops > found.model_flops
  assert 'MFU at most' in found.line()


def test_an_unknown_device_has_no_bound(monkeypatch):
  monkeypatch.setattr(devices, 'peak_flops', lambda device: None)
  assert bounds.of_cost(_cost(), _tpu_program(), 0) is None
