"""The one table of logical axis rules: which mesh axis each named dimension is split over.

Mesh axes: `data` replicates parameters, `fsdp` splits them, `tensor` splits heads, MLP and vocabulary, `sequence`
splits the length of activations. Batches are split over data and fsdp. A rule is taken only if its mesh axis is not
used by an earlier dimension of the same array.
"""

import math
from collections.abc import Mapping

import jax

MESH_AXES = ('data', 'fsdp', 'sequence', 'tensor')
BATCH = ('data', 'fsdp')

RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
  ('batch', BATCH),
  ('length', 'sequence'),
  ('vocab', 'tensor'),
  ('heads', 'tensor'),
  ('kv_heads', 'tensor'),
  ('mlp', 'tensor'),
  ('embed', 'fsdp'),
  ('activation_embed', None),
  ('gate', None),
  ('head_dim', None),
  ('layers', None),
)


def batch_ways(sizes: Mapping[str, int]) -> int:
  """How many ways a batch is split on a mesh whose axes have these sizes."""
  return math.prod(sizes[axis] for axis in BATCH)


def mesh() -> jax.sharding.AbstractMesh:
  """The mesh in whose context a computation is traced; empty if there is none, or one whose axes are not these.

  On somebody else's mesh (t5x's) nothing is split by hand, and the partitioner finds its own way.
  """
  found = jax.sharding.get_abstract_mesh()
  return found if set(MESH_AXES) <= set(found.axis_names) else jax.sharding.AbstractMesh((), ())
