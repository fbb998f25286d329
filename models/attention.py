"""Attention inside segments, for every objective's rule.

Masks are made here, on the device, from rank-2 integers; the rule is that of the package's attention specification:
token i may see token j iff both are in the same non-zero segment and
`i == j or (table[group_i][group_j] and (not ordered or level_j <= level_i))`.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from .config import DecoderConfig


def visible(
  segment_ids_BxL: jax.Array,
  ordered: bool | jax.Array,
  levels_BxL: jax.Array | None = None,
  groups_BxL: jax.Array | None = None,
  table: tuple[tuple[bool, ...], ...] | None = None,
) -> jax.Array:
  """Who may see whom: bool [B, L, L], query by key.

  Args:
    segment_ids_BxL: int32, 0 = padding.
    ordered: whether a token sees only its own and lower levels; a traced bool where layers differ.
    levels_BxL: int32; None takes the position in the row.
    groups_BxL: int32 indices into `table`; needed iff `table` is given.
    table: static, which query group may see which key group.
  """
  length = segment_ids_BxL.shape[1]
  same = (segment_ids_BxL[:, :, None] == segment_ids_BxL[:, None, :]) & (segment_ids_BxL > 0)[:, :, None]
  if levels_BxL is None:
    index = jnp.arange(length)
    lower = (index[None, :] <= index[:, None])[None]
  else:
    lower = levels_BxL[:, None, :] <= levels_BxL[:, :, None]
  seen = lower | jnp.logical_not(ordered)
  if table is not None:
    if groups_BxL is None:
      raise ValueError('an attention table needs decoder_groups in the batch')
    allowed = jnp.asarray(table)
    seen &= allowed[groups_BxL[:, :, None], groups_BxL[:, None, :]]
  return same & (seen | jnp.eye(length, dtype=bool)[None])


def platform() -> str:
  """'cpu', 'gpu' or 'tpu': of the mesh in whose context a computation is traced, otherwise JAX's default."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def kernel(config: DecoderConfig, ordered: bool | tuple[bool, ...], general: bool, length: int) -> str:
  """Which implementation serves a rule: 'xla', 'cudnn', 'splash' or 'splash_interpret'.

  Args:
    config: says which is wanted.
    ordered: the rule's order, one for all layers or one a layer.
    general: whether the rule has groups or levels of its own.
    length: positions of a row.
  """
  wanted = config.attention
  if wanted == 'auto':
    # What cuDNN's kernel takes, with a mask and backwards: jax.nn.dot_product_attention says so where it refuses.
    fits = config.dtype == 'bfloat16' and config.head_dim % 8 == 0 and config.head_dim <= 128 and length % 2 == 0
    wanted = {'tpu': 'splash', 'gpu': 'cudnn' if fits else 'xla'}.get(platform(), 'xla')
  common = isinstance(ordered, bool) and not general
  return wanted if common or not wanted.startswith('splash') else 'xla'


def attend(
  q_BxLxHxE: jax.Array,
  k_BxLxKxE: jax.Array,
  v_BxLxKxE: jax.Array,
  visible_BxLxL: jax.Array,
  *,
  causal: bool = False,
  implementation: Literal['xla', 'cudnn'] = 'xla',
) -> jax.Array:
  """Scaled dot-product attention with grouped queries; softmax in float32. Returns [B, L, H, E] in q's dtype.

  Args:
    q_BxLxHxE, k_BxLxKxE, v_BxLxKxE: K divides H.
    visible_BxLxL: bool, query by key.
    causal: says that `visible` lets no query see a later key, so that a kernel may leave those blocks out.
    implementation: 'xla', or 'cudnn', which wants bfloat16 and a GPU.
  """
  return jax.nn.dot_product_attention(
    q_BxLxHxE, k_BxLxKxE, v_BxLxKxE, mask=visible_BxLxL[:, None], is_causal=causal, implementation=implementation
  )
