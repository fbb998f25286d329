"""Blocks behind the decoder that read its hidden states, each under a table of its own of who sees whom.

BPDec's decoder is of such (arXiv 2401.15861): in its first layer some positions are not to be attended to, in the next
they are.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import attention, decoder, layers
from .config import DecoderConfig

Table = tuple[tuple[bool, ...], ...]


class ExtraLayers(nn.Module):
  """Hidden states to hidden states.

  Attributes:
    config: as many layers as there are tables; what else it says is the decoder's.
    tables: for each layer, bottom to top, which group may see which; None lets every group see every group.
  """

  config: DecoderConfig
  tables: tuple[Table | None, ...]

  @nn.compact
  def __call__(
    self,
    x_BxLxD: jax.Array,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    groups_BxL: jax.Array,
    ordered: bool,
  ) -> jax.Array:
    """Behind a norm of its own, [B, L, D] in `config.dtype`.

    Args:
      x_BxLxD: hidden states.
      positions_BxL, segment_ids_BxL: as for `decoder.Decoder`.
      groups_BxL: int32 indices into the tables. A position always sees itself.
      ordered: whether no position sees a later one.
    """
    c, x = self.config, x_BxLxD
    rotary = layers.rotary_tables(positions_BxL, c.head_dim, c.rope_theta)
    for number, table in enumerate(self.tables):
      kernel = attention.kernel(c, ordered, table is not None, positions_BxL.shape[1])
      groups = None if table is None else groups_BxL
      see = lambda groups=groups, table=table: attention.visible(segment_ids_BxL, ordered, None, groups, table)
      masks = () if kernel.startswith('splash') else (see(),)
      block = decoder.block(c)(c, kernel, ordered, name=f'block_{number}')
      x, _ = block(x, jnp.asarray(ordered), rotary, segment_ids_BxL, masks)
    return layers.RMSNorm(c, name='final_norm')(x)

  @nn.nowrap
  def initial(self, key: jax.Array) -> dict:
    """Fresh parameters, boxed with their logical axis names."""
    plain = ExtraLayers(dataclasses.replace(self.config, attention='xla'), self.tables)
    tokens = jnp.zeros((1, 8), jnp.int32)
    x = jnp.zeros((1, 8, self.config.embed_dim), self.config.dtype)
    return plain.init(key, x, tokens, jnp.ones_like(tokens), tokens, False)['params']

  @nn.nowrap
  def train_flops(self, positions: float, length: int, visible: float) -> float:
    """Model FLOPs of one update, as `DecoderConfig.train_flops` counts those of as many layers; no head is here."""
    return self.config.train_flops(round(positions), 0, length, visible)
