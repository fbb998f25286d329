"""A seqio Task for each prompt of a data set, and the rates of their mixture, as T0 registers them.

Source of the rates: bigscience-workshop/t-zero 7a699e3, t0/seqio_tasks/tasks.py, which divides by all templates of a
data set, those that its mixture then leaves out included.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from ... import UserError
from ...objectives.preprocessor import graph
from .. import answers, registration, vocabularies
from .prompt import Prompt

MOST = 500_000
"""Examples for which a data set counts at most, its prompts together (T0, arXiv 2110.08207, section 5)."""


def register_prompts(
  name: str,
  source: seqio.DataSource,
  prompts: Mapping[str, Prompt],
  *,
  examples: int,
  vocabulary: seqio.Vocabulary | None = None,
) -> dict[str, float]:
  """Registers a data set's prompts as seqio Tasks 'NAME.PROMPT' of rows with answers.

  Args:
    name: of the data set.
    source: of examples, whose fields are strings.
    prompts: by name.
    examples: how many the data set has to train on.
    vocabulary: with our reserved ids; None takes bytes.

  Returns:
    Rates of the Tasks in a mixture, for `register_mixture`; those of held-out prompts are left out. A Task counts as
    `examples`; above MOST it counts as MOST divided by all prompts, as in T0's code: held-out ones are counted in, so a
    data set that has some counts for less than MOST.

  Raises:
    UserError: a name is taken or malformed, a prompt names a field that there is not, or there is nothing to train on.
  """
  if not prompts or isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
    raise UserError(f'Data set {name}: it has {len(prompts)} prompts and {examples!r} examples; it needs 1 of each.')
  vocabulary = vocabulary or vocabularies.byte_vocabulary()
  features = registration.output_features(vocabulary)
  features['answer_ids'] = features['segment_ids']
  rate = examples if examples <= MOST else MOST // len(prompts)
  rates = {}
  for label, prompt in prompts.items():
    task = f'{name}.{label}'
    registration.refuse_taken(task)
    seqio.TaskRegistry.add(
      task,
      source=source,
      preprocessors=[_asked(task, prompt), answers.to_answer_rows(vocabulary)],
      output_features=features,
    )
    if not prompt.held_out:
      rates[task] = float(rate)
  return rates


def _asked(task: str, prompt: Prompt):
  """A preprocessor: examples to 'inputs' and 'targets'."""

  def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    spec = dataset.element_spec
    missing = [name for name in prompt.fields if name not in spec or spec[name].dtype != tf.string]
    if missing:
      raise UserError(f'Task {task}: its prompt names {missing[0]!r}; its examples have the strings {", ".join(spec)}.')
    return dataset.map(graph(prompt.tensors))

  return apply
