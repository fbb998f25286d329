"""More classes than tokens for the output head, in one softmax with it: ERNIE-Gram's n-grams (arXiv 2010.12148)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import head, layers
from .config import DecoderConfig


class Classes(nn.Module):
  """A table of rows for classes, beside a decoder's for tokens.

  Attributes:
    config: the decoder's, with the number of classes in place of the vocabulary's size.
    outer: the decoder's.
  """

  config: DecoderConfig
  outer: DecoderConfig

  @nn.compact
  def __call__(
    self, hidden_BxNxD: jax.Array, tokens_BxN: jax.Array, classes_BxN: jax.Array, decoder_params: dict
  ) -> jax.Array:
    """-log p in nats, float32 [B, N], of a class where `classes_BxN` is not below 0, of a token elsewhere."""
    c = self.config
    shape = (c.vocab_size or 0, c.embed_dim)
    rows = layers.param(self, 'rows', shape, ('vocab', 'embed'), c.embed_dim, c.param_dtype)
    tokens = head.score(hidden_BxNxD, tokens_BxN, decoder_params, self.outer)
    classes = head.score_by(hidden_BxNxD, jnp.maximum(classes_BxN, 0), rows, c)
    # Each by its own partition function, then by that of both: no table of all rows is ever put together.
    partition = jnp.logaddexp(tokens.log_partition, classes.log_partition)
    own = jnp.where(
      classes_BxN < 0, tokens.cross_entropy - tokens.log_partition, classes.cross_entropy - classes.log_partition
    )
    return partition + own

  @nn.nowrap
  def initial(self, key: jax.Array) -> dict:
    """Fresh parameters, boxed with their logical axis names."""
    c, one = self.outer, jnp.zeros((1, 1), jnp.int32)
    hidden, table = jnp.zeros((1, 1, c.embed_dim), c.dtype), jnp.zeros((c.vocab_size or 0, c.embed_dim), c.param_dtype)
    decoder_params = {'embedding' if c.tied_embeddings else 'output': table}
    return self.init(key, hidden, one, one, decoder_params)['params']

  @nn.nowrap
  def train_flops(self, scored: float) -> float:
    """Model FLOPs of one update: 6 a row of either table and position that is scored."""
    return 6.0 * self.outer.embed_dim * ((self.outer.vocab_size or 0) + (self.config.vocab_size or 0)) * scored


def beside(outer: DecoderConfig, count: int) -> Classes:
  """The module of so many classes beside a decoder."""
  return Classes(dataclasses.replace(outer, vocab_size=count), outer)
