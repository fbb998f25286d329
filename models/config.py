"""The decoder's configuration, which is also the legend of its dimensions."""

import dataclasses
from typing import Literal, get_args

from .. import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """A Llama-like decoder (arXiv 2302.13971): RMSNorm, rotary positions, gated MLP, grouped-query heads.

  Attributes:
    vocab_size: rows of the embedding table (V). None takes the vocabulary's size, rounded up to a multiple of 128.
    embed_dim: width of the residual stream (D).
    num_layers: blocks.
    num_heads: query heads (H).
    num_kv_heads: key and value heads (K); must divide num_heads.
    head_dim: width of a head (E); even, for rotary positions.
    mlp_dim: width of the gated MLP (F).
    tied_embeddings: whether the output head is the embedding table.
    embedding_scale: what embeddings are multiplied by on their way in; None takes sqrt(D) where they are tied (a table
      drawn at the output head's scale; arXiv 1706.03762 section 3.4), 1 where they are not. Llama's is 1.
    rope_theta: base of the rotary frequencies; 10,000 as in RoFormer (arXiv 2104.09864).
    norm_epsilon: RMSNorm's epsilon; 1e-5 as in Llama.
    dtype: of activations and matrix products ('float32' or 'bfloat16'); softmax, norms and losses are float32.
    param_dtype: of the parameters.
    attention: 'splash' is Pallas's kernel for TPU, which serves causal and bidirectional rules without an L x L mask;
      'cudnn' is NVIDIA's fused kernel, for bfloat16; 'xla' is plain products, for any device and rule;
      'splash_interpret' runs the kernel's steps anywhere, slowly, for tests. 'auto' takes splash on TPU, cudnn on GPU
      where the dtype allows, xla elsewhere. Rules that splash does not know take 'xla' there.
    remat: what the backward pass recomputes, by what it keeps of each block besides its input (names as in MaxText):
      'full' nothing; 'save_context' attention's output; 'save_qkv_proj' queries, keys and values; 'minimal' every
      product with weights; 'minimal_with_context' both; 'none' whatever differentiation asks for.
    scan_unroll: how many layers one step of the layer scan holds; num_layers unrolls it, which is faster on CPU.
    loss_chunk: scored positions of a row whose logits are alive at a time; divides the memory of [B, N, V].
  """

  vocab_size: int | None = None
  embed_dim: int = 128
  num_layers: int = 4
  num_heads: int = 4
  num_kv_heads: int = 4
  head_dim: int = 32
  mlp_dim: int = 384
  tied_embeddings: bool = True
  embedding_scale: float | None = None
  rope_theta: float = 10_000.0
  norm_epsilon: float = 1e-5
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  param_dtype: Literal['float32', 'bfloat16'] = 'float32'
  attention: Literal['auto', 'xla', 'cudnn', 'splash', 'splash_interpret'] = 'auto'
  remat: Literal['none', 'minimal_with_context', 'minimal', 'save_qkv_proj', 'save_context', 'full'] = 'none'
  scan_unroll: int = 1
  loss_chunk: int = 128

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type in (int, int | None) and value is not None and not 0 < value < 2**31:
        raise UserError(f'DecoderConfig.{field.name} is {value}; it is a whole number from 1, below 2**31.')
    if self.rope_theta <= 0 or self.norm_epsilon < 0:
      raise UserError(
        f'DecoderConfig has rope_theta={self.rope_theta} and norm_epsilon={self.norm_epsilon}; the first is above 0, '
        'the second 0 or more.'
      )
    if self.embedding_scale is not None and not 0 < self.embedding_scale < float('inf'):
      raise UserError(f'DecoderConfig.embedding_scale is {self.embedding_scale}; it is above 0, or None.')
    if self.num_heads % self.num_kv_heads:
      raise UserError(f'num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}.')
    if self.head_dim % 2:
      raise UserError(f'head_dim={self.head_dim} is odd; rotary positions turn pairs.')
    for name in ('dtype', 'param_dtype', 'attention', 'remat'):
      allowed = get_args(self.__dataclass_fields__[name].type)
      if getattr(self, name) not in allowed:
        raise UserError(f'DecoderConfig.{name} is {getattr(self, name)!r}; choose one of {", ".join(allowed)}.')

  def with_vocabulary(self, vocabulary_size: int) -> 'DecoderConfig':
    """This configuration with room for `vocabulary_size` ids; UserError if vocab_size is set and too small."""
    if self.vocab_size is None:
      return dataclasses.replace(self, vocab_size=-(-vocabulary_size // 128) * 128)
    if self.vocab_size < vocabulary_size:
      raise UserError(f'DecoderConfig.vocab_size={self.vocab_size} is below the vocabulary of {vocabulary_size} ids.')
    return self

  @property
  def input_scale(self) -> float:
    """What embeddings are multiplied by on their way in."""
    if self.embedding_scale is not None:
      return self.embedding_scale
    return self.embed_dim**0.5 if self.tied_embeddings else 1.0

  @property
  def block_params(self) -> int:
    """Parameters of all blocks, without embeddings, norms and head."""
    attention = self.embed_dim * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
    return self.num_layers * (attention + 3 * self.embed_dim * self.mlp_dim)

  def train_flops(self, positions: int, scored: int, length: int, visible: float) -> float:
    """Model FLOPs of one training step over one row: forward and backward, 6 a parameter and position.

    Args:
      positions: positions the blocks process.
      scored: positions the output head processes.
      length: positions of a row.
      visible: share of them that a token attends to, on average: one half under a causal mask (MaxText's convention).
    """
    attention = 12 * self.num_layers * self.num_heads * self.head_dim * length * positions * visible
    head = 6 * self.embed_dim * (self.vocab_size or 0) * scored
    return 6.0 * self.block_params * positions + attention + head
