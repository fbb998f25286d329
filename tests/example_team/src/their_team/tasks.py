"""The team's corpora: one by the helper, one in plain seqio, a mixture of both, and one that ends in an objective."""

import seqio
import tensorflow as tf
import unmask

VOCABULARY = unmask.tasks.byte_vocabulary()
SPECIAL = unmask.tasks.special_tokens(VOCABULARY)
LETTERS = [f'Dear reader {i}, the mill by the river ground barley all summer.' for i in range(60)]
RECIPES = [f'Recipe {i}: stir the flour into warm milk and let it stand for {i} minutes.' for i in range(60)]


def _source(texts: list[str]) -> seqio.FunctionDataSource:
  def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
    del shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices({'text': texts[:50] if split == 'train' else texts[50:]})

  return seqio.FunctionDataSource(dataset, splits=('train', 'validation'))


# By the helper.
unmask.tasks.register('their_letters', _source(LETTERS), vocabulary=VOCABULARY)

# The same in plain seqio.
seqio.TaskRegistry.add(
  'their_recipes',
  source=_source(RECIPES),
  preprocessors=[
    lambda dataset: dataset.map(lambda example: {'targets': example['text']}),
    seqio.preprocessors.tokenize,
    unmask.tasks.to_rows(SPECIAL),
  ],
  output_features=unmask.tasks.output_features(VOCABULARY),
)

unmask.tasks.register_mixture('their_texts', {'their_letters': 3, 'their_recipes': 1})

# For readers that want an objective's batch from the Task itself, such as seqio's pass-through converter.
seqio.TaskRegistry.add(
  'their_letters_meap',
  source=_source(LETTERS),
  preprocessors=[
    lambda dataset: dataset.map(lambda example: {'targets': example['text']}),
    seqio.preprocessors.tokenize,
    unmask.tasks.to_rows(SPECIAL),
    unmask.objectives.corrupt_rows(unmask.objectives.MEAP(), SPECIAL, seed=0),
  ],
  output_features=unmask.tasks.output_features(VOCABULARY, unmask.objectives.MEAP()),
)
