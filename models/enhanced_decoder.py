"""RetroMAE's enhanced decoding: one layer that rebuilds each token from a text's vector and some of its tokens.

Source: RetroMAE-2 / DupMAE (arXiv 2211.08769, 2305.02564), `BertLayerForDecoder` of staoxiao/RetroMAE. A query is the
vector and a position; keys and values are the clean tokens' embeddings, with the vector in the place of one of them;
every query sees a random part of its own of them, never its own token, always the vector. Here the layer is one of our
decoder's, pre-norm and rotary. There a query gets its position from BERT's learnt table; here sinusoids (arXiv
1706.03762 section 3.5) are added, so that no length is the longest.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import attention, layers, sampling
from .config import DecoderConfig

_SLOWEST = 10_000.0  # base of the sinusoids' wavelengths, as in arXiv 1706.03762


def random_rows(
  segment_ids_BxL: jax.Array, noise_BxL: jax.Array, units_BxL: jax.Array, always_BxL: jax.Array, hidden: float
) -> jax.Array:
  """Who may see whom: bool [B, L, L], query by key; made of rank-2 integers, on the device.

  Args:
    segment_ids_BxL: int32, 0 = padding; nobody sees another segment.
    noise_BxL: int32, random bits of each query.
    units_BxL: int32, keys of one number are hidden from a query together.
    always_BxL: bool, keys that every other position of their segment sees.
    hidden: probability that a query does not see a unit; no query sees its own key.
  """
  seen = (sampling.uniform(noise_BxL, units_BxL) >= hidden) | always_BxL[:, None, :]
  same = (segment_ids_BxL[:, :, None] == segment_ids_BxL[:, None, :]) & (segment_ids_BxL > 0)[:, :, None]
  return same & seen & ~jnp.eye(segment_ids_BxL.shape[1], dtype=bool)[None]


def sinusoids(positions_BxL: jax.Array, width: int) -> jax.Array:
  """Positions as float32 [B, L, width]: sines, then cosines, of wavelengths from 2 pi to 10,000 times that."""
  sin, cos = layers.rotary_tables(positions_BxL, width + width % 2, _SLOWEST)
  return jnp.concatenate([sin, cos], axis=-1)[..., :width]


class EnhancedDecoder(nn.Module):
  """Vectors and embedded tokens to hidden states for the output head.

  Attributes:
    config: of one layer, whose other settings are the decoder's.
    hidden: probability that a unit of tokens is out of a query's sight.
  """

  config: DecoderConfig
  hidden: float

  @nn.compact
  def __call__(
    self,
    vectors_BxLxD: jax.Array,
    memory_BxLxD: jax.Array,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    noise_BxL: jax.Array,
    units_BxL: jax.Array,
    always_BxL: jax.Array,
  ) -> jax.Array:
    """Hidden states [B, L, D] in `config.dtype`.

    Args:
      vectors_BxLxD: what each position's query is made of, beside its position.
      memory_BxLxD: keys and values.
      positions_BxL: int32, inside the segment.
      segment_ids_BxL, noise_BxL, units_BxL, always_BxL: as for `random_rows`.
    """
    c = self.config
    visible = random_rows(segment_ids_BxL, noise_BxL, units_BxL, always_BxL, self.hidden)
    kernel = attention.kernel(c, False, True, positions_BxL.shape[1])
    rotary = layers.rotary_tables(positions_BxL, c.head_dim, c.rope_theta)
    x = vectors_BxLxD + sinusoids(positions_BxL, c.embed_dim).astype(c.dtype)
    memory = layers.RMSNorm(c, name='memory_norm')(memory_BxLxD)
    x = x + layers.Attention(c, kernel, False, name='attention')(
      layers.RMSNorm(c, name='attention_norm')(x), rotary, segment_ids_BxL, visible, memory
    )
    x = x + layers.GatedMLP(c, name='mlp')(layers.RMSNorm(c, name='mlp_norm')(x))
    return layers.RMSNorm(c, name='final_norm')(nn.with_logical_constraint(x, ('batch', 'length', 'activation_embed')))

  @nn.nowrap
  def initial(self, key: jax.Array) -> dict:
    """Fresh parameters, boxed with their logical axis names."""
    plain = EnhancedDecoder(dataclasses.replace(self.config, attention='xla'), self.hidden)
    x, tokens = jnp.zeros((1, 8, self.config.embed_dim), self.config.dtype), jnp.zeros((1, 8), jnp.int32)
    return plain.init(key, x, x, tokens, tokens + 1, tokens, tokens, tokens > 0)['params']

  @nn.nowrap
  def train_flops(self, positions: float, length: int) -> float:
    """Model FLOPs of one update, as `DecoderConfig.train_flops` counts those of a layer; the head's are not here."""
    return self.config.train_flops(round(positions), 0, length, visible=1.0)
