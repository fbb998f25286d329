"""A prepared corpus as a registered seqio Task: read from its cache, without the text, the tagger or the lexicon."""

import dataclasses
import json
import os
from collections.abc import Callable

import seqio
import tensorflow as tf

from .. import UserError
from . import cache, rows, vocabularies
from .preparation import stages
from .units import annotate


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedTask:
  """A corpus that `unmask prepare` made before, perhaps on another machine.

  Attributes:
    folder: what `unmask prepare` printed; it may have been moved or copied, but keeps its last name.
  """

  folder: str

  @property
  def name(self) -> str:
    """The seqio task's name; UserError if there is no prepared corpus."""
    path = os.path.join(os.path.expanduser(self.folder), 'summary.json')
    try:
      with open(path) as file:
        return json.load(file)['name']
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'PreparedTask.folder={self.folder!r} holds no prepared corpus ({path}: {error}); give the folder that '
        '`unmask prepare` printed.'
      ) from error

  def prepare(self, say: Callable[[str], None] = print) -> str:
    """Registers the task; returns the folder. UserError if a file of its cache is missing or damaged."""
    del say  # there is nothing to be made
    folder = os.path.abspath(os.path.expanduser(self.folder))
    register(self.name, folder)
    return folder


def register(name: str, folder: str) -> None:
  """Registers the seqio Task of a prepared folder, in place of one of the same name."""
  vocabulary = stages.load_vocabulary(folder)
  features = {
    feature: seqio.Feature(
      vocabulary if feature == 'targets' else seqio.PassThroughVocabulary(2**31 - 1), add_eos=False, dtype=tf.int32
    )
    for feature in (*annotate.FEATURES, 'segment_ids')
  }
  # seqio reads the first folder that knows the name: ours must come before one of other settings.
  own = os.path.join(folder, 'cache')
  cache.check(os.path.join(own, name))
  seqio.utils.set_global_cache_dirs([own, *(path for path in seqio.utils.get_global_cache_dirs() if path != own)])
  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(_no_text(name, folder), splits=stages.SPLITS),
    preprocessors=[
      seqio.CacheDatasetPlaceholder(required=True),
      rows.to_rows(vocabularies.special_tokens(vocabulary), annotate.UNIT_FEATURES),
    ],
    output_features=features,
  )


def _no_text(name: str, folder: str) -> Callable[..., tf.data.Dataset]:
  def documents(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
    del split, shuffle_files, seed
    raise UserError(f'Task {name} is read from its cache in {folder}; use use_cached=True.')

  return documents
