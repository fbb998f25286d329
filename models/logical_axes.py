"""The one table of logical axis rules: which mesh axis each named dimension is split over.

Mesh axes: `data` replicates parameters, `fsdp` splits them, `tensor` splits heads, MLP and vocabulary, `sequence`
splits the length of activations. Batches are split over data and fsdp. A rule is taken only if its mesh axis is not
used by an earlier dimension of the same array.
"""

import math
from collections.abc import Mapping

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
