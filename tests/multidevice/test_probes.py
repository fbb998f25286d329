"""Tuning on a probe gives the same on one device and on eight, however they are arranged."""

import functools

import jax
import numpy as np
import pytest
from unmask.launch import mesh, state
from unmask.launch.probing import tuning
from unmask.launch.probing.grid import Grid
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL
from unmask.tasks.probes.rows import Rows

DECODER = Decoder(
  DecoderConfig(
    vocab_size=64, embed_dim=16, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=32, scan_unroll=2
  )
)
LENGTH, COUNT = 16, 44  # 44 rows: the last batch of a prediction is not full
SHAPES = {'classes': tuning.Shape(False, 3), 'span': tuning.Shape(True)}


def _rows() -> Rows:
  random = np.random.default_rng(0)
  lengths = random.integers(6, LENGTH + 1, COUNT).astype(np.int32)
  real = np.arange(LENGTH) < lengths[:, None]
  masks = np.zeros((2, COUNT, LENGTH), bool)
  masks[:, np.arange(COUNT), random.integers(2, lengths - 1)] = True
  return Rows(
    {
      'tokens': np.where(real, random.integers(3, 60, (COUNT, LENGTH)), 0).astype(np.int32),
      'lengths': lengths,
      'labels': random.integers(0, 3, COUNT).astype(np.int32),
      'passage': real & (np.arange(LENGTH) > 1),
      'starts': masks[0],
      'ends': masks[1],
    }
  )


@functools.cache
def _tuned(kind: str, devices: int, **axes: int) -> tuple[dict, list[float], np.ndarray]:
  return _run(kind, mesh.MeshConfig(**axes).build(jax.devices()[:devices]))


def _run(kind: str, device_mesh: jax.sharding.Mesh) -> tuple[dict, list[float], np.ndarray]:
  with mesh.context(device_mesh):
    tuner = tuning.Tuner(DECODER, device_mesh, BIDIRECTIONAL, SHAPES[kind], Grid().optimizer, 4, 16)
    params, losses = tuner.tune(state.create_params(DECODER, device_mesh, 0), _rows(), 3e-3, 1)
    return params, losses, tuner.predict(params, _rows())


@pytest.mark.parametrize('axes', [{'data': 8}, {'data': 2, 'fsdp': 4}, {'data': 2, 'fsdp': 2, 'tensor': 2}], ids=str)
@pytest.mark.parametrize('kind', list(SHAPES))
def test_sharded_is_single(kind, axes):
  params, losses, found = _run(kind, mesh.MeshConfig(**axes).build())
  alone = _tuned(kind, 1)
  assert losses == pytest.approx(alone[1], rel=1e-4)
  for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(alone[0]), strict=True):
    # Adam's first updates are the gradient's sign, so the smallest gradients tell sums in another order apart.
    np.testing.assert_allclose(one, other, atol=5e-4)
  assert (found == alone[2]).mean() > 0.95
  if 'fsdp' in axes:
    assert not params['decoder']['embedding'].sharding.is_fully_replicated
