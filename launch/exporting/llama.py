"""Names and layouts of the decoder's parameters in `transformers`' Llama, and the configurations of both.

The decoder is Llama's (arXiv 2302.13971) with the halves convention of rotary positions that its weights have on
Hugging Face, so each of their tensors is a part of one of our parameters with its axes moved, and nothing is computed,
but for embeddings that are scaled on their way in: Llama has no such factor, so the table is exported twice, once
scaled.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ... import UserError
from ...models.config import DecoderConfig

Index = tuple[int | slice, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
  """A tensor of Llama and the part of our parameter that it is.

  Attributes:
    name: in Llama's state dict.
    leaf: the path of our parameter.
    index: the part of it, such as a layer.
    split: the tensor's shape, with axes apart that Llama flattens.
    axes: the order of those axes in our parameter.
    shape: as Llama has it.
    scale: what our values are multiplied by on their way there.
  """

  name: str
  leaf: tuple[str, ...]
  index: Index
  split: tuple[int, ...]
  axes: tuple[int, ...]
  shape: tuple[int, ...]
  scale: float = 1.0

  def ours(self, array: np.ndarray) -> np.ndarray:
    """A view of Llama's tensor whose axes are those of `leaf[index]`."""
    return array.reshape(self.split).transpose(self.axes)


def tensors(model: DecoderConfig) -> list[Tensor]:
  """All tensors of a model, those of one of our parameters one after the other.

  Args:
    model: with its vocabulary's size.
  """
  rows, width, heads, kv_heads = model.vocab_size or 0, model.embed_dim, model.num_heads, model.num_kv_heads
  head, mlp, everything = model.head_dim, model.mlp_dim, slice(None)

  def whole(name: str, leaf: tuple[str, ...], shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    index, axes = (everything,) * len(shape), tuple(range(len(shape)))
    return Tensor(name=name, leaf=leaf, index=index, split=shape, axes=axes, shape=shape, scale=scale)

  def of_blocks(
    name: str, *leaf: str, split: tuple[int, ...], axes: tuple[int, ...], flat: tuple[int, ...], part: int | None = None
  ) -> list[Tensor]:
    """One a layer. `part` is that of [D, 2, F]."""
    index = (everything,) * len(split) if part is None else (everything, part, everything)
    return [
      Tensor(
        name=f'model.layers.{layer}.{name}.weight',
        leaf=('blocks', *leaf),
        index=(layer, *index),
        split=split,
        axes=axes,
        shape=flat,
      )
      for layer in range(model.num_layers)
    ]

  def norm(name: str, leaf: str) -> list[Tensor]:
    return of_blocks(name, leaf, 'scale', split=(width,), axes=(0,), flat=(width,))

  def projection(name: str, leaf: str, count: int) -> list[Tensor]:
    split, flat = (count, head, width), (count * head, width)
    return of_blocks(f'self_attn.{name}', 'attention', leaf, split=split, axes=(2, 0, 1), flat=flat)

  def gate(name: str, part: int) -> list[Tensor]:
    return of_blocks(f'mlp.{name}', 'mlp', 'gate_up', split=(mlp, width), axes=(1, 0), flat=(mlp, width), part=part)

  out = {'split': (width, heads, head), 'axes': (1, 2, 0), 'flat': (width, heads * head)}
  down = {'split': (width, mlp), 'axes': (1, 0), 'flat': (width, mlp)}
  output = ('embedding' if model.tied_embeddings else 'output',)
  return [
    whole('model.embed_tokens.weight', ('embedding',), (rows, width), model.input_scale),
    *([] if is_tied(model) else [whole('lm_head.weight', output, (rows, width))]),
    *norm('input_layernorm', 'attention_norm'),
    *projection('q_proj', 'query', heads),
    *projection('k_proj', 'key', kv_heads),
    *projection('v_proj', 'value', kv_heads),
    *of_blocks('self_attn.o_proj', 'attention', 'out', **out),
    *norm('post_attention_layernorm', 'mlp_norm'),
    *gate('gate_proj', 0),
    *gate('up_proj', 1),
    *of_blocks('mlp.down_proj', 'mlp', 'down', **down),
    whole('model.norm.weight', ('final_norm', 'scale'), (width,)),
  ]


def is_tied(model: DecoderConfig) -> bool:
  """Whether Llama can tie the tables too: it has no factor between them."""
  return model.tied_embeddings and model.input_scale == 1.0


def fields(model: DecoderConfig, length: int, dtype: str) -> dict[str, Any]:
  """What 'config.json' says of the shape, by `transformers`' names.

  Args:
    model: with its vocabulary's size.
    length: positions it was trained on.
    dtype: of the weights.
  """
  return {
    'vocab_size': model.vocab_size,
    'hidden_size': model.embed_dim,
    'intermediate_size': model.mlp_dim,
    'num_hidden_layers': model.num_layers,
    'num_attention_heads': model.num_heads,
    'num_key_value_heads': model.num_kv_heads,
    'head_dim': model.head_dim,
    'hidden_act': 'silu',
    'max_position_embeddings': length,
    'rms_norm_eps': model.norm_epsilon,
    'rope_theta': model.rope_theta,  # as releases before 5 read it
    'rope_parameters': {'rope_type': 'default', 'rope_theta': model.rope_theta},
    'attention_bias': False,
    'attention_dropout': 0.0,
    'mlp_bias': False,
    'tie_word_embeddings': is_tied(model),
    'initializer_range': model.embed_dim**-0.5,
    'torch_dtype': dtype,
  }


# Of config.json: what a Llama may have that this decoder has not, and the values that mean it has not. None is absent.
_ONLY = {
  'hidden_act': ('silu', 'swish', None),
  'attention_bias': (False, None),
  'mlp_bias': (False, None),
  'rope_scaling': (None,),
  'partial_rotary_factor': (1, None),
  'sliding_window': (None,),
  'quantization_config': (None,),
}
_NEEDED = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads')


def decoder(config: Mapping[str, Any], where: str) -> DecoderConfig:
  """The decoder that a Llama's 'config.json' describes.

  Args:
    config: its content; absent fields have the values of `transformers`' LlamaConfig.
    where: named in errors.

  Raises:
    UserError: it is no Llama, or one that this decoder cannot be; names the fields.
  """
  kind = config.get('model_type')
  if kind != 'llama':
    raise UserError(f'{where} is a model of type {kind!r}; only weights of the type "llama" can be read.')
  if missing := [name for name in _NEEDED if not _is_count(config.get(name))]:
    raise UserError(f'{where} does not say {", ".join(missing)}, or not as whole numbers.')
  rotary = config.get('rope_parameters') or {}
  flat = dict(config)
  if rotary.get('rope_type', 'default') != 'default':
    flat['rope_scaling'] = rotary
  scaling = flat.get('rope_scaling')
  if isinstance(scaling, Mapping) and scaling.get('rope_type', scaling.get('type', 'default')) == 'default':
    flat['rope_scaling'] = None
  other = [f'{name}={flat[name]!r}' for name, known in _ONLY.items() if flat.get(name) not in known]
  if other:
    raise UserError(f'{where} has {", ".join(other)}, which the decoder has not: such a model cannot be read.')
  heads = config['num_attention_heads']
  return DecoderConfig(
    vocab_size=config['vocab_size'],
    embed_dim=config['hidden_size'],
    num_layers=config['num_hidden_layers'],
    num_heads=heads,
    num_kv_heads=config.get('num_key_value_heads') or heads,
    head_dim=config.get('head_dim') or config['hidden_size'] // heads,
    mlp_dim=config['intermediate_size'],
    tied_embeddings=bool(config.get('tie_word_embeddings', False)),
    embedding_scale=1.0 if config.get('tie_word_embeddings', False) else None,
    rope_theta=float(config.get('rope_theta') or rotary.get('rope_theta') or 10_000.0),
    norm_epsilon=float(config.get('rms_norm_eps', 1e-6)),
  )


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0


SHAPE = (
  'embed_dim',
  'num_layers',
  'num_heads',
  'num_kv_heads',
  'head_dim',
  'mlp_dim',
  'tied_embeddings',
  'rope_theta',
  'norm_epsilon',
)
"""Fields of DecoderConfig that weights decide; 'input_scale' too, and 'vocab_size' from below."""


def differences(wanted: DecoderConfig, found: DecoderConfig) -> list[str]:
  """What keeps weights of the shape `found` from being a start of `wanted`, one binding each."""
  names = (*SHAPE, 'input_scale')
  pairs = [(name, getattr(wanted, name), getattr(found, name)) for name in names]
  lines = [
    f'{"embedding_scale" if name == "input_scale" else name} is {ours} and the weights have {theirs}'
    for name, ours, theirs in pairs
    if not (ours == theirs or (isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-9)))
  ]
  if (wanted.vocab_size or 0) < (found.vocab_size or 0):
    lines.append(f'vocab_size is {wanted.vocab_size} and the weights have {found.vocab_size} rows')
  return lines


def sizes(found: Iterable[Tensor]) -> int:
  """Values in all."""
  return sum(math.prod(tensor.shape) for tensor in found)
