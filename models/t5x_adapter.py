"""The decoder's parameters in the form that t5x partitions: arrays, and beside them the names of their axes.

t5x knows a parameter's axes by a collection 'params_axes' of Flax's older partitioning interface, whose names its
partitioner looks up in `partitioning.standard_logical_axis_rules`. Nothing of t5x is imported here.
"""

from typing import Any

import flax.core
import flax.linen as nn
import jax
from flax.linen import partitioning

AXES: dict[str, str] = {
  'vocab': 'vocab',
  'embed': 'embed',
  'activation_embed': 'embed',
  'heads': 'heads',
  'kv_heads': 'heads',
  'head_dim': 'kv',
  'gate': 'mlp_activations',
  'mlp': 'mlp',
  'layers': 'layers',
}
"""t5x's name for each of the decoder's logical axes. All stand in its standard rules and in its Adafactor's."""

T5X_AXES = ('batch', 'vocab', 'embed', 'mlp', 'heads', 'kv', 'joined_kv', 'relpos_buckets', 'abspos_buckets', 'length')
T5X_AXES += ('layers', 'stack', 'mlp_activations')
"""The names that t5x's standard rules cover (`partitioning.standard_logical_axis_rules`, commit cc342d4)."""


def variables(boxed: dict) -> flax.core.FrozenDict:
  """The variables that t5x asks of a model's `get_initial_variables`.

  Args:
    boxed: the decoder's parameters, each in a `LogicallyPartitioned`, as `Decoder.init` gives them.

  Returns:
    {'params': the arrays; 'params_axes': the same tree, '<name>_axes' in place of '<name>', of AxisMetadata}, frozen.
  """
  return flax.core.freeze({'params': _unboxed(boxed), 'params_axes': _axes(boxed)})


def _unboxed(boxed: dict) -> dict:
  return jax.tree.map(lambda x: x.unbox(apply_constraint=False), boxed, is_leaf=_is_box)


def _axes(boxed: dict) -> dict[str, Any]:
  """The tree of axis names beside a tree of boxes."""
  named = {}
  for name, value in boxed.items():
    if _is_box(value):
      named[f'{name}_axes'] = partitioning.AxisMetadata(names=tuple(AXES[axis] for axis in value.names))
    else:
      named[name] = _axes(value)
  return named


def _is_box(value: Any) -> bool:
  return isinstance(value, nn.LogicallyPartitioned)
