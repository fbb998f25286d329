"""The networks that an objective has beside its decoder: made of modules, initialised, counted, and handed to it.

A kind of network is a row of `_KINDS`: what it is called in `objectives.networks`, the module of `models` that it is,
and how its FLOPs are counted. No TensorFlow.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import UserError
from ..models import bag, detector, enhanced_decoder, extra_layers, frozen, head, sampling, tower
from ..models import classes as classes_lib
from ..models import decoder as decoder_lib
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives import networks as kinds

Batch = dict[str, jax.Array]
Beside = tuple[tuple[str, Any], ...]
"""Names and modules, each with `initial`; hashable, as the decoder is."""


class _Kind(NamedTuple):
  """A module by what an objective says and the decoder's shape; its FLOPs by (module, what was said, positions,
  length, visible).
  """

  make: Callable[[Any, DecoderConfig], Any]
  flops: Callable[[Any, Any, float, int, float], float]


_KINDS: dict[type, _Kind] = {
  kinds.Tower: _Kind(
    lambda said, model: tower.Tower(tower.narrowed(model, said.width, said.layers), model),
    lambda module, said, positions, length, visible: module.train_flops(
      positions, length, visible, said.scored * positions, said.drawn * positions
    ),
  ),
  kinds.Detector: _Kind(
    lambda said, model: detector.Detector(model),
    lambda module, said, positions, length, visible: module.train_flops(positions),
  ),
  kinds.Classes: _Kind(
    lambda said, model: classes_lib.beside(model, said.count),
    lambda module, said, positions, length, visible: module.train_flops(said.scored * positions),
  ),
  kinds.Frozen: _Kind(
    lambda said, model: frozen.Frozen(frozen.shaped(model, dict(said.shape))),
    lambda module, said, positions, length, visible: module.flops(positions, length),
  ),
  kinds.EnhancedDecoder: _Kind(
    lambda said, model: enhanced_decoder.EnhancedDecoder(
      dataclasses.replace(model, num_layers=1, scan_unroll=1), said.hidden
    ),
    lambda module, said, positions, length, visible: module.train_flops(positions, length),
  ),
  kinds.ExtraLayers: _Kind(
    lambda said, model: extra_layers.ExtraLayers(
      dataclasses.replace(model, num_layers=len(said.tables), scan_unroll=1), said.tables
    ),
    lambda module, said, positions, length, visible: module.train_flops(positions, length, visible),
  ),
}


def beside(objective: Any, model: DecoderConfig) -> Beside:
  """The modules of an objective, for a decoder of a shape.

  Raises:
    UserError: a name is one that the decoder has itself, or what has it is no network.
  """
  for name, said in objective.beside.items():
    of = f'{type(objective).__name__}.beside'
    if name in kinds.TAKEN:
      raise UserError(f'{of} has the name {name!r}, which the decoder needs itself.')
    if type(said) not in _KINDS:
      known = ', '.join(kind.__name__ for kind in _KINDS)
      raise UserError(f'{of} has {name!r}, {said!r}, of which no network is made; give it a {known} of objectives.')
  return tuple((name, _KINDS[type(said)].make(said, model)) for name, said in sorted(objective.beside.items()))


def train_flops(objective: Any, model: DecoderConfig, positions: float, length: int, visible: float) -> float:
  """Model FLOPs of one update of all networks beside the decoder; arguments as for `DecoderConfig.train_flops`."""
  modules = dict(beside(objective, model))
  return sum(
    _KINDS[type(said)].flops(modules[name], said, positions, length, visible) for name, said in objective.beside.items()
  )


def initial(modules: Beside, key: jax.Array) -> dict:
  """Fresh parameters by name, boxed; each network's are drawn from the key and its name alone."""
  fold = lambda name: jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))
  return {name: module.initial(fold(name)) for name, module in modules}


def trained(modules: Beside, params: dict) -> dict:
  """Of the decoder's parameters and those beside it, or of anything by their names, what the optimizer is given."""
  fixed = {name for name, module in modules if isinstance(module, frozen.Frozen)}
  return {name: value for name, value in params.items() if name not in fixed} if fixed else params


def whole(params: dict, trained: dict) -> dict:
  """All of `params` with what is `trained` in its place; of the type that t5x or whoever else gave them."""
  return trained if len(trained) == len(params) else {**params, **trained}


def rule(batch: Batch, attention: Any) -> dict[str, Any]:
  """What the decoder, or a tower, is told of an attention rule for a batch."""
  return {
    'ordered': attention.ordered,
    'table': attention.table,
    'levels_BxL': _levels(batch, attention),
    'groups_BxL': batch.get('decoder_groups') if attention.table else None,
  }


def _levels(batch: Batch, attention: Any) -> jax.Array | None:
  if attention.levels and 'decoder_levels' not in batch:
    raise ValueError('an attention rule with levels needs decoder_levels in the batch')
  if attention.block > 1:
    return batch['decoder_positions'] // attention.block
  return batch['decoder_levels'] if attention.levels else None


@dataclasses.dataclass(frozen=True)
class Bound:
  """An objective's networks with their parameters; see `objectives.networks.Networks`.

  Attributes:
    decoder: beside which they are.
    objective: gives `beside` and `attention`.
    params: unboxed, of the decoder and of the networks.
  """

  decoder: Decoder
  objective: Any
  params: dict

  def positions(self, wanted: jax.Array, bound: int) -> jax.Array:
    return head.scored_positions(wanted, bound)

  def tower(self, name: str, batch: Batch, index: jax.Array) -> jax.Array:
    return self._ask(
      kinds.Tower,
      name,
      decoder_lib.embed(self.decoder.config, self.params['embedding'], batch['decoder_input_tokens']),
      batch['decoder_positions'],
      batch['decoder_segment_ids'],
      index,
      **rule(batch, self.objective.attention),
    )

  def head(self, name: str, hidden: jax.Array) -> jax.Array:
    return self._ask(kinds.Detector, name, hidden)

  def rebuild(
    self,
    name: str,
    vectors: jax.Array,
    at: jax.Array,
    tokens: jax.Array,
    noise: jax.Array,
    units: jax.Array,
    batch: Batch,
  ) -> jax.Array:
    clean = decoder_lib.embed(self.decoder.config, self.params['embedding'], tokens)
    memory = jnp.where(at[..., None], vectors, clean)
    places = batch['decoder_positions'], batch['decoder_segment_ids']
    return self._ask(kinds.EnhancedDecoder, name, vectors, memory, *places, noise, units, at)

  def behind(self, name: str, hidden: jax.Array, groups: jax.Array, batch: Batch) -> jax.Array:
    places = batch['decoder_positions'], batch['decoder_segment_ids']
    ordered = self.objective.attention.ordered
    return self._ask(kinds.ExtraLayers, name, hidden, *places, groups, ordered)

  def cross_entropy(self, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    return head.score(hidden, targets, self.params, self.decoder.config).cross_entropy

  def joint_cross_entropy(self, name: str, hidden: jax.Array, tokens: jax.Array, classes: jax.Array) -> jax.Array:
    return self._ask(kinds.Classes, name, hidden, tokens, classes, self.params)

  def left_to_right(self, name: str, batch: Batch, tokens: jax.Array) -> jax.Array:
    places = batch['decoder_positions'], batch['decoder_segment_ids']
    return self._module(kinds.Frozen, name).left_to_right(self.params[name], tokens, *places)

  def choose(self, weights: jax.Array, noise: jax.Array, able: jax.Array, count: jax.Array) -> jax.Array:
    return sampling.without_replacement(weights, noise, able, count)

  def pooled_cross_entropy(
    self, hidden: jax.Array, pooled: jax.Array, segment_ids: jax.Array, targets: jax.Array
  ) -> jax.Array:
    return bag.cross_entropy(hidden, pooled, segment_ids, targets, self.params, self.decoder.config)

  def draw(self, hidden: jax.Array, noise: jax.Array, lowest: jax.Array, highest: jax.Array) -> jax.Array:
    return sampling.draw(hidden, noise, lowest, highest, self.params, self.decoder.config)

  def _ask(self, kind: type, name: str, *inputs: Any, **rules: Any) -> jax.Array:
    return self._module(kind, name).apply({'params': self.params[name]}, *inputs, **rules)

  def _module(self, kind: type, name: str) -> Any:
    """The module of a name; UserError unless the objective has it beside its decoder, of this kind."""
    of, has = type(self.objective).__name__, self.objective.beside
    if not isinstance(has.get(name), kind):
      known = ', '.join(f'{name!r} ({type(said).__name__})' for name, said in has.items()) or 'nothing'
      raise UserError(
        f'{of} asks for the network {name!r} ({kind.__name__}) and has {known} beside its decoder: name it in '
        f'{of}.beside.'
      )
    return dict(beside(self.objective, self.decoder.config))[name]
