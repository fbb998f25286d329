"""What an exported folder says of its model, for every objective there is: card, notes, configuration.

No weights are written: tests/integration/test_export.py holds those of each kind against transformers.
"""

import dataclasses
import json

import exports
import pytest
from objective_table import TABLE
from test_gin_files import names
from unmask.launch import config, loop
from unmask.launch.exporting import hugging_face
from unmask.models.config import DecoderConfig
from unmask.objectives import FillInTheMiddle, scorers
from unmask.tasks import vocabularies

# How each is exported. 'llama' loads as a causal model; the others have the class of their own, and are read from both
# sides ('both'; 'next' if output i is of token i + 1), behind a prefix, in blocks, by layer, or one token off.
KINDS = {
  'llama': [
    *('next_token', 'causal_masked', 'meap', 'salient_text_to_text', 'meap_fine_tuning', 'meap_fine_tuning_separate'),
    *('bottleneck', 'bottleneck_of_three', 'forgetful_causal', 'forgetful_causal_fixed', 'fill_in_the_middle'),
    *('fill_in_the_middle_tokens', 'answers_only_causal', 'prefix_lm_causal', 'span_corruption_causal', 'antlm'),
  ],
  'prefix': [
    *('answers_only', 'prefix_lm', 'prefix_lm_mode', 'span_corruption', 'span_corruption_extreme', 'ul2'),
    'budgeted_spans',
  ],
  'both': [
    *('mlm', 'mlm_mask_only', 'mlm_bernoulli', 'whole_word', 'pmi_masking', 'salient_span', 'salient_span_budget'),
    *('random_span', 'masked_diffusion', 'electra', 'ernie_gram', 'guided_masking', 'dup_mae', 'bpdec'),
    *('noise_strategies', 'token_replacement', 'mlm_schedule', 'noise_mixture', 'biphasic'),
  ],
  'next': ['mntp', 'bpdec_shifted', 'gpt_bert'],
  'blocks': ['masked_diffusion_blocks'],
  'layers': ['mlm_by_layer'],
  'unshifted': ['dup_mae_last'],
}
CASES = [(name, kind) for kind, several in KINDS.items() for name in several]
# Words of a README: of each kind, and of single objectives.
SIGNS = {
  'llama': 'AutoModelForCausalLM.from_pretrained',
  'prefix': 'give it `levels`, 0 on the prefix',
  'both': 'In every layer a position sees the tokens to its right',
  'next': 'the output at `i - 1` predicts it, as in MNTP',
  'blocks': 'In every layer, inside blocks of the text, a position',
  'layers': 'In some layers a position sees',
  'unshifted': 'not a next-token model',
}
OWN = {
  'causal_masked': '`<mask:0>` once more, and let it generate until `<eoss>`',
  'salient_text_to_text': '`<mask:0>` once more, and let it generate until `<eoss>`',
  'span_corruption': '`<mask:0>`, the span and `<eoss>`',
  'span_corruption_causal': '`<mask:0>`, the span and `<eoss>`',
  'fill_in_the_middle': '`<special:4>`, what stands\nbehind it, `<special:5>`',
  'electra': 'to tell tokens that a generator had replaced',
  'ernie_gram': 'The table of n-grams is not part of this folder',
  'bpdec': 'They are no part of this folder',
  'bottleneck': 'hidden state of `<special:6>`, put behind the text',
  'bottleneck_of_three': '`<special:6><special:7><special:8>`',
  'dup_mae': '`hidden_states[-1][:, 0]`',
  'dup_mae_last': 'hidden state of `</s>`, put behind the text',
}
LIKE = {  # other settings of the same
  'fill_in_the_middle_tokens': 'fill_in_the_middle',
  'span_corruption_extreme': 'span_corruption',
  'budgeted_spans': 'span_corruption',
  'bpdec_shifted': 'bpdec',
}
ATTENTION = {
  'prefix': 'causal behind a prefix',
  'blocks': 'causal between blocks of 4 tokens',
  'layers': 'causal in 2 of 4 layers',
  'both': 'bidirectional',
  'next': 'bidirectional',
}


def test_every_objective_is_here():
  assert sorted(name for name, _ in CASES) == sorted({*TABLE, *names('objectives')})


def _objective(name: str):
  if name in TABLE:
    return TABLE[name].make()
  config.load(['gin/runs/pretrain.gin', f'gin/objectives/{name}.gin'], ["MODEL_DIR = 'none'"])
  made = config.bound(loop.train)['objective']
  config.load([], [])
  return made


@pytest.mark.parametrize(('name', 'kind'), CASES)
def test_what_is_said(name, kind):
  objective = _objective(name)
  vocabulary = vocabularies.byte_vocabulary()
  model = DecoderConfig(**exports.SHAPE | {'num_layers': 4}).with_vocabulary(vocabulary.vocab_size)
  facts = exports.facts(model, objective, vocabulary)
  hugging_face._check_attention(facts)
  written = hugging_face._small_files(facts, vocabulary)
  found, readme = json.loads(written['config.json']), written['README.md'].decode()
  llama = kind == 'llama'
  assert found['architectures'] == ['LlamaForCausalLM' if llama else 'UnmaskForMaskedLM']
  assert ('modeling_unmask.py' in written, 'generation_config.json' in written) == (not llama, llama)
  assert found['unmask']['objective'] == repr(objective)
  assert found['unmask']['attention'] == ATTENTION.get(kind, 'causal')
  if not llama:
    causal = {'layers': [True, True, False, False]}.get(kind, [kind in ('prefix', 'blocks', 'unshifted')] * 4)
    assert found['causal_layers'] == causal
    assert found['causal_block'] == (4 if kind == 'blocks' else 1)
    assert found['prediction_shift'] == int(kind in ('next', 'prefix'))
  for other, sign in SIGNS.items():
    assert (sign in readme) == (other == kind or (other, kind) == ('both', 'next')), other
  assert ('not a causal model' in readme) == (kind not in ('llama', 'unshifted'))
  assert objective.note in readme
  special = vocabularies.special_tokens(vocabulary)
  begin = objective.embedding(special).begin
  assert ('in place of the token for its start' in readme) == (begin is not None)
  assert begin is None or f'`<special:{special.spare.index(begin)}>` stands' in readme
  own = OWN.get(name) or OWN.get(LIKE.get(name, ''))
  assert {sign for sign in OWN.values() if sign in readme} == ({own} if own else set())


def test_the_form_that_was_trained_is_the_one_that_is_told():
  """Fill-in-the-middle in SPM alone; and a scorer of other people's, as the one that it is made of."""

  @dataclasses.dataclass(frozen=True)
  class Own(scorers.FillIn):
    pass

  vocabulary = vocabularies.byte_vocabulary()
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  facts = exports.facts(model, FillInTheMiddle(spm_share=1.0), vocabulary)
  said = lambda facts: hugging_face._small_files(facts, vocabulary)['README.md'].decode()
  assert '`<special:3><special:4>`, what stands behind it, `<special:5>`' in said(facts)
  assert OWN['fill_in_the_middle'] not in said(facts)
  own = Own(sentinel=26, end_of_span=5, pre=25, mid=27)
  assert OWN['fill_in_the_middle'] in said(dataclasses.replace(facts, scorer=own))
