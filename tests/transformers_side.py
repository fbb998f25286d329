"""What runs in the environment of `hugging_face.py`: questions as lines of JSON on stdin, answers on stdout."""

import json
import os

import numpy as np
import torch
import transformers
from transformers import (
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForMaskedLM,
  AutoTokenizer,
  LlamaConfig,
  LlamaForCausalLM,
)

torch.set_num_threads(1)


def logits(folder, ids, out, kind='causal', mask=None, levels=None, **more):
  """Logits of rows of ids, saved at `out`; what was loaded."""
  auto = {'causal': AutoModelForCausalLM, 'llama': LlamaForCausalLM, 'masked': AutoModelForMaskedLM}[kind]
  model, loaded = auto.from_pretrained(folder, output_loading_info=True, trust_remote_code=kind == 'masked')
  mask = None if mask is None else torch.tensor(mask)
  known = {} if levels is None else {'levels': torch.tensor(levels)}
  with torch.no_grad():
    found = model(input_ids=torch.tensor(ids), attention_mask=mask, **known).logits
  np.save(out, found.float().numpy())
  problems = sorted(name for names in loaded.values() for name in map(str, names))
  return {'class': type(model).__name__, 'dtype': str(model.dtype), 'problems': problems}


def states(folder, ids, out, kind='causal', mask=None):
  """The last hidden states of rows of ids, saved at `out`."""
  auto = {'causal': AutoModel, 'masked': AutoModelForMaskedLM}[kind]
  model = auto.from_pretrained(folder, trust_remote_code=kind == 'masked')
  with torch.no_grad():
    mask = None if mask is None else torch.tensor(mask)
    found = model(input_ids=torch.tensor(ids), attention_mask=mask, output_hidden_states=True)
  np.save(out, found.hidden_states[-1].numpy())
  return type(model).__name__


def refused(folder):
  """The error of each class that must not load a folder."""
  answers = {}
  cases = {'LlamaForCausalLM': LlamaForCausalLM, 'AutoModelForCausalLM': AutoModelForCausalLM}
  for name, kind in cases.items():
    for trust in (False, True):
      try:
        answers[f'{name} {trust}'] = f'loaded {type(kind.from_pretrained(folder, trust_remote_code=trust)).__name__}'
      except (KeyError, ValueError, TypeError) as error:
        answers[f'{name} {trust}'] = f'refused: {error}'
  return answers


def encode(folder, texts, **options):
  """Ids of each text."""
  tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
  with open(texts) as file:
    return [tokenizer.encode(text, **options) for text in json.load(file)]


def decode(folder, ids):
  """The text of each list of ids."""
  tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
  with open(ids) as file:
    return [tokenizer.decode(row) for row in json.load(file)]


def tokens(folder):
  """The special tokens by what they are for."""
  tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
  ids = {name: getattr(tokenizer, f'{name}_token_id') for name in ('bos', 'eos', 'pad', 'mask')}
  return ids | {'all': tokenizer.all_special_ids, 'size': len(tokenizer)}


def make_llama(folder, dtype='float32', shard='5GB', seed=0, **config):
  """Saves a random Llama."""
  torch.manual_seed(seed)
  model = LlamaForCausalLM(LlamaConfig(**config)).to(getattr(torch, dtype))
  for parameter in model.parameters():  # norms too
    torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.1)
  model.save_pretrained(folder, max_shard_size=shard)
  return sorted(os.listdir(folder))


def fill_mask(folder, text, count=3):
  """The pipeline's best fillings with their scores."""
  model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
  fill = transformers.pipeline('fill-mask', model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
  return [(found['token'], found['score']) for found in fill(text, top_k=count)]


def saved_again(folder, out):
  """Loads, saves and loads a masked model; the largest difference of its weights."""
  model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
  model.save_pretrained(out)
  again = AutoModelForMaskedLM.from_pretrained(out, trust_remote_code=True)
  pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
  return max(float((one - other).abs().max()) for one, other in pairs)


def evaluate(folder, tasks, name):
  """lm_eval's result of a local task, and the log-likelihoods of each sample's choices."""
  import lm_eval
  from lm_eval.models.huggingface import HFLM
  from lm_eval.tasks import TaskManager

  model = HFLM(pretrained=folder, device='cpu', dtype='float32', batch_size=4, add_bos_token=True)
  found = lm_eval.simple_evaluate(
    model=model, tasks=[name], task_manager=TaskManager(include_path=tasks, include_defaults=False), bootstrap_iters=0
  )
  samples = sorted(found['samples'][name], key=lambda sample: sample['doc_id'])
  return {
    'results': {key: value for key, value in found['results'][name].items() if isinstance(value, float)},
    'scores': [[response[0][0] for response in sample['resps']] for sample in samples],
  }


def main():
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what the libraries print is no answer
  questions = os.fdopen(os.dup(0))
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # they ask on the terminal whether to run what is in a folder
  for line in questions:
    question = json.loads(line)
    answer = globals()[question['what']](**question['arguments'])
    answers.write(json.dumps(answer) + '\n')
    answers.flush()


if __name__ == '__main__':
  main()
