"""A second decoder beside the first, narrower or shallower, that reads and predicts tokens by the first one's tables.

Its input is the first one's, projected down; its output is projected up again, so that the first one's output head
scores it. ELECTRA's generator is one (arXiv 2003.10555 section 3.1; there the head has a dense layer more).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import decoder, head, layers
from .config import DecoderConfig


def narrowed(config: DecoderConfig, width: float, num_layers: int | None) -> DecoderConfig:
  """A decoder's configuration with a share `width` of its stream, its heads and its MLP; heads stay as wide."""
  heads, share = (max(1, round(size * width)) for size in (config.num_heads, config.num_kv_heads))
  depth = num_layers or config.num_layers
  return dataclasses.replace(
    config,
    embed_dim=max(1, round(config.embed_dim * width)),
    num_layers=depth,
    num_heads=heads,
    num_kv_heads=next(count for count in range(min(share, heads), 0, -1) if heads % count == 0),
    mlp_dim=max(1, round(config.mlp_dim * width)),
    scan_unroll=min(config.scan_unroll, depth),
  )


class Tower(nn.Module):
  """Embedded tokens to hidden states as wide as they are.

  Attributes:
    config: its own shape, as `narrowed` gives it.
    outer: of the decoder whose tables it shares.
  """

  config: DecoderConfig
  outer: DecoderConfig

  @nn.compact
  def __call__(
    self,
    x_BxLxD: jax.Array,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    index_BxN: jax.Array,
    *,
    ordered: bool | tuple[bool, ...] = True,
    table: tuple[tuple[bool, ...], ...] | None = None,
    levels_BxL: jax.Array | None = None,
    groups_BxL: jax.Array | None = None,
  ) -> jax.Array:
    """Hidden states [B, N, D] at the positions `index_BxN` of each row, in `config.dtype`.

    Args:
      x_BxLxD: of `decoder.embed`.
      positions_BxL, segment_ids_BxL, ordered, table, levels_BxL, groups_BxL: as for `decoder.Decoder`.
      index_BxN: int32.
    """
    c, wide = self.config, self.outer.embed_dim
    down = layers.param(self, 'down_from', (wide, c.embed_dim), ('embed', 'activation_embed'), wide, c.param_dtype)
    x = jnp.einsum('blD,Dd->bld', x_BxLxD, down.astype(c.dtype))
    x = decoder.stack(
      c,
      x,
      positions_BxL,
      segment_ids_BxL,
      ordered=ordered,
      table=table,
      levels_BxL=levels_BxL,
      groups_BxL=groups_BxL,
    )
    x = layers.RMSNorm(c, name='final_norm')(x)
    if index_BxN.shape[1] < x.shape[1]:
      x = head.pick(x, index_BxN)
    up = layers.param(self, 'up_to', (c.embed_dim, wide), ('activation_embed', 'embed'), c.embed_dim, c.param_dtype)
    return jnp.einsum('bnd,dD->bnD', x, up.astype(c.dtype))

  @nn.nowrap
  def initial(self, key: jax.Array) -> dict:
    """Fresh parameters, boxed with their logical axis names."""
    tokens, plain = jnp.zeros((1, 8), jnp.int32), dataclasses.replace(self.config, attention='xla')
    x = jnp.zeros((1, 8, self.outer.embed_dim), self.config.dtype)
    return Tower(plain, self.outer).init(key, x, tokens, jnp.ones_like(tokens), tokens)['params']

  @nn.nowrap
  def train_flops(self, positions: float, length: int, visible: float, scored: float, drawn: float) -> float:
    """Model FLOPs of one update, as `DecoderConfig.train_flops` counts them: 6 a parameter and position.

    Args:
      positions, length, visible: as there.
      scored: positions at which a token is scored by the outer decoder's output head.
      drawn: positions at which one is drawn, which is a forward pass of that head.
    """
    c, wide = self.config, self.outer.embed_dim
    blocks = c.train_flops(round(positions), 0, length, visible)
    projections = 6.0 * c.embed_dim * wide * (positions + max(scored, drawn))
    return blocks + projections + wide * (self.outer.vocab_size or 0) * (6.0 * scored + 2.0 * drawn)
