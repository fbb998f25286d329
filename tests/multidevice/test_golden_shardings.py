"""Where every parameter, moment and activation lies: two shipped sizes on three meshes, against a written table."""

import functools

import jax
import jax.numpy as jnp
import pytest
from unmask.launch import config as gin_config
from unmask.launch import mesh, optimizers, program, state
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.next_token import NextToken

BATCH = ('data', 'fsdp')
MESHES = {
  'fsdp': mesh.MeshConfig(data=1, fsdp=8),
  'data x fsdp x tensor': mesh.MeshConfig(data=2, fsdp=2, tensor=2),
  'fsdp x sequence x tensor': mesh.MeshConfig(data=1, fsdp=2, sequence=2, tensor=2),
}
# Dimension by dimension, the mesh axis that splits it. The table is the same on every mesh: an axis of one is no split.
PARAMETERS = {
  "['embedding']": ('tensor', 'fsdp'),
  "['output']": ('tensor', 'fsdp'),
  "['final_norm']['scale']": (None,),
  "['blocks']['attention_norm']['scale']": (None, None),
  "['blocks']['mlp_norm']['scale']": (None, None),
  "['blocks']['attention']['query']": (None, 'fsdp', 'tensor', None),
  "['blocks']['attention']['key']": (None, 'fsdp', 'tensor', None),
  "['blocks']['attention']['value']": (None, 'fsdp', 'tensor', None),
  "['blocks']['attention']['out']": (None, 'tensor', None, 'fsdp'),
  "['blocks']['mlp']['gate_up']": (None, 'fsdp', None, 'tensor'),
  "['blocks']['mlp']['down']": (None, 'tensor', 'fsdp'),
}
BATCHES = {
  'decoder_input_tokens': (BATCH, None),
  'decoder_target_tokens': (BATCH, None),
  'decoder_loss_weights': (BATCH, None),
  'decoder_segment_ids': (BATCH, None),
  'decoder_positions': (BATCH, None),
  'decoder_causal_attention': (BATCH, None),
  'text_tokens': (BATCH,),
}


def _model(size: str) -> DecoderConfig:
  gin_config.load([f'gin/models/{size}.gin'], ['config.DecoderConfig.vocab_size = 8192'])
  return gin_config.call(DecoderConfig)


def _program(model: DecoderConfig, on: mesh.MeshConfig) -> program.Program:
  return program.Program(
    model=model,
    objective=NextToken(),
    text_length=128,
    batch_size=16,
    optimizer=optimizers.Optimizer().build(10),
    mesh=on.build(),
  )


def _axes(sharding: jax.sharding.NamedSharding, ndim: int) -> tuple:
  spec = tuple(sharding.spec)
  return (*spec, *(None,) * (ndim - len(spec)))


@pytest.mark.parametrize('name', MESHES)
@pytest.mark.parametrize('size', ['tiny', '1.3B'])
def test_state_and_batch_lie_as_written(size, name):
  model = _model(size)
  update = _program(model, MESHES[name])
  shapes = update.state_shapes()
  found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.params)}
  wanted = {path: axes for path, axes in PARAMETERS.items() if path != "['output']" or not model.tied_embeddings}
  assert {path: _axes(leaf.sharding, leaf.ndim) for path, leaf in found.items()} == wanted
  # AdamW keeps two copies of the parameters' tree, each leaf where its parameter is; its counts are everywhere.
  moments = [leaf for leaf in jax.tree.leaves(shapes.opt_state) if leaf.ndim]
  assert sorted((leaf.shape, str(leaf.sharding.spec)) for leaf in moments) == sorted(
    (leaf.shape, str(leaf.sharding.spec)) for leaf in 2 * list(found.values())
  )
  assert {_axes(leaf.sharding, 0) for leaf in jax.tree.leaves(shapes.opt_state) if not leaf.ndim} == {()}
  batch = update.batch_shapes()
  assert {key: _axes(leaf.sharding, leaf.ndim) for key, leaf in batch.items()} == BATCHES


@pytest.mark.parametrize('name', MESHES)
def test_hidden_states_lie_as_written(name):
  """Compiled: rows over data and fsdp, positions over sequence, the residual stream whole."""
  model = DecoderConfig(vocab_size=256, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64)
  update = _program(model, MESHES[name])
  ids = jax.ShapeDtypeStruct((16, 128), jnp.int32, sharding=update.batch_shapes()['decoder_input_tokens'].sharding)
  shapes = update.state_shapes().params
  with update.context():
    hidden = jax.jit(lambda params, ids: Decoder(model).apply({'params': params}, ids, ids, ids)).lower(shapes, ids)
    (found,) = jax.tree.leaves(hidden.compile().output_shardings)
  wanted = jax.sharding.NamedSharding(update.mesh, jax.sharding.PartitionSpec(BATCH, 'sequence', None))
  assert found.is_equivalent_to(wanted, 3)


def test_every_leaf_of_a_fresh_state_is_where_its_shape_says():
  update = _program(_model('tiny'), MESHES['data x fsdp x tensor'])
  with update.context():
    made = state.create(update.decoder, update.optimizer, update.mesh, 0)
  same = functools.partial(jax.tree.map, lambda leaf, shape: leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim))
  assert all(jax.tree.leaves(same(made, update.state_shapes())))
