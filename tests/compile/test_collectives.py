"""The compiled step sends what the table of logical axes explains, to the byte, and nothing else."""

import numpy as np
import pytest
from unmask.launch import hlo, mesh, optimizers, program, slices
from unmask.models import logical_axes
from unmask.models.config import DecoderConfig
from unmask.objectives.next_token import NextToken

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, MLP, VOCABULARY, LENGTH, ROWS = 512, 3, 8, 4, 128, 1536, 1024, 256, 16
BF16, INT32 = 2, 4
MODEL = DecoderConfig(
  vocab_size=VOCABULARY,
  embed_dim=WIDTH,
  num_layers=LAYERS,
  num_heads=HEADS,
  num_kv_heads=KV_HEADS,
  head_dim=HEAD,
  mlp_dim=MLP,
  tied_embeddings=False,
  dtype='bfloat16',
  remat='full',
  loss_chunk=64,
)
MESHES = {
  'fsdp=8': {'data': 1, 'fsdp': 8},
  'data=2,fsdp=2,tensor=2': {'data': 2, 'fsdp': 2, 'tensor': 2},
  'fsdp=2,sequence=2,tensor=2': {'data': 1, 'fsdp': 2, 'sequence': 2, 'tensor': 2},
}


def _sent(sizes: dict[str, int]) -> dict[tuple[str, str], float]:
  """Bytes by (kind, axis of the mesh) of every all-gather and all-to-all of a step on eight chips of v5e."""
  device_mesh = mesh.MeshConfig(**sizes).build(slices.parse('v5e:2x4').devices())
  compiled = program.Program(
    model=MODEL,
    objective=NextToken(),
    text_length=LENGTH,
    batch_size=ROWS,
    optimizer=optimizers.Optimizer().build(100),
    mesh=device_mesh,
  ).compile()
  place = np.indices(device_mesh.devices.shape).reshape(len(logical_axes.MESH_AXES), -1)
  total: dict[tuple[str, str], float] = {}
  for one in hlo.cost(compiled.as_text()).collectives:
    if one.kind in ('all-gather', 'all-to-all'):
      varying = np.ptp(place[:, list(one.members)], axis=1) > 0
      axes = '+'.join(np.array(logical_axes.MESH_AXES)[varying])
      total[one.kind, axes] = total.get((one.kind, axes), 0.0) + one.payload * one.times
  return total


def _explained(sizes: dict[str, int]) -> dict[tuple[str, str], float]:
  """What the rules 'embed over fsdp', 'length over sequence' and 'vocab over tensor' ask for."""
  fsdp, sequence, tensor = (sizes.get(axis, 1) for axis in ('fsdp', 'sequence', 'tensor'))
  rows = ROWS // (sizes.get('data', 1) * fsdp)
  layer = WIDTH * HEAD * 2 * (HEADS + KV_HEADS) + 3 * WIDTH * MLP
  weights = LAYERS * layer * BF16 / tensor * 2  # forward, and again where the backward pass computes the layer anew
  head = WIDTH * VOCABULARY * BF16 / tensor
  lookup = {('all-gather', 'fsdp'): VOCABULARY * WIDTH * BF16 / tensor}
  if tensor == 1:  # the table is split by width alone: ids go to every part, and what was looked up comes back
    back = ('all-to-all', 'fsdp'), 2 * rows * LENGTH * WIDTH * BF16
    lookup = {('all-gather', 'fsdp'): ROWS * LENGTH * INT32, back[0]: back[1]}
  wanted = lookup | {('all-gather', 'fsdp'): lookup['all-gather', 'fsdp'] + weights + head}
  if sequence > 1:  # keys and values of the whole row, and its segments for the two passes' kernels
    keys = rows * LENGTH * (KV_HEADS // tensor) * HEAD * BF16
    wanted['all-gather', 'sequence'] = LAYERS * (2 * 2 * keys + rows * LENGTH * INT32)
  return wanted


@pytest.mark.parametrize('name', MESHES)
def test_every_gather_is_explained(name):
  assert _sent(MESHES[name]) == _explained(MESHES[name])
