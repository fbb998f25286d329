"""The training state: its shapes, its place on the mesh, its first value. No TensorFlow."""

import dataclasses
import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from ..models import logical_axes
from ..models.decoder import Decoder
from . import mesh as mesh_lib


class TrainState(flax.struct.PyTreeNode):
  """What a step changes.

  Attributes:
    step: int32 scalar, updates applied; batch n (from 0) produces step n + 1.
    params: the decoder's parameters, unboxed.
    opt_state: optax's state.
  """

  step: jax.Array
  params: dict
  opt_state: optax.OptState


def init_params(decoder: Decoder, key: jax.Array) -> dict:
  """Fresh parameters, boxed with their logical axis names."""
  tokens = jnp.zeros((1, 8), jnp.int32)
  # One short row: no kernel that splits rows over devices can serve it, and none owns a parameter.
  decoder = Decoder(dataclasses.replace(decoder.config, attention='xla'))
  return decoder.init(key, tokens, tokens, jnp.ones_like(tokens))['params']


def unboxed(boxed: dict) -> dict:
  """Plain arrays or shapes. Their place comes from `shardings`, so no constraint is put on them here."""
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)
  return jax.tree.map(lambda x: x.unbox(apply_constraint=False), boxed, is_leaf=is_box)


@functools.lru_cache(maxsize=4)
def params_and_shardings(decoder: Decoder, mesh: Mesh) -> tuple[dict, dict]:
  """The parameters' shapes, and their NamedShardings by the table of logical axes."""
  boxed = jax.eval_shape(lambda: init_params(decoder, jax.random.key(0)))
  return unboxed(boxed), nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, logical_axes.RULES)


def shapes(decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
  """What `fresh` makes as shapes with shardings; nothing is allocated, and the parameters are traced once."""
  params, _ = params_and_shardings(decoder, mesh)
  step = jax.ShapeDtypeStruct((), jnp.int32)
  whole = TrainState(step=step, params=params, opt_state=jax.eval_shape(optimizer.init, params))
  return mesh_lib.placed(whole, shardings(decoder, optimizer, mesh))


def shardings(decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
  """A TrainState of NamedShardings: the optimizer's state lies like its parameters."""
  shapes, params = params_and_shardings(decoder, mesh)
  placed = optimizer_shardings(optimizer, shapes, params, mesh)
  return TrainState(step=mesh_lib.replicated(mesh), params=params, opt_state=placed)


def optimizer_shardings(
  optimizer: optax.GradientTransformation, shapes: dict, shardings: dict, mesh: Mesh
) -> optax.OptState:
  """NamedShardings of an optimizer's state, for any tree of parameters' shapes and their shardings."""
  whole = mesh_lib.replicated(mesh)
  of_param = {
    jax.tree_util.keystr(path): (shape.shape, sharding)
    for (path, shape), sharding in zip(
      jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(shardings), strict=True
    )
  }

  def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
    # An optimizer keeps its moments in copies of the parameters' tree, whole or with gaps, somewhere in its state.
    found = (of_param.get(jax.tree_util.keystr(path[start:])) for start in range(len(path)))
    shape, sharding = next((pair for pair in found if pair), (None, whole))
    # Factored moments (Adafactor) have other shapes than their parameter: they are small, so every device holds them.
    return sharding if leaf.shape == shape else whole

  return jax.tree_util.tree_map_with_path(place, jax.eval_shape(optimizer.init, shapes))


def fresh(decoder: Decoder, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
  """The first state of a run, a function of the seed alone."""
  params = unboxed(init_params(decoder, jax.random.fold_in(jax.random.key(seed), 0)))
  return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def create_params(decoder: Decoder, mesh: Mesh, seed: int) -> dict:
  """The parameters of `fresh` alone, made in place on the mesh."""
  make = lambda: unboxed(init_params(decoder, jax.random.fold_in(jax.random.key(seed), 0)))
  return jax.jit(make, out_shardings=params_and_shardings(decoder, mesh)[1])()


def create(decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int) -> TrainState:
  """`fresh`, made in place on the mesh; the same values on every mesh."""
  return jax.jit(lambda: fresh(decoder, optimizer, seed), out_shardings=shardings(decoder, optimizer, mesh))()


def of_params(params: dict, decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
  """The first state of a run that begins with given parameters, which lie on the mesh as `shardings` says."""
  placed = shardings(decoder, optimizer, mesh)
  opt_state = jax.jit(optimizer.init, out_shardings=placed.opt_state)(params)
  return TrainState(step=jax.device_put(jnp.zeros((), jnp.int32), placed.step), params=params, opt_state=opt_state)
