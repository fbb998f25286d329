"""What is restored is what was saved: every leaf of every optimizer's state, on this mesh or another."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unmask.launch import checkpoints, mesh, optimizers, saving, state
from unmask.launch.program import Program
from unmask.models.config import DecoderConfig
from unmask.objectives.masked_lm import MaskedLM

MODEL = DecoderConfig(
  vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, dtype='bfloat16'
)
OPTIMIZERS = {name: optimizers.Optimizer(name=name) for name in ('adamw', 'adafactor', 'lion', 'muon')}
OPTIMIZERS['adamw, moments in bfloat16'] = optimizers.Optimizer(moment_dtype='bfloat16')


def _program(optimizer: optimizers.Optimizer, on: mesh.MeshConfig, devices: int) -> Program:
  return Program(
    model=MODEL,
    objective=MaskedLM(),
    text_length=16,
    batch_size=8,
    optimizer=optimizer.build(10),
    mesh=on.build(jax.devices()[:devices]),
  )


def _scrambled(program: Program) -> state.TrainState:
  """A state of which no two leaves are alike."""
  first = state.create(program.decoder, program.optimizer, program.mesh, seed=0)
  key = jax.random.key(1)

  def noise(path, leaf):
    drawn = (
      jax.random.uniform(jax.random.fold_in(key, zlib.crc32(jax.tree_util.keystr(path).encode())), leaf.shape) * 1000
    )
    return jax.device_put(drawn.astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(noise, first)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_leaf_by_leaf(name, tmp_path):
  eight = _program(OPTIMIZERS[name], mesh.MeshConfig(data=2, fsdp=2, tensor=2), 8)
  before = _scrambled(eight)
  saver = saving.Saver(str(tmp_path), checkpoints.CheckpointPolicy())
  saver.save(before, 3, {'batches': 3, 'tokens': 0.1})
  saver.close()
  for program in (
    eight,
    _program(OPTIMIZERS[name], mesh.MeshConfig(fsdp=4), 4),
    _program(OPTIMIZERS[name], mesh.MeshConfig(), 1),
  ):
    step, after, position = checkpoints.Checkpoints(str(tmp_path)).restore(program.state_shapes())
    assert (step, position) == (3, {'batches': 3, 'tokens': 0.1})
    assert jax.tree.structure(after) == jax.tree.structure(before)
    paths = jax.tree_util.tree_leaves_with_path(before)
    for (path, one), other, shape in zip(
      paths, jax.tree.leaves(after), jax.tree.leaves(program.state_shapes()), strict=True
    ):
      assert other.dtype == one.dtype == shape.dtype
      assert other.sharding == shape.sharding
      np.testing.assert_array_equal(_bits(other), _bits(one), err_msg=jax.tree_util.keystr(path))


def _bits(x: jax.Array) -> np.ndarray:
  return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)


def test_parameters_alone(tmp_path):
  program = _program(OPTIMIZERS['adafactor'], mesh.MeshConfig(fsdp=2), 2)
  before = _scrambled(program)
  saver = saving.Saver(str(tmp_path), checkpoints.CheckpointPolicy())
  saver.save(before, 1, {})
  saver.close()
  shapes = state.params_and_shardings(program.decoder, program.mesh)
  step, params = checkpoints.Checkpoints(str(tmp_path)).restore_params(*shapes)
  assert step == 1
  jax.tree.map(np.testing.assert_array_equal, params, before.params)
