"""What is said of an exported model: in its README, in its configuration, on the terminal."""

from collections.abc import Callable

from ...objectives.embedding import Embedding
from ...objectives.scorers import FillIn, Infill, PseudoLikelihood, SpanInfill, SuffixFirst
from .facts import Facts

_LOAD = """```python
from transformers import AutoTokenizer, {classes}

tokenizer = AutoTokenizer.from_pretrained(FOLDER{more})
model = {classes}.from_pretrained(FOLDER{more})
```
"""
_INFILL = """
It was trained to fill in spans at the end of a text: write `<mask:0>` where the span is missing, the rest of the text,
`<mask:0>` once more, and let it generate until `<eoss>`. Without a `<mask:0>` it goes on with the text.
"""
_FILL_IN = """
It was trained to fill in the middle of a text: write `<special:3>`, what stands before it, `<special:4>`, what stands
behind it, `<special:5>`, and let it generate until `<eoss>`. Without these it goes on with the text.
"""
_SUFFIX_FIRST = """
It was trained to fill in the middle of a text: write `<special:3><special:4>`, what stands behind it, `<special:5>`,
what stands before it, and let it generate until `<eoss>`. Without these it goes on with the text.
"""
_SPANS = """
It fills in spans: the prompt is the text with `<mask:0>` where one is missing and `<eoss>` at its end; behind it follow
`<mask:0>`, the span and `<eoss>`.
"""
_OF_SCORER: dict[type, str] = {Infill: _INFILL, FillIn: _FILL_IN, SuffixFirst: _SUFFIX_FIRST, SpanInfill: _SPANS}
_BIDIRECTIONAL = """
**This is not a causal model.** In {where} a position sees the tokens to its right as well, so it cannot generate text
from left to right, and LlamaForCausalLM and AutoModelForCausalLM refuse it. `UnmaskForMaskedLM`, in
`modeling_unmask.py` beside this file, is the same decoder with its own attention; it is loaded with
`trust_remote_code=True`. `logits[:, i]` are those of token `i`{shift}.
"""
_SHIFTED = """ (the output at `i - 1` predicts it, as in MNTP, and the class moves it there; nothing predicts the
first token, whose logits are all 0)"""
_PREFIX = """
**This is not a causal model.** It was trained to read a prefix from both sides and to go on from left to right, which
LlamaForCausalLM and AutoModelForCausalLM do not know. `UnmaskForMaskedLM`, in `modeling_unmask.py` beside this file, is
loaded with `trust_remote_code=True`; give it `levels`, 0 on the prefix and rising behind it. `logits[:, i]` are those
of token `i` (the output at `i - 1` predicts it, and the class moves it there; nothing predicts the first token, whose
logits are all 0).
"""
_UNSHIFTED = """
**This is not a next-token model**, although its attention is causal: output `i` predicts the token at `i`. So it is no
LlamaForCausalLM. `UnmaskForMaskedLM`, in `modeling_unmask.py` beside this file, is loaded with
`trust_remote_code=True`.
"""
_VECTOR = """
Its vector of a text is the last hidden state of {token}, with `output_hidden_states=True`:
`hidden_states[-1][:, {place}]`{padding}.
"""
_VECTORS = """
Its vector of a text is the mean of the last hidden states of {count} tokens: put `{written}` behind the text, and read
the state of each in a run of its own whose `attention_mask` is 0 on the others. In training none of them saw another.
"""
_TEXT = """
A text begins with the token for its start, which the tokenizer adds; in training, documents ended with the one for
their end. `[MASK]` and the sentinels take the space before them, and the word behind brings its own:
`The capital of [MASK] is Paris.`
"""
_BEGIN = """
As this model answers, `{token}` stands at the beginning of a text in place of the token for its start: write it there,
and let the tokenizer add nothing (`add_special_tokens=False`).
"""
_BFLOAT16 = """
The weights are rounded to bfloat16 (8 bits of precision) from the float32 ones that were trained: logits differ by up
to a few hundredths, and what is exported cannot be imported back to the bit.
"""
_COMPUTED = """
It was trained with bfloat16 products on float32 parameters. The float32 weights loaded in float32 give logits that
differ from those of training by the rounding that is left out.
"""


def attention(facts: Facts) -> str:
  """Who sees whom, in words."""
  layers = [facts.attention.ordered_in(i, facts.model.num_layers) for i in range(facts.model.num_layers)]
  if all(layers):
    blocks = f' between blocks of {facts.attention.block} tokens' if facts.attention.block > 1 else ''
    return 'causal' + (' behind a prefix' if facts.attention.levels else blocks)
  return 'bidirectional' if not any(layers) else f'causal in {sum(layers)} of {len(layers)} layers'


def text(facts: Facts, embedding: Embedding, named: Callable[[int], str]) -> str:
  """The folder's README.

  Args:
    facts: what is exported.
    embedding: how a text becomes a vector.
    named: gives a special token as the exported tokenizer reads it.
  """
  causal, kind = facts.is_causal_lm, type(facts.objective).__name__
  classes = 'AutoModelForCausalLM' if causal else 'AutoModelForMaskedLM'
  parts = [
    f'# {facts.name}, update {facts.step}\n',
    f'Trained by unmask under `{kind}` on rows of {facts.length} positions; {facts.dtype} weights.\n',
    _LOAD.format(classes=classes, more='' if causal else ', trust_remote_code=True'),
  ]
  if not causal:
    parts.append(_not_causal(facts))
  elif isinstance(facts.scorer, Infill):
    parts.append(next(_OF_SCORER[kind] for kind in type(facts.scorer).__mro__ if kind in _OF_SCORER))
  parts += [
    *([f'\n{facts.objective.note}\n'] if facts.objective.note else []),
    *([_vector(embedding, named)] if embedding.reads != 'text' else []),
    _TEXT,
    *([] if embedding.begin is None else [_BEGIN.format(token=named(embedding.begin))]),
    *([_BFLOAT16] if facts.is_rounded else []),
    *([_COMPUTED] if facts.dtype == 'float32' and facts.model.dtype == 'bfloat16' else []),
    f'\nThe objective in full: `{facts.objective!r}`\n',
  ]
  return '\n'.join(part.strip('\n') + '\n' for part in parts)


def _vector(embedding: Embedding, named: Callable[[int], str]) -> str:
  names = [named(token) for token in embedding.behind]
  if embedding.reads == 'first':
    return _VECTOR.format(token='the first token, which the tokenizer puts in front', place=0, padding='')
  if len(names) == 1:
    token, padding = f'`{names[0]}`, put behind the text', ' where the text is padded on the left or not at all'
    return _VECTOR.format(token=token, place=-1, padding=padding)
  return _VECTORS.format(count=len(names), written=''.join(names))


def _not_causal(facts: Facts) -> str:
  if facts.attention.levels:
    return _PREFIX + (_SPANS if isinstance(facts.scorer, Infill) else '')
  if facts.attention.always_ordered:
    return _UNSHIFTED
  where = 'every layer'
  if facts.attention.block > 1:
    where += ', inside blocks of the text,'
  elif attention(facts) != 'bidirectional':
    where = 'some layers'
  return _BIDIRECTIONAL.format(where=where, shift=_SHIFTED if facts.objective.shift else '')


def summary(facts: Facts, place: str) -> str:
  """What the user is told."""
  how = 'LlamaForCausalLM'
  if not facts.is_causal_lm:
    how = (
      "no causal language model, so transformers' Llama refuses it: AutoModelForMaskedLM with trust_remote_code=True"
    )
  lines = [f'{place}: {facts.name}, update {facts.step}, {facts.dtype} weights; {how}']
  if facts.is_rounded:
    lines.append('  its weights are rounded to bfloat16; without --dtype they are what was trained, to the bit')
  elif facts.dtype == 'float32' and facts.model.dtype == 'bfloat16':
    lines.append(
      '  it was trained with bfloat16 products: in float32 its logits differ by the rounding that is left out'
    )
  if facts.is_causal_lm and isinstance(facts.scorer, PseudoLikelihood):
    lines.append('  it was trained on texts with [MASK]: as a model of clean text it has not been trained')
  return '\n'.join(lines)
