"""A random decoder on several meshes, for tests of what the judge makes of one."""

import jax
import numpy as np
from unmask.launch import mesh as mesh_lib
from unmask.launch import state
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder

CONFIG = DecoderConfig(
  embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=32, loss_chunk=16
).with_vocabulary(512)
LONGEST = 64
MESHES = {
  'one': (1, mesh_lib.MeshConfig()),
  'data': (8, mesh_lib.MeshConfig()),
  'all': (8, mesh_lib.MeshConfig(data=1, fsdp=2, sequence=2, tensor=2)),
}


def mesh(name: str) -> jax.sharding.Mesh:
  """One of MESHES, made."""
  count, config = MESHES[name]
  return config.build(jax.devices()[:count])


def params(mesh: jax.sharding.Mesh) -> dict:
  """Random parameters far from where training begins, the same on every mesh."""
  decoder = Decoder(CONFIG)
  shapes, shardings = state.params_and_shardings(decoder, mesh)
  random = np.random.default_rng(0)
  values = jax.tree.map(lambda x: 0.3 * random.normal(size=x.shape).astype(x.dtype), shapes)
  return jax.tree.map(jax.device_put, values, shardings)
