"""Tokens a second that each objective makes on the host, beside t5's span corruption, in one run.

    python tests/benchmarks/host_rows.py [--length=1024] [--seconds=3] [--repeats=5]

Reads the prepared default corpus (run `unmask inspect` once to make it). Three columns an objective:

  corrupt   rows that lie in memory, 64 a call, through the objective's graph function, two calls at a time
  road      from seqio's cache on disk to NumPy batches, as training reads them: parse, cut, shuffle, corrupt, prefetch
  /t5       `corrupt` over the same for t5's span corruption (`pip install t5`), on the same rows cut to equal length

Objectives take turns, `repeats` times, so that a noisy neighbour slows all of them; medians are printed.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from unmask.objectives import preprocessor
from unmask.objectives.causal_masked import CausalMasked
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.meap import MEAP
from unmask.objectives.next_token import NextToken
from unmask.objectives.pmi_masking import PMIMasking
from unmask.objectives.salient_span import SalientSpan
from unmask.tasks import default_text, pipeline, text_task

OBJECTIVES = {
  'next_token': NextToken(),
  'causal_masked': CausalMasked(spans_per_row=8),
  'mlm': MaskedLM(),
  'pmi_masking': PMIMasking(),
  'salient_span': SalientSpan(),
  'meap': MEAP(),
}
ROWS_PER_CALL = 64
BATCH = 64


def rate(step: Callable[[], int], seconds: float) -> float:
  """Tokens a second of `step`, which does some work and says how many tokens it was."""
  for _ in range(3):
    step()
  began, tokens = time.perf_counter(), 0
  while (passed := time.perf_counter() - began) < seconds:
    tokens += step()
  return tokens / passed


def mapped(blocks: tf.data.Dataset, function: Callable) -> Iterator:
  """Blocks of rows for ever through a graph function, two calls at a time."""
  dataset = blocks.repeat().map(function, num_parallel_calls=2).prefetch(4)
  options = tf.data.Options()
  options.threading.private_threadpool_size = 2
  return iter(dataset.with_options(options))


def t5_span_corruption(rows: dict[str, np.ndarray], source: pipeline.Source) -> Iterator | None:
  """t5's `denoise` with the settings of its `span_corruption`, on rows already cut; None where t5 is not installed."""
  try:
    import functools

    import seqio
    from t5.data import preprocessors as t5
  except ImportError:
    return None
  dataset = tf.data.Dataset.from_tensor_slices({'targets': rows['targets']}).cache().repeat()
  features = {name: seqio.Feature(source.vocabulary) for name in ('inputs', 'targets')}
  dataset = t5.denoise(
    dataset,
    features,
    inputs_fn=t5.noise_span_to_unique_sentinel,
    targets_fn=t5.nonnoise_span_to_unique_sentinel,
    noise_density=0.15,
    noise_mask_fn=functools.partial(t5.random_spans_noise_mask, mean_noise_span_length=3.0),
    input_feature_key='inputs',
  )
  options = tf.data.Options()
  options.threading.private_threadpool_size = 2
  return iter(dataset.prefetch(64).with_options(options))


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--length', type=int, default=1024)
  flags.add_argument('--seconds', type=float, default=3.0)
  flags.add_argument('--repeats', type=int, default=5)
  flags.add_argument('--rows', type=int, default=2048)
  flags.add_argument('--data_dir', default='data')
  options = flags.parse_args()
  task = text_task.TextTask(
    name='default_text',
    corpus=default_text.DefaultText(download_dir=f'{options.data_dir}/downloads'),
    data_dir=options.data_dir,
  )
  config = pipeline.Pipeline(
    mixture_or_task_name='default_text', task_feature_lengths={'targets': options.length}, task=task
  )
  source = config.open()
  rows = next(iter(source.rows('train').batch(options.rows).as_numpy_iterator()))
  rows |= {'example_id': np.arange(options.rows, dtype=np.int64)}
  blocks = tf.data.Dataset.from_tensor_slices(rows).batch(ROWS_PER_CALL, drop_remainder=True).cache()

  def corrupt_step(name: str) -> Callable[[], int]:
    block = preprocessor.corrupt_block(OBJECTIVES[name], source.special, 0)
    iterator = mapped(blocks, block)
    return lambda: next(iterator)['decoder_input_tokens'].shape[0] * options.length

  def road_step(name: str) -> Callable[[], int]:
    batches = source.batches(OBJECTIVES[name], BATCH)
    return lambda: next(batches)['decoder_input_tokens'].shape[0] * options.length

  steps = {('corrupt', name): corrupt_step(name) for name in OBJECTIVES}
  steps |= {('road', name): road_step(name) for name in OBJECTIVES}
  if (t5 := t5_span_corruption(rows, source)) is not None:
    steps['corrupt', 't5 span corruption'] = lambda: (
      options.length * sum(1 for _ in itertools.islice(t5, ROWS_PER_CALL))
    )
  measured: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
  for _ in range(options.repeats):
    for key, step in steps.items():
      measured[key].append(rate(step, options.seconds))
  medians = {key: statistics.median(values) / 1e6 for key, values in measured.items()}
  reference = medians.get(('corrupt', 't5 span corruption'))
  print(f'Million tokens a second, rows of {options.length} tokens, {ROWS_PER_CALL} a call')
  print('| objective | corrupt | road | corrupt / t5 |\n|---|---|---|---|')
  for name in [*OBJECTIVES, *(['t5 span corruption'] if reference else [])]:
    road = medians.get(('road', name))
    ratio = f'{medians["corrupt", name] / reference:.1f}' if reference else 't5 is not installed'
    print(f'| {name} | {medians["corrupt", name]:.1f} | {f"{road:.1f}" if road else ""} | {ratio} |')


if __name__ == '__main__':
  main()
