"""From a registered seqio Task or Mixture to this host's batches of decoder features.

The order of rows is a function of (seed, epoch); a row's corruption of (seed, epoch, its number in the corpus). Every
host reads the same global order and keeps its own rows of each global batch, so the global batches do not depend on
the number of hosts, and the data position of a run is one number: batches consumed.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import seqio
import tensorflow as tf

from .. import UserError
from ..objectives import preprocessor
from ..objectives.base import MODEL_FEATURES, Objective, SpecialTokens
from . import annotate, register, rows, vocabularies

_SHUFFLE_BYTES = 256 << 20  # rows held for shuffling: all of a small corpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
  """What to read and how.

  Attributes:
    mixture_or_task_name: a registered seqio Task or Mixture with a 'targets' feature.
    task_feature_lengths: {'targets': tokens of a row}.
    task: a corpus to make and register under that name first; None if somebody else registered it.
    use_cached: whether to read seqio's offline cache; corpora made here always do.
    seed: decides order and corruption.
  """

  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int]
  task: register.TextTask | None = None
  use_cached: bool = True
  seed: int = 0

  def __post_init__(self) -> None:
    if set(self.task_feature_lengths) != {'targets'}:
      raise UserError(
        f"TASK_FEATURE_LENGTHS is {dict(self.task_feature_lengths)}; it needs one entry, {{'targets': N}}."
      )

  @property
  def text_length(self) -> int:
    """Tokens of a row."""
    return self.task_feature_lengths['targets']

  def open(self, say=print) -> 'Source':
    """Prepares the corpus if it is ours and looks the task up; UserError if it does not exist."""
    folder = self.task.prepare(say) if self.task is not None else None
    try:
      provider = seqio.get_mixture_or_task(self.mixture_or_task_name)
    except ValueError as error:
      known = sorted([*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()])
      raise UserError(
        f'No seqio Task or Mixture is named {self.mixture_or_task_name!r}; registered: {", ".join(known) or "none"}.'
      ) from error
    return Source(self, provider, folder)


class Source:
  """An opened pipeline.

  Attributes:
    config: the pipeline.
    folder: where our own corpus lies; None for other people's tasks.
    vocabulary: of 'targets'.
    special: its reserved ids.
  """

  def __init__(self, config: Pipeline, provider: seqio.Task | seqio.Mixture, folder: str | None):
    self.config, self.folder, self._provider = config, folder, provider
    if 'targets' not in provider.output_features:
      raise UserError(
        f'{config.mixture_or_task_name} has no feature "targets"; it has {list(provider.output_features)}.'
      )
    self.vocabulary: seqio.Vocabulary = provider.output_features['targets'].vocabulary
    self.special: SpecialTokens = vocabularies.special_tokens(self.vocabulary)

  def rows(self, split: str) -> tf.data.Dataset:
    """All rows of a split, once, in the corpus's order; see `rows.make_rows`."""
    cached = self.config.use_cached and getattr(self._provider, 'cache_dir', None) is not None
    documents = self._provider.get_dataset(
      sequence_length=None, split=split, shuffle=False, use_cached=cached, num_epochs=1, try_in_mem_cache=False
    )
    units = tuple(name for name in annotate.UNIT_FEATURES if name in documents.element_spec)
    return rows.make_rows(documents, self.config.text_length, self.special, units)

  def corrupted(self, objective: Objective, split: str, epoch: int = 0) -> tf.data.Dataset:
    """Rows of one epoch in the corpus's order under an objective, rows and features together."""
    dataset = self.rows(split).map(lambda row: row | {'epoch': tf.constant(epoch, tf.int64)})
    return preprocessor.corrupt_rows(objective, self.special, self.config.seed)(dataset)

  def batches(
    self,
    objective: Objective,
    batch_size: int,
    split: str = 'train',
    skip: int = 0,
    host: int = 0,
    num_hosts: int = 1,
  ) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of each global batch.

    Args:
      objective: what to do to the rows.
      batch_size: rows of a global batch.
      split: 'train' is shuffled and endless, any other split is read once in order.
      skip: global batches to leave out at the start: a resumed run's data position.
      host, num_hosts: host h keeps rows h * n .. (h + 1) * n - 1 of each batch, n = batch_size / num_hosts.

    Yields:
      Dictionaries of the features of `objectives.base`, int32 or float32 [batch_size / num_hosts, model_length].
    """
    local = batch_size // num_hosts
    dataset = (
      self._epochs(split)
      if split == 'train'
      else self.rows(split).map(lambda row: row | {'epoch': tf.zeros([], tf.int64)})
    )
    dataset = preprocessor.keep_rows(objective, self.special)(dataset)
    dataset = dataset.batch(batch_size, drop_remainder=True).skip(skip)
    dataset = dataset.map(
      lambda batch: {name: value[host * local : (host + 1) * local] for name, value in batch.items()}
    )
    dataset = dataset.map(preprocessor.corrupt_block(objective, self.special, self.config.seed), num_parallel_calls=2)
    dataset = dataset.map(lambda batch: {name: batch[name] for name in batch if name in MODEL_FEATURES})
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 2  # a step on CPU needs the cores more
    return dataset.prefetch(4).with_options(options).as_numpy_iterator()

  def _epochs(self, split: str) -> tf.data.Dataset:
    """Endless rows, shuffled anew each epoch by (seed, epoch), with the 'epoch' they are read in."""
    once = self.rows(split)
    row_bytes = 4 * self.config.text_length * len(once.element_spec)
    buffer = max(1024, _SHUFFLE_BYTES // row_bytes)

    def one(epoch: tf.Tensor) -> tf.data.Dataset:
      seed = epoch * 1_000_003 + self.config.seed + 1
      return once.shuffle(buffer, seed=seed).map(lambda row: row | {'epoch': epoch})

    return tf.data.Dataset.range(np.iinfo(np.int64).max // 2_000_006).flat_map(one)
