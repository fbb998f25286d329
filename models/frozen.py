"""A decoder beside the one that is trained, with its own shape and tables: it is asked, and never trained."""

import dataclasses

import jax
import jax.numpy as jnp

from . import head
from .config import DecoderConfig
from .decoder import Decoder


def shaped(outer: DecoderConfig, shape: dict) -> DecoderConfig:
  """The configuration of a shape, run as another decoder is: its precision, kernels and chunks are not parameters'."""
  layers = shape.get('num_layers', outer.num_layers)
  return DecoderConfig(
    **shape,
    dtype=outer.dtype,
    attention=outer.attention,
    scan_unroll=min(outer.scan_unroll, layers),
    loss_chunk=outer.loss_chunk,
  )


@dataclasses.dataclass(frozen=True)
class Frozen:
  """A decoder with its output head.

  Attributes:
    config: its own shape, as `shaped` gives it.
  """

  config: DecoderConfig

  def left_to_right(
    self, params: dict, tokens_BxL: jax.Array, positions_BxL: jax.Array, segment_ids_BxL: jax.Array
  ) -> jax.Array:
    """log p of each token by what stands left of it in its segment, float32 [B, L] in nats; no gradient.

    Attention is causal. Of the first token of a segment, and on padding, it means nothing.

    Args:
      params: its own, unboxed.
      tokens_BxL, positions_BxL, segment_ids_BxL: int32, as for `decoder.Decoder`.
    """
    params = jax.lax.stop_gradient(params)
    hidden = Decoder(self.config).apply({'params': params}, tokens_BxL, positions_BxL, segment_ids_BxL)
    following = jnp.pad(tokens_BxL[:, 1:], ((0, 0), (0, 1)))
    found = head.score(hidden, following, params, self.config).cross_entropy
    return jax.lax.stop_gradient(-jnp.pad(found[:, :-1], ((0, 0), (1, 0))))

  def initial(self, key: jax.Array) -> dict:
    """Zeros in the parameters' place, boxed with their logical axis names: the values are another run's."""
    tokens = jnp.zeros((1, 8), jnp.int32)
    decoder = Decoder(dataclasses.replace(self.config, attention='xla'))
    shapes = jax.eval_shape(lambda: decoder.init(key, tokens, tokens, jnp.ones_like(tokens))['params'])
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

  def flops(self, positions: float, length: int) -> float:
    """Model FLOPs of one forward pass, the head on every position: a third of `DecoderConfig.train_flops`."""
    return self.config.train_flops(round(positions), round(positions), length, visible=0.5) / 3
