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
from . import networks
from .networks import Beside


class TrainState(flax.struct.PyTreeNode):
  """What a step changes.

  Attributes:
    step: int32 scalar, updates applied; batch n (from 0) produces step n + 1.
    params: the decoder's parameters, unboxed, and those of each network beside it under its name.
    opt_state: optax's state, of what is trained.
  """

  step: jax.Array
  params: dict
  opt_state: optax.OptState


def init_params(decoder: Decoder, key: jax.Array, beside: Beside = ()) -> dict:
  """Fresh parameters, boxed with their logical axis names.

  Args:
    decoder: whose parameters do not depend on what is beside it.
    key: typed.
    beside: the objective's networks, as `networks.beside` makes them.
  """
  tokens = jnp.zeros((1, 8), jnp.int32)
  # One short row: no kernel that splits rows over devices can serve it, and none owns a parameter.
  decoder = Decoder(dataclasses.replace(decoder.config, attention='xla'))
  return decoder.init(key, tokens, tokens, jnp.ones_like(tokens))['params'] | networks.initial(beside, key)


def unboxed(boxed: dict) -> dict:
  """Plain arrays or shapes. Their place comes from `shardings`, so no constraint is put on them here."""
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)
  return jax.tree.map(lambda x: x.unbox(apply_constraint=False), boxed, is_leaf=is_box)


@functools.lru_cache(maxsize=4)
def params_and_shardings(decoder: Decoder, mesh: Mesh, beside: Beside = ()) -> tuple[dict, dict]:
  """The parameters' shapes, and their NamedShardings by the table of logical axes."""
  boxed = jax.eval_shape(lambda: init_params(decoder, jax.random.key(0), beside))
  return unboxed(boxed), nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, logical_axes.RULES)


def shapes(decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh, beside: Beside = ()) -> TrainState:
  """What `fresh` makes as shapes with shardings; nothing is allocated, and the parameters are traced once."""
  params, _ = params_and_shardings(decoder, mesh, beside)
  step = jax.ShapeDtypeStruct((), jnp.int32)
  opt_state = jax.eval_shape(optimizer.init, networks.trained(beside, params))
  whole = TrainState(step=step, params=params, opt_state=opt_state)
  return mesh_lib.placed(whole, shardings(decoder, optimizer, mesh, beside))


def shardings(decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh, beside: Beside = ()) -> TrainState:
  """A TrainState of NamedShardings: the optimizer's state lies like its parameters."""
  shapes, params = params_and_shardings(decoder, mesh, beside)
  trained = functools.partial(networks.trained, beside)
  placed = optimizer_shardings(optimizer, trained(shapes), trained(params), mesh)
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


def fresh(decoder: Decoder, optimizer: optax.GradientTransformation, seed: int, beside: Beside = ()) -> TrainState:
  """The first state of a run, a function of the seed alone."""
  params = unboxed(init_params(decoder, _first_key(seed), beside))
  opt_state = optimizer.init(networks.trained(beside, params))
  return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=opt_state)


def _first_key(seed: int) -> jax.Array:
  return jax.random.fold_in(jax.random.key(seed), 0)


def create_params(decoder: Decoder, mesh: Mesh, seed: int) -> dict:
  """The decoder's parameters of `fresh` alone, made in place on the mesh."""
  make = lambda: unboxed(init_params(decoder, _first_key(seed)))
  return jax.jit(make, out_shardings=params_and_shardings(decoder, mesh)[1])()


def create_beside(decoder: Decoder, mesh: Mesh, seed: int, beside: Beside) -> dict:
  """The parameters of `fresh` that are not the decoder's, made in place on the mesh."""
  where = params_and_shardings(decoder, mesh, beside)[1]
  make = lambda: unboxed(networks.initial(beside, _first_key(seed)))
  return jax.jit(make, out_shardings={name: where[name] for name, _ in beside})()


def create(
  decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int, beside: Beside = ()
) -> TrainState:
  """`fresh`, made in place on the mesh; the same values on every mesh."""
  placed = shardings(decoder, optimizer, mesh, beside)
  return jax.jit(lambda: fresh(decoder, optimizer, seed, beside), out_shardings=placed)()


def of_params(
  params: dict, decoder: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh, beside: Beside = ()
) -> TrainState:
  """The first state of a run that begins with given parameters, which lie on the mesh as `shardings` says."""
  placed = shardings(decoder, optimizer, mesh, beside)
  opt_state = jax.jit(optimizer.init, out_shardings=placed.opt_state)(networks.trained(beside, params))
  return TrainState(step=jax.device_put(jnp.zeros((), jnp.int32), placed.step), params=params, opt_state=opt_state)
