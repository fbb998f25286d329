"""lm_eval runs an exported model on a task of ours, offline, and gets our numbers."""

import json

import exports
import numpy as np
import pytest
import scipy.special
from unmask.launch.exporting import hugging_face
from unmask.models.config import DecoderConfig
from unmask.objectives.next_token import NextToken
from unmask.tasks import vocabularies

TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{{{country}}}} is"
doc_to_choice: cities
doc_to_target: right
metric_list:
  - {{metric: acc}}
  - {{metric: acc_norm}}
"""
CITIES = ['Paris', 'Buenos Aires', 'Rome', 'Antananarivo']
QUESTIONS = [('France', 0), ('Argentina', 1), ('Italy', 2), ('Madagascar', 3), ('the Republic of Nowhere', 2)]


def test_lm_eval_scores_as_our_scorer_does(transformers, default_source, tmp_path):
  vocabulary, objective = default_source.vocabulary, NextToken()
  model = DecoderConfig(**exports.SHAPE).with_vocabulary(vocabulary.vocab_size)
  params = exports.random_params(model)
  stored = exports.save(tmp_path / 'run', model, params)
  hugging_face.write(exports.facts(model, objective, vocabulary), vocabulary, stored, tmp_path / 'out', 10**9)
  (tmp_path / 'tasks').mkdir()
  data = tmp_path / 'capitals.jsonl'
  rows = [{'country': country, 'cities': CITIES, 'right': right} for country, right in QUESTIONS]
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  (tmp_path / 'tasks' / 'capitals.yaml').write_text(TASK.format(data=data))
  found = transformers.ask('evaluate', folder=tmp_path / 'out', tasks=tmp_path / 'tasks', name='capitals')

  special = vocabularies.special_tokens(vocabulary)
  scorer = objective.scorer(special)
  ours = np.zeros((len(QUESTIONS), len(CITIES)))
  for number, (country, _) in enumerate(QUESTIONS):
    context = [special.bos, *vocabulary.encode(f'The capital of {country} is')]
    for choice, city in enumerate(CITIES):
      tokens = np.array([special.bos, *vocabulary.encode(f'The capital of {country} is {city}')], np.int32)
      assert tokens[: len(context)].tolist() == context
      (row,) = scorer.whole(tokens)
      logits = exports.our_logits(model, params, objective, row.inputs[None])[0]
      scores = scipy.special.log_softmax(logits, axis=-1)[row.reads, row.targets]
      ours[number, choice] = scores[len(context) - 1 :].sum()
  np.testing.assert_allclose(found['scores'], ours, rtol=1e-4)
  right = np.array([right for _, right in QUESTIONS])
  assert found['results']['acc,none'] == pytest.approx((ours.argmax(axis=1) == right).mean())
  per_letter = ours / np.array([len(city) for city in CITIES])
  assert found['results']['acc_norm,none'] == pytest.approx((per_letter.argmax(axis=1) == right).mean())
