"""Where an update stops being finite: its tensors, in the order in which the step computes them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from . import step as step_lib
from .program import Program
from .state import TrainState
from .step import Batch


class Tensor(NamedTuple):
  """A tensor's name, how many of its values are not finite, the largest of the others' sizes, and how to get it."""

  name: str
  bad: int
  largest: float
  value: Callable[[], jax.Array]


def tensors(program: Program, state: TrainState, batch: Batch) -> Iterator[Tensor]:
  """Of one update: parameters, each layer's outputs, the loss terms, gradients from the head back to the embedding.

  Made when asked for. The whole batch goes through at once, without microbatches. Call it inside `program.context`.
  """
  yield from _leaves('parameter', state.params, reverse=False)
  yield from _outputs(program, state.params, batch)
  sums = jax.jit(lambda params, batch: step_lib.loss_sums(program.decoder, program.scoring, params, batch))
  for name, pair in sums(state.params, batch).items():
    yield from _leaves(f'loss {name}', dict(zip(('sum', 'denominator'), pair, strict=True)))
  grad = jax.jit(lambda params, batch: step_lib.gradients(program.decoder, program.scoring, params, batch, 1)[0])
  yield from _leaves('gradient', grad(state.params, batch), reverse=True)


def first_bad(program: Program, state: TrainState, batch: Batch) -> tuple[str | None, np.ndarray | None]:
  """The first tensor of an update that is not finite, by name and value; None if all are.

  A tensor that no process holds whole has no value here.
  """
  with program.context():
    for tensor in tensors(program, state, batch):
      if tensor.bad:
        value = tensor.value()
        return tensor.name, np.asarray(value, np.float32) if value.is_fully_addressable else None
  return None, None


def _measure(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  finite = jnp.isfinite(x)
  return (~finite).sum(), jnp.where(finite, jnp.abs(x), 0).max().astype(jnp.float32)


def _leaves(kind: str, tree: Any, reverse: bool = False) -> Iterator[Tensor]:
  """The leaves of a tree, those of the scanned blocks layer by layer, in the order of the forward or backward pass."""
  found = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    names = [str(getattr(key, 'key', key)) for key in path]
    place = {'embedding': 0, 'blocks': 1, 'final_norm': 2, 'output': 3}.get(names[0], 4)
    name = '/'.join(names)
    if names[0] == 'blocks':
      bad, largest = jax.jit(jax.vmap(_measure))(leaf)
      for layer in range(leaf.shape[0]):
        value = lambda leaf=leaf, layer=layer: leaf[layer]
        found.append(
          ((place, layer), Tensor(f'{kind} {name}, layer {layer}', int(bad[layer]), float(largest[layer]), value))
        )
    else:
      bad, largest = jax.jit(_measure)(leaf)
      found.append(((place, 0), Tensor(f'{kind} {name}', int(bad), float(largest), lambda leaf=leaf: leaf)))
  found.sort(key=lambda pair: pair[0], reverse=reverse)
  yield from (tensor for _, tensor in found)


def _outputs(program: Program, params: dict, batch: Batch) -> Iterator[Tensor]:
  """What each module of the decoder gives, in the order of the calls, the blocks layer by layer."""
  order: list[str] = []

  def run(params: dict, batch: Batch, wanted: str | None) -> dict:
    def watch(call: Callable, arguments: tuple, named: dict, context: nn.module.InterceptorContext) -> Any:
      result = call(*arguments, **named)
      name = '/'.join(context.module.path)
      if context.method_name == '__call__' and name:
        output = result[0] if isinstance(result, tuple) else result
        if name not in order:
          order.append(name)
        if wanted is None:
          bad, largest = _measure(output)
          context.module.sow('diagnosis', 'bad', bad)
          context.module.sow('diagnosis', 'largest', largest)
        elif name == wanted:
          context.module.sow('diagnosis', 'value', output)
      return result

    batch = step_lib.staged(program.decoder, program.scoring, params, batch)
    with nn.intercept_methods(watch):
      _, found = step_lib.hidden_states(
        program.decoder, params, batch, program.objective.attention, mutable=['diagnosis']
      )
    return found.get('diagnosis', {})

  measured = _by_module(jax.jit(lambda params, batch: run(params, batch, None))(params, batch))
  layers = program.model.num_layers

  def value(name: str, layer: int | None) -> Callable[[], jax.Array]:
    def get() -> jax.Array:
      found = _by_module(jax.jit(lambda params, batch: run(params, batch, name))(params, batch))[name]['value'][0]
      return found if layer is None else found[layer]

    return get

  def of(name: str, layer: int | None) -> Tensor:
    bad, largest = (np.asarray(measured[name][what][0]) for what in ('bad', 'largest'))
    if layer is None:
      return Tensor(f'output of {name}', int(bad), float(largest), value(name, None))
    return Tensor(f'output of {name}, layer {layer}', int(bad[layer]), float(largest[layer]), value(name, layer))

  blocks = [name for name in order if name.startswith('blocks')]
  for layer in range(layers):
    yield from (of(name, layer) for name in blocks)
  yield from (of(name, None) for name in order if name not in blocks)


def _by_module(collection: dict, path: tuple[str, ...] = ()) -> dict[str, dict]:
  """What was sown, by the path of the module that did."""
  found = {}
  mine = {name: value for name, value in collection.items() if isinstance(value, tuple)}
  if mine:
    found['/'.join(path)] = mine
  for name, value in collection.items():
    if isinstance(value, dict):
      found |= _by_module(value, (*path, name))
  return found
