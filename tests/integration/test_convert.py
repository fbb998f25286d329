"""The seqio way: our tasks and objectives through seqio.get_dataset, mixtures, and tasks of other people's making."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from objective_table import TABLE
from unmask import UserError
from unmask.models import attention
from unmask.objectives import attention as base_attention
from unmask.objectives import causal_masked, masked_lm, meap, preprocessor
from unmask.objectives.base import MODEL_FEATURES, Objective
from unmask.tasks import convert, pipeline, rows, vocabularies

_FIRST = {type(entry.make()): name for name, entry in reversed(TABLE.items())}  # variants share their classes
OF_TEXT = sorted(name for name in _FIRST.values() if 'answer_ids' not in TABLE[name].make().units)
OF_TEXT += ['mntp', 'prefix_lm_causal']  # that are shifted, or causal, where the first of their class is not


@pytest.mark.parametrize('name', OF_TEXT)
def test_get_dataset_gives_the_decoders_batch(name, default_source):
  objective = TABLE[name].make()
  if type(objective).loss is not Objective.loss or objective.attention.table is not None:
    # What t5x's own models divide by would make another loss of it; groups they do not know.
    with pytest.raises(UserError, match=r'a loss of its own|attention is'):
      convert.ObjectiveConverter(objective, default_source.vocabulary)
    return
  converter = convert.ObjectiveConverter(objective, default_source.vocabulary, seed=3)
  dataset = seqio.get_dataset(
    'default_text', {'targets': 64}, converter, dataset_split='validation', shuffle=False, use_cached=True
  )
  batch = next(iter(dataset.batch(16).as_numpy_iterator()))
  assert set(batch) == set(MODEL_FEATURES)
  length = converter.get_model_feature_lengths({'targets': 64})['decoder_input_tokens']
  for key, value in batch.items():
    assert value.shape == (16, length)
    assert value.dtype == (np.float32 if key == 'decoder_loss_weights' else np.int32)
  assert batch['decoder_loss_weights'].sum() > 0
  segments = batch['decoder_segment_ids']
  known = convert.ObjectiveConverter(objective, default_source.vocabulary, seed=3, knows_objective=True)
  assert set(known.get_model_feature_lengths({'targets': 64})) == {*MODEL_FEATURES, *objective.more_features}
  own = seqio.get_dataset(
    'default_text', {'targets': 64}, known, dataset_split='validation', shuffle=False, use_cached=True
  )
  ours = next(iter(own.batch(16).as_numpy_iterator()))
  assert set(ours) == {*MODEL_FEATURES, *objective.more_features}
  rule = attention.visible(segments, objective.attention.ordered_in(0, 1), ours.get('decoder_levels'))
  np.testing.assert_array_equal(_seen_by_t5x(batch), np.asarray(rule))


def _seen_by_t5x(batch):
  """Who sees whom in t5x's decoder-only network, by its rule (layers.make_decoder_mask): bool [batch, query, key]."""
  targets, segments, both = (batch[f'decoder_{name}'] for name in ('target_tokens', 'segment_ids', 'causal_attention'))
  pairs = lambda x, rule: rule(x[:, :, np.newaxis], x[:, np.newaxis, :])
  causal = np.tri(targets.shape[1], dtype=bool)[np.newaxis]
  seen = causal | pairs(both > 0, np.logical_and)
  return seen & pairs(targets > 0, np.logical_and) & pairs(segments, np.equal)


def test_the_converter_and_the_pipeline_agree(default_source):
  objective = masked_lm.MaskedLM()
  converter = convert.ObjectiveConverter(objective, default_source.vocabulary, seed=default_source.config.seed)
  dataset = seqio.get_dataset(
    'default_text', {'targets': 64}, converter, dataset_split='validation', shuffle=False, use_cached=True
  )
  plain = preprocessor.corrupt_rows(objective, default_source.special, default_source.config.seed)
  for a, b in zip(
    dataset.take(20).as_numpy_iterator(),
    plain(default_source.rows('validation')).take(20).as_numpy_iterator(),
    strict=True,
  ):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_repeated_reading_numbers_rows_on_so_that_masks_are_drawn_anew(default_source):
  task = seqio.get_mixture_or_task('default_text')
  counts = []
  for epochs in (1, 2):
    dataset = task.get_dataset({'targets': 64}, 'validation', use_cached=True, shuffle=False, num_epochs=epochs)
    found = [(int(row['example_id']), int((row['segment_ids'] > 0).sum())) for row in dataset.as_numpy_iterator()]
    assert [number for number, _ in found] == list(range(len(found)))
    counts.append(sum(tokens for _, tokens in found))
  assert counts[1] == pytest.approx(2 * counts[0], rel=0.01)


def test_packing_and_tasks_without_rows_are_refused(default_source):
  with pytest.raises(UserError, match='pack=False'):
    convert.ObjectiveConverter(meap.MEAP(), default_source.vocabulary, pack=True)
  converter = convert.ObjectiveConverter(meap.MEAP(), default_source.vocabulary)
  rule = base_attention.AttentionSpec(ordered=(True, False))
  with pytest.raises(UserError, match=r'MaskedLM.attention is .*alike in all layers'):
    convert.ObjectiveConverter(masked_lm.MaskedLM(attention=rule), default_source.vocabulary)
  convert.ObjectiveConverter(masked_lm.MaskedLM(attention=rule), default_source.vocabulary, knows_objective=True)
  plain = tf.data.Dataset.from_tensors({'targets': tf.range(5)})
  with pytest.raises(UserError, match='to_rows'):
    converter(plain, {'targets': 64})


def test_a_mixture_and_a_task_of_somebody_else(default_source):
  """Another team's task ends in to_rows; a mixture of it with ours trains through the same pipeline."""
  vocabulary = default_source.vocabulary
  texts = [
    f'The town of Example {i} lies on the river Sample and has a market every Monday in summer.' for i in range(90)
  ]
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({'targets': texts}),
    splits=('train', 'validation'),
  )
  preprocessors = [seqio.preprocessors.tokenize, rows.to_rows(vocabularies.special_tokens(vocabulary))]
  features = {
    'targets': seqio.Feature(vocabulary, add_eos=False),
    'segment_ids': default_source._provider.output_features['segment_ids'],
  }
  if 'their_rows' not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add('their_rows', source=source, preprocessors=preprocessors, output_features=features)
  theirs = pipeline.Pipeline(mixture_or_task_name='their_rows', task_feature_lengths={'targets': 64}).open()
  batch = next(theirs.batches(causal_masked.CausalMasked(spans_per_row=4), 8))
  assert batch['decoder_input_tokens'].shape == (8, 76)
  if 'ours_twice' not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add('ours_twice', [('default_text', 1.0)])
  mixed = pipeline.Pipeline(mixture_or_task_name='ours_twice', task_feature_lengths={'targets': 64}).open()
  assert next(mixed.batches(meap.MEAP(), 8))['decoder_input_tokens'].shape == (8, 64)
  converter = convert.ObjectiveConverter(masked_lm.MaskedLM(), vocabulary)
  dataset = seqio.get_dataset('ours_twice', {'targets': 64}, converter, dataset_split='validation', use_cached=True)
  masks = [row['decoder_loss_weights'] for row in dataset.take(9).as_numpy_iterator()]
  assert len({mask.tobytes() for mask in masks}) == 9, 'rows of a mixture are numbered, so their masks differ'
