# A decoder trained by unmask whose attention is not causal, or whose output is that of the token it stands on. This
# file is copied beside its weights, and transformers runs it there: it imports torch and transformers only. Its tensors
# have Llama's names and layouts, and the computation is Llama's (arXiv 2302.13971) but for who sees whom.
# Licence: Apache-2.0.
"""UnmaskForMaskedLM, for AutoModelForMaskedLM with trust_remote_code=True."""

from typing import ClassVar

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput


class UnmaskConfig(PretrainedConfig):
  """The shape as in Llama's configuration, and besides:

  Attributes:
    causal_layers: of each layer, whether a position sees only what stands before it, or has a lower level.
    causal_block: tokens that have one level, where none are given.
    prediction_shift: 1 if token i is predicted by the output at i - 1 (MNTP), 0 if by that at i.
  """

  model_type = 'unmask'

  def __init__(
    self,
    vocab_size=128,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=32,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    initializer_range=0.02,
    causal_layers=None,
    causal_block=1,
    prediction_shift=0,
    **more,
  ):
    self.vocab_size = vocab_size
    self.hidden_size = hidden_size
    self.intermediate_size = intermediate_size
    self.num_hidden_layers = num_hidden_layers
    self.num_attention_heads = num_attention_heads
    self.num_key_value_heads = num_key_value_heads
    self.head_dim = head_dim
    self.max_position_embeddings = max_position_embeddings
    self.rms_norm_eps = rms_norm_eps
    self.rope_theta = rope_theta
    self.initializer_range = initializer_range
    self.causal_layers = [False] * num_hidden_layers if causal_layers is None else causal_layers
    self.causal_block = causal_block
    self.prediction_shift = prediction_shift
    super().__init__(**more)


class _Norm(nn.Module):
  def __init__(self, config):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(config.hidden_size))
    self.epsilon = config.rms_norm_eps

  def forward(self, x):
    scaled = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.epsilon)
    return (scaled * self.weight.float()).to(x.dtype)


class _Attention(nn.Module):
  def __init__(self, config):
    super().__init__()
    width, self.size = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * self.size, config.num_key_value_heads * self.size
    self.groups = config.num_attention_heads // config.num_key_value_heads
    self.q_proj = nn.Linear(width, queries, bias=False)
    self.k_proj = nn.Linear(width, keys, bias=False)
    self.v_proj = nn.Linear(width, keys, bias=False)
    self.o_proj = nn.Linear(queries, width, bias=False)

  def forward(self, x, rotary, visible):
    heads = lambda y: y.unflatten(-1, (-1, self.size)).transpose(1, 2)
    q, k = (_rotate(heads(y), *rotary) for y in (self.q_proj(x), self.k_proj(x)))
    k, v = (y.repeat_interleave(self.groups, dim=1) for y in (k, heads(self.v_proj(x))))
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    return self.o_proj(mixed.transpose(1, 2).flatten(2))


def _rotate(x, sin, cos):
  first, second = x.float().chunk(2, dim=-1)
  return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class _MLP(nn.Module):
  def __init__(self, config):
    super().__init__()
    width, inner = config.hidden_size, config.intermediate_size
    self.gate_proj = nn.Linear(width, inner, bias=False)
    self.up_proj = nn.Linear(width, inner, bias=False)
    self.down_proj = nn.Linear(inner, width, bias=False)

  def forward(self, x):
    return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class _Layer(nn.Module):
  def __init__(self, config):
    super().__init__()
    self.input_layernorm = _Norm(config)
    self.self_attn = _Attention(config)
    self.post_attention_layernorm = _Norm(config)
    self.mlp = _MLP(config)

  def forward(self, x, rotary, visible):
    x = x + self.self_attn(self.input_layernorm(x), rotary, visible)
    return x + self.mlp(self.post_attention_layernorm(x))


class _Decoder(nn.Module):
  def __init__(self, config):
    super().__init__()
    self.config = config
    self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
    self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
    self.norm = _Norm(config)

  def forward(self, x, attention_mask, position_ids, levels):
    length = x.shape[1]
    half = self.config.head_dim // 2
    frequency = self.config.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angle = position_ids[:, None, :, None].float() * frequency
    rotary = angle.sin(), angle.cos()
    itself = torch.eye(length, dtype=torch.bool, device=x.device)
    every = attention_mask[:, None, None, :].bool() | itself  # padding sees itself, so that nothing is undefined
    if levels is None:
      block = self.config.causal_block
      levels = torch.arange(length, device=x.device)[None] if block == 1 else position_ids // block
    before = every & (levels[:, None, None, :] <= levels[:, None, :, None])
    for layer, causal in zip(self.layers, self.config.causal_layers, strict=True):
      x = layer(x, rotary, before if causal else every)
    return self.norm(x)


class UnmaskForMaskedLM(PreTrainedModel):
  """The decoder with its output head; `logits[:, i]` are those of token i, also where the model predicts it from the
  output before (then the logits of the first token, which nothing predicts, are all 0).
  """

  config_class = UnmaskConfig
  base_model_prefix = 'model'
  _tied_weights_keys: ClassVar = {'lm_head.weight': 'model.embed_tokens.weight'}  # where the configuration says so

  def __init__(self, config):
    super().__init__(config)
    self.model = _Decoder(config)
    self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    self.post_init()

  def get_input_embeddings(self):
    return self.model.embed_tokens

  def set_input_embeddings(self, value):
    self.model.embed_tokens = value

  def get_output_embeddings(self):
    return self.lm_head

  def set_output_embeddings(self, value):
    self.lm_head = value

  def forward(
    self,
    input_ids=None,
    attention_mask=None,
    position_ids=None,
    inputs_embeds=None,
    labels=None,
    levels=None,
    output_hidden_states=False,
    return_dict=True,
    **_,
  ):
    """Logits [batch, length, vocabulary], and the loss on the `labels` that are not -100.

    `attention_mask` is 1 for a token and 0 for padding; `position_ids` count from 0 at each row's first token. In
    causal layers a position sees those of its own and of lower `levels`, which are the places in the row if none are
    given: zeros on a prefix of the row let the prefix see itself from both sides.
    """
    x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
    if attention_mask is None:
      attention_mask = torch.ones(x.shape[:2], dtype=torch.long, device=x.device)
    if position_ids is None:
      position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    hidden = self.model(x, attention_mask, position_ids, levels)
    logits = self.lm_head(hidden).float()
    if self.config.prediction_shift:
      logits = nn.functional.pad(logits[:, :-1], (0, 0, 1, 0))
    loss = None
    if labels is not None:
      loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.to(logits.device).flatten(), ignore_index=-100)
    states = (hidden,) if output_hidden_states else None
    return MaskedLMOutput(loss=loss, logits=logits, hidden_states=states) if return_dict else (logits,)
