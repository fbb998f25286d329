"""A number for each position, of the decoder's hidden states: ELECTRA's discriminator head (arXiv 2003.10555)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import layers
from .config import DecoderConfig


class Detector(nn.Module):
  """gelu(hidden @ dense) . weight, without biases, as the decoder has none."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, hidden_BxNxD: jax.Array) -> jax.Array:
    """Float32 [B, N], of [B, N, D]."""
    c, width = self.config, self.config.embed_dim
    dense = layers.param(self, 'dense', (width, width), ('embed', 'activation_embed'), width, c.param_dtype)
    weight = layers.param(self, 'weight', (width,), ('activation_embed',), width, c.param_dtype)
    x = nn.gelu(jnp.einsum('bnd,df->bnf', hidden_BxNxD.astype(c.dtype), dense.astype(c.dtype)))
    return jnp.einsum('bnf,f->bn', x, weight.astype(c.dtype), preferred_element_type=jnp.float32)

  @nn.nowrap
  def initial(self, key: jax.Array) -> dict:
    """Fresh parameters, boxed with their logical axis names."""
    return self.init(key, jnp.zeros((1, 8, self.config.embed_dim), self.config.dtype))['params']

  @nn.nowrap
  def train_flops(self, positions: float) -> float:
    """Model FLOPs of one update: 6 a parameter and position."""
    width = self.config.embed_dim
    return 6.0 * (width * width + width) * positions
