"""Order, epochs, hosts and positions of the rows that reach the model, on the default corpus and a small one."""

import itertools
import pathlib

import numpy as np
import pytest
from unmask import UserError
from unmask.objectives import masked_lm, next_token, salient_span
from unmask.tasks import corpora, pipeline, text_task


@pytest.fixture(scope='module')
def small(small_text, tmp_path_factory):
  task = text_task.TextTask(
    name='small_text',
    corpus=corpora.LocalText(pattern=small_text),
    data_dir=str(tmp_path_factory.mktemp('data')),
    vocabulary_size=1000,
  )
  return pipeline.Pipeline(mixture_or_task_name='small_text', task_feature_lengths={'targets': 256}, task=task).open(
    say=lambda line: None
  )


def _take(iterator, count):
  return list(itertools.islice(iterator, count))


def test_skipping_is_reading_on(default_source):
  for objective in (masked_lm.MaskedLM(), salient_span.SalientSpan()):
    whole = _take(default_source.batches(objective, 8), 12)
    later = _take(default_source.batches(objective, 8, skip=9), 3)
    for a, b in zip(whole[9:], later, strict=True):
      for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize('hosts', [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_hosts(default_source, hosts):
  for objective in (masked_lm.MaskedLM(), salient_span.SalientSpan()):
    one = _take(default_source.batches(objective, 8), 3)
    parts = [_take(default_source.batches(objective, 8, host=h, num_hosts=hosts), 3) for h in range(hosts)]
    for n in range(3):
      for name in one[n]:
        np.testing.assert_array_equal(one[n][name], np.concatenate([part[n][name] for part in parts]))


def test_no_row_depends_on_the_number_of_threads(default_source):
  import dataclasses

  from unmask.objectives import causal_masked, meap, pmi_masking

  config = default_source.config
  for objective in (next_token.NextToken(), causal_masked.CausalMasked(), pmi_masking.PMIMasking(), meap.MEAP()):
    one, many = (
      _take(dataclasses.replace(config, threads=threads).open(say=lambda line: None).batches(objective, 32), 6)
      for threads in (1, 7)
    )
    for a, b in zip(one, many, strict=True):
      for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_every_epoch_reads_every_row_once_in_another_order_and_masks_anew(small):
  count = sum(1 for _ in small.rows('train'))
  seen = _take((tuple(b['decoder_input_tokens'][0]) for b in small.batches(next_token.NextToken(), 1)), 2 * count)
  rows = sorted(tuple(row['targets']) for row in small.rows('train').as_numpy_iterator())
  assert sorted(seen[:count]) == sorted(seen[count:]) == rows
  assert seen[:count] != seen[count:]
  masked = _take((b for b in small.batches(masked_lm.MaskedLM(), 1)), 2 * count)
  where = {}
  for batch in masked:
    where.setdefault(tuple(batch['decoder_target_tokens'][0]), []).append(batch['decoder_loss_weights'][0].tobytes())
  repeats = [len(set(masks)) == len(masks) for masks in where.values() if len(masks) == 2]
  assert len(repeats) > 0.9 * count
  assert np.mean(repeats) > 0.99


def test_held_out_documents_are_not_in_training(default_source):
  import seqio

  task = seqio.get_mixture_or_task('default_text')
  ids = {}
  for split in ('train', 'validation'):
    documents = task._get_cached_source(split).get_dataset(split=split, shuffle=False).as_numpy_iterator()
    ids[split] = {document['id'].decode() for document in documents}
  assert len(ids['validation']) > 400
  assert all(corpora.is_validation(identity, 20) for identity in ids['validation'])
  assert not any(corpora.is_validation(identity, 20) for identity in ids['train'])


def test_rows_read_in_bulk_are_those_that_seqio_gives(default_source):
  import seqio

  task = seqio.get_mixture_or_task('default_text')
  names = ('targets', 'segment_ids', 'word_ids', 'collocation_ids', 'salient_ids', 'example_id')
  given = task.get_dataset({'targets': 64}, 'validation', shuffle=False, use_cached=True, num_epochs=1)
  pairs = zip(given.as_numpy_iterator(), default_source.rows('validation').as_numpy_iterator(), strict=True)
  for one, other in itertools.islice(pairs, 2000):
    for name in names:
      np.testing.assert_array_equal(one[name], other[name])


def test_the_corpus_reaches_the_rows_whole(default_source, default_task):
  import seqio

  task = seqio.get_mixture_or_task('default_text')
  documents = task._get_cached_source('validation').get_dataset(split='validation', shuffle=False)
  tokens = sum(len(document['targets']) for document in documents.as_numpy_iterator())
  special = default_source.special
  rows = list(default_source.rows('validation').as_numpy_iterator())
  text = sum(int(special.is_text(row['targets']).sum()) for row in rows)
  ends = sum(int((row['targets'] == special.eos).sum()) for row in rows)
  held_out = sum(1 for document in default_task.corpus.documents() if corpora.is_validation(document['id'], 20))
  assert ends == held_out
  assert text + 2 * ends == tokens


def test_missing_tasks_units_and_lengths_are_named(default_source):
  with pytest.raises(UserError, match="No seqio Task or Mixture is named 'c5'"):
    pipeline.Pipeline(mixture_or_task_name='c5', task_feature_lengths={'targets': 64}).open()
  with pytest.raises(UserError, match='TASK_FEATURE_LENGTHS'):
    pipeline.Pipeline(mixture_or_task_name='default_text', task_feature_lengths={'inputs': 64})
  from unmask.objectives import preprocessor

  bare = default_source.rows('train').map(
    lambda row: {name: row[name] for name in ('targets', 'segment_ids', 'example_id')}
  )
  with pytest.raises(UserError, match='salient_ids'):
    preprocessor.keep_rows(salient_span.SalientSpan(), default_source.special)(bare)


def test_a_damaged_cache_is_named(small_text, tmp_path):
  """A file cut short is found before anything is read; a flipped byte where it is read."""
  task = text_task.TextTask(
    name='damaged',
    corpus=corpora.LocalText(pattern=small_text),
    data_dir=str(tmp_path / 'data'),
    vocabulary_size=1000,
  )
  config = pipeline.Pipeline(mixture_or_task_name='damaged', task_feature_lengths={'targets': 64}, task=task)
  folder = task.prepare(say=lambda line: None)
  (path, *_) = sorted((pathlib.Path(folder) / 'cache' / 'damaged').glob('train.tfrecord-*'))
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 1
  path.write_bytes(flipped)
  with pytest.raises(UserError, match='is damaged'):
    _take(config.open(say=lambda line: None).batches(next_token.NextToken(), 8), 10_000)
  path.write_bytes(whole[:-100])
  with pytest.raises(UserError, match=f'{path.name} is damaged: .* bytes of .*; delete'):
    config.open(say=lambda line: None)
  path.unlink()
  with pytest.raises(UserError, match=f'{path.name} is damaged: 0 bytes'):
    config.open(say=lambda line: None)
  path.write_bytes(whole)
  assert _take(config.open(say=lambda line: None).batches(next_token.NextToken(), 8), 1)
