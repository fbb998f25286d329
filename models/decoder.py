"""The decoder: embedding, scanned blocks, final norm. The output head is applied by `head`, in chunks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import UserError
from . import attention, layers
from .config import DecoderConfig

_QKV = ('query', 'key', 'value')
_PRODUCTS = (*_QKV, 'attention_out', 'gate_up')
# What a block keeps for its backward pass besides its input, by the names that `layers` and `splash` give.
_KEPT = {
  'full': (),
  'save_context': ('context',),
  'save_qkv_proj': _QKV,
  'minimal': _PRODUCTS,
  'minimal_with_context': (*_PRODUCTS, 'context'),
}


class Decoder(nn.Module):
  """Token ids to hidden states."""

  config: DecoderConfig

  @nn.compact
  def __call__(
    self,
    tokens_BxL: jax.Array,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    *,
    ordered: bool | tuple[bool, ...] = True,
    table: tuple[tuple[bool, ...], ...] | None = None,
    levels_BxL: jax.Array | None = None,
    groups_BxL: jax.Array | None = None,
  ) -> jax.Array:
    """Hidden states after the final norm, [B, L, D] in `config.dtype`.

    Args:
      tokens_BxL, positions_BxL, segment_ids_BxL: int32; segment 0 is padding, whose outputs mean nothing.
      ordered, table: the static attention rule; `ordered` may be one for each of several groups of layers.
      levels_BxL, groups_BxL: int32, only for rules that need them.
    """
    c = self.config
    if c.vocab_size is None:
      raise ValueError('DecoderConfig.vocab_size is not set; use with_vocabulary')
    # A tied table is drawn at the output head's scale, 1 / sqrt(D); the blocks want inputs of unit variance.
    embedding = layers.param(
      self, 'embedding', (c.vocab_size, c.embed_dim), ('vocab', 'embed'), c.embed_dim, c.param_dtype
    )
    x = stack(
      c,
      embed(c, embedding, tokens_BxL),
      positions_BxL,
      segment_ids_BxL,
      ordered=ordered,
      table=table,
      levels_BxL=levels_BxL,
      groups_BxL=groups_BxL,
    )
    if not c.tied_embeddings:
      layers.param(self, 'output', (c.vocab_size, c.embed_dim), ('vocab', 'embed'), c.embed_dim, c.param_dtype)
    return layers.RMSNorm(c, name='final_norm')(x)


def embed(config: DecoderConfig, table_VxD: jax.Array, tokens_BxL: jax.Array) -> jax.Array:
  """Tokens as the blocks read them, [B, L, D] in `config.dtype`."""
  x = layers.lookup(table_VxD.astype(config.dtype), tokens_BxL) * config.input_scale
  return nn.with_logical_constraint(x, ('batch', 'length', 'activation_embed'))


def block(c: DecoderConfig) -> type[layers.Block]:
  """The class of a block whose backward pass keeps what the remat policy says."""
  if c.remat == 'none':
    return layers.Block
  policy = jax.checkpoint_policies.save_only_these_names(*_KEPT[c.remat])
  return nn.remat(layers.Block, policy=policy, prevent_cse=False)


def stack(
  c: DecoderConfig,
  x_BxLxD: jax.Array,
  positions_BxL: jax.Array,
  segment_ids_BxL: jax.Array,
  *,
  ordered: bool | tuple[bool, ...],
  table: tuple[tuple[bool, ...], ...] | None,
  levels_BxL: jax.Array | None,
  groups_BxL: jax.Array | None,
) -> jax.Array:
  """The blocks of the module that calls it, scanned, under the name 'blocks'; arguments as for `Decoder`."""
  see = functools.partial(attention.visible, segment_ids_BxL, levels_BxL=levels_BxL, groups_BxL=groups_BxL, table=table)
  general = not (table is None and levels_BxL is None and groups_BxL is None)
  kernel = attention.kernel(c, ordered, general, positions_BxL.shape[1])
  if isinstance(ordered, bool):
    masks, by_layer = () if kernel.startswith('splash') else (see(ordered),), (ordered,) * c.num_layers
  elif ordered and c.num_layers % len(ordered) == 0:
    masks, by_layer = (see(True), see(False)), np.repeat(ordered, c.num_layers // len(ordered))
  else:
    raise UserError(
      f'The attention rule has {len(ordered)} groups of layers, which do not divide {c.num_layers} layers.'
    )

  causal = ordered is True and levels_BxL is None  # tokens of one level see each other, later ones too
  rotary = layers.rotary_tables(positions_BxL, c.head_dim, c.rope_theta)
  return nn.scan(
    block(c),
    variable_axes={'params': 0, 'diagnosis': 0},  # the latter is empty but for `launch.diagnosis`
    split_rngs={'params': True},
    in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
    length=c.num_layers,
    unroll=c.scan_unroll,
    metadata_params={nn.PARTITION_NAME: 'layers'},
  )(c, kernel, causal, name='blocks')(x_BxLxD, jnp.asarray(by_layer), rotary, segment_ids_BxL, masks)[0]
