"""From a registered seqio Task or Mixture to this host's batches of decoder features.

The order of rows is a function of (seed, epoch); a row's corruption of (seed, epoch, its number in the corpus). Every
host reads the same global order and keeps its own rows of each global batch, so the global batches do not depend on
the number of hosts, and the data position of a run is one number: batches consumed.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from .. import UserError
from ..objectives import preprocessor
from ..objectives.base import MODEL_FEATURES, TRAINED, Objective, SpecialTokens, Tensor
from . import cache, prepared, provided, rows, text_task, vocabularies
from .units import annotate

_ROWS_PER_BLOCK = 64  # of other people's tasks, which give a row at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
  """What to read and how.

  Attributes:
    mixture_or_task_name: a registered seqio Task or Mixture with a 'targets' feature.
    task_feature_lengths: {'targets': tokens of a row}.
    task: a corpus to register under that name first, made now or before; None if somebody else registered it.
    use_cached: whether to read seqio's offline cache; corpora made here always do.
    seed: decides order and corruption.
    threads: of the host that make rows; None takes a quarter of its cores, at least 2. No result depends on it.
    shuffle_rows: rows held for shuffling. Corpora made here keep their documents in a random order already.
  """

  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int]
  task: text_task.TextTask | prepared.PreparedTask | None = None
  use_cached: bool = True
  seed: int = 0
  threads: int | None = None
  shuffle_rows: int = 8192

  def __post_init__(self) -> None:
    if set(self.task_feature_lengths) != {'targets'}:
      raise UserError(
        f"TASK_FEATURE_LENGTHS is {dict(self.task_feature_lengths)}; it needs one entry, {{'targets': N}}."
      )
    for name, low in (('seed', 0), ('shuffle_rows', 1), ('threads', 1)):
      value = getattr(self, name)
      if value is not None and not low <= value < 2**31:
        raise UserError(f'Pipeline.{name} is {value}; it is a whole number from {low}, below 2**31.')

  @property
  def text_length(self) -> int:
    """Tokens of a row."""
    return self.task_feature_lengths['targets']

  def open(self, say=print) -> 'Source':
    """Prepares the corpus if it is ours and looks the task up; UserError if it does not exist."""
    folder = self.task.prepare(say) if self.task is not None else None
    return Source(self, provided.find(self.mixture_or_task_name), folder)


class Source:
  """An opened pipeline.

  Attributes:
    config: the pipeline.
    folder: where our own corpus lies; None for other people's tasks.
    vocabulary: of 'targets'.
    special: its reserved ids.
    corpora: names of the tasks of a Mixture, in the order in which training batches count their tokens; else none.
  """

  def __init__(self, config: Pipeline, provider: seqio.Task | seqio.Mixture, folder: str | None):
    self.config, self.folder, self._provider = config, folder, provider
    self.vocabulary: seqio.Vocabulary = provided.vocabulary(provider)
    self.special: SpecialTokens = vocabularies.special_tokens(self.vocabulary)
    self.corpora: tuple[str, ...] = provided.corpora(provider)
    self._made: dict[tuple, tf.data.Dataset] = {}
    self._corrupts: tuple[Objective, preprocessor.Block] | None = None

  @property
  def text(self) -> 'Source':
    """The corpus that prompts of ours are made of, for who asks about text; itself where there are none."""
    task = self.config.task
    if task is None or getattr(task, 'mixture', None) != self._provider.name:
      return self
    config = dataclasses.replace(self.config, mixture_or_task_name=task.name)
    return Source(config, provided.find(task.name), self.folder)

  def rows(self, split: str, units: Sequence[str] = annotate.UNIT_FEATURES) -> tf.data.Dataset:
    """All rows of a split, once, in the corpus's order, with those of `units` that it has; see `rows.make_rows`."""
    return self._blocks(split, units).unbatch()

  def _blocks(self, split: str, units: Sequence[str], endless: bool = False) -> tf.data.Dataset:
    """The rows, some at a time, with those of `units` that the task has: [rows, text_length] features."""
    asked = split, tuple(units), endless
    if asked not in self._made:  # a graph is traced once for all who read the same
      self._made[asked] = self._make_blocks(*asked)
    return self._made[asked]

  def _make_blocks(self, split: str, units: tuple[str, ...], endless: bool) -> tf.data.Dataset:
    if (folder := self._own_cache()) is not None:
      known = tuple(name for name in units if name in annotate.UNIT_FEATURES)
      documents = cache.read_documents(folder, split, ('targets', *known))
      return rows.row_blocks(documents, self.config.text_length, self.special, known)
    how = {'use_cached': self.config.use_cached, 'endless': endless}
    dataset = provided.read(self._provider, split, self.config.task_feature_lengths, self.special, units, **how)
    return dataset.batch(_ROWS_PER_BLOCK)

  def documents(self, split: str, units: Sequence[str] = ()) -> Iterator[dict[str, np.ndarray]]:
    """The documents of a split, once: 'targets' and those of `units` that the task has, int [tokens] each.

    Of other people's tasks, the rows without their padding in place of documents.
    """
    if (folder := self._own_cache()) is not None:
      for block in cache.read_documents(folder, split, ('targets', *units)):
        parts = {name: (value.flat_values.numpy(), value.row_splits.numpy()) for name, value in block.items()}
        for i in range(len(parts['targets'][1]) - 1):
          yield {name: flat[splits[i] : splits[i + 1]] for name, (flat, splits) in parts.items()}
      return
    for block in self._blocks(split, units).as_numpy_iterator():
      for i, segments in enumerate(block['segment_ids']):
        yield {name: block[name][i][segments > 0] for name in ('targets', *units) if name in block}

  def _own_cache(self) -> str | None:
    """Where the documents of the task lie if it was made here."""
    name = self._provider.name
    ours = self.folder is not None and self.config.task is not None and self.config.task.name == name
    return os.path.join(self.folder, 'cache', name) if self.folder and ours else None

  def corrupted(self, objective: Objective, split: str) -> tf.data.Dataset:
    """Rows in the order in which training or evaluation reads them, with the features of an objective beside them.

    Rates that change with the step of training are those of its first step.
    """
    stream = self.stream(split, objective, drop=False)  # `corrupt_rows` drops what holds no example
    known = {'step': tf.constant(0, tf.int64), 'place': tf.constant(-1.0, tf.float64)}
    stream = stream.map(preprocessor.graph(lambda row: row | known))
    return preprocessor.corrupt_rows_by(self._corrupt(objective), objective, self.special)(stream)

  def _corrupt(self, objective: Objective) -> preprocessor.Block:
    """The same for training, evaluation and counts, so that it is traced once."""
    if self._corrupts is None or self._corrupts[0] is not objective:
      self._corrupts = objective, preprocessor.corrupt_block(objective, self.special, self.config.seed)
    return self._corrupts[1]

  def batches(
    self,
    objective: Objective,
    batch_size: int,
    split: str = 'train',
    skip: int = 0,
    host: int = 0,
    num_hosts: int = 1,
    step: int = TRAINED,
  ) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of each global batch.

    Args:
      objective: what to do to the rows.
      batch_size: rows of a global batch.
      split: 'train' is shuffled and endless; any other split is read once, every row of it, and its last batch is
        filled up with rows of padding, in which everything is 0.
      skip: global batches to leave out at the start: a resumed run's data position.
      host, num_hosts: host h keeps rows h * n .. (h + 1) * n - 1 of each batch, n = batch_size / num_hosts.
      step: as which rows of a split other than 'train' are read: rates and stages are those of that step of training.

    Yields:
      Dictionaries of the features of `objectives.base`, int32 or float32 [batch_size / num_hosts, model_length];
      'text_tokens', int32 [batch_size / num_hosts], tokens of the corpus in each row; and for the host alone
      'example_id', int64 [batch_size / num_hosts], the rows' numbers in the corpus, -1 for a row of padding, and of a
      training batch of a Mixture 'corpus_tokens', int32 [len(corpora)], how many tokens of the global batch are whose.
    """
    local = batch_size // num_hosts
    corrupt = self._corrupt(objective)
    wanted = (*MODEL_FEATURES, *objective.more_features)

    def features(number: tf.Tensor, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      rows = {name: value for name, value in rows.items() if name != 'kept'}  # which chose them; no objective reads it
      whole, is_row = (rows, None) if split == 'train' else _filled(rows, batch_size)
      mine = {name: value[host * local : (host + 1) * local] for name, value in whole.items()}
      mine['step'] = tf.fill([local], number if split == 'train' else tf.constant(step, tf.int64))
      places = tf.range(host * local, (host + 1) * local, dtype=tf.float64) / batch_size
      mine['place'] = places if split == 'train' else -tf.ones_like(places)
      made = {name: value for name, value in corrupt(mine).items() if name in wanted}
      made['text_tokens'] = tf.reduce_sum(tf.cast(mine['segment_ids'] > 0, tf.int32), axis=1)
      made['example_id'] = mine['example_id']
      if split == 'train' and self.corpora:
        made['corpus_tokens'] = provided.corpus_tokens(whole, len(self.corpora))
      return made if is_row is None else _emptied(made, is_row[host * local : (host + 1) * local])

    # The training split is endless: only another one has a last batch.
    dataset = self.stream(split, objective).batch(batch_size, drop_remainder=split == 'train')
    dataset = dataset.skip(skip).enumerate(skip)
    dataset = dataset.map(preprocessor.graph(features), num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = self.config.threads or max(2, (os.cpu_count() or 2) // 4)
    return self._whole(dataset.prefetch(4).with_options(options).as_numpy_iterator())

  def _whole(self, batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The batches; UserError where a file of the cache turns out to be damaged."""
    try:
      yield from batches
    except tf.errors.DataLossError as error:
      where = self.folder or self.config.mixture_or_task_name
      raise UserError(
        f'The cache of {where} is damaged ({error.message.splitlines()[0]}); delete it, and it is made again.'
      ) from error

  def stream(self, split: str, objective: Objective, drop: bool = True) -> tf.data.Dataset:
    """Rows with the 'epoch' they are read in.

    The training split is endless and shuffled anew each epoch by (seed, epoch); any other split is read once,
    shuffled the same for all seeds. A Mixture's first epoch has no end: its tasks begin again each in its own time.

    Args:
      split: its name.
      objective: who reads them; units that it does not read are left out.
      drop: whether to leave out the rows that hold no example of it. The others keep their order.
    """
    blocks = self._blocks(split, objective.units, endless=split == 'train')
    preprocessor.require_units(objective, blocks.element_spec)
    drops = drop and type(objective).keep is not Objective.keep

    def one(epoch: tf.Tensor) -> tf.data.Dataset:
      def mark(block: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        kept = {'kept': objective.keep(block, self.special)} if drops else {}
        return block | {'epoch': tf.fill(tf.shape(block['example_id']), epoch)} | kept

      seed = epoch * 1_000_003 + self.config.seed + 1 if split == 'train' else 0
      dataset = (
        blocks.map(mark, num_parallel_calls=tf.data.AUTOTUNE).unbatch().shuffle(self.config.shuffle_rows, seed=seed)
      )
      return dataset.filter(lambda row: row['kept']) if drops else dataset

    epochs = np.iinfo(np.int64).max // 2_000_006 if split == 'train' else 1
    return tf.data.Dataset.range(epochs).flat_map(preprocessor.graph(one))


def _filled(rows: dict[str, Tensor], count: int) -> tuple[dict[str, Tensor], Tensor]:
  """The rows and after them the last one again, `count` in all, and which of them are the rows, bool [count].

  So no objective has to know rows that hold nothing.
  """
  index, last = tf.range(count), tf.shape(rows['example_id'])[0] - 1
  return {name: tf.gather(value, tf.minimum(index, last)) for name, value in rows.items()}, index <= last


def _emptied(features: dict[str, Tensor], is_row: Tensor) -> dict[str, Tensor]:
  """The features with nothing where there is no row: 0, and -1 for 'example_id'."""
  shape = lambda value: tf.concat([[-1], tf.ones([tf.rank(value) - 1], tf.int32)], axis=0)
  empty = {name: tf.where(tf.reshape(is_row, shape(value)), value, 0) for name, value in features.items()}
  return empty | {'example_id': tf.where(is_row, features['example_id'], -1)}
