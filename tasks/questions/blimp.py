"""BLiMP: 67 sets of 1,000 minimal pairs, a good and a bad sentence each (Warstadt et al., arXiv 1912.00582).

The sentence with the higher score is the model's choice; every token is scored, `bos` in front, at temperature 1.
"""

import dataclasses
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import UserError
from ...objectives.scoring import Query
from .material import Material
from .test import Item, Test, require_counts, settings_of

_FIELDS = ('sentence_good', 'sentence_bad', 'field', 'linguistics_term', 'UID')
TFDS = 'tfds'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blimp:
  """Which of two sentences is good English; grouped by phenomenon, field and set.

  Attributes:
    path: a folder with the sets' '.jsonl' files, or a tar archive of them, compressed or not; 'tfds' takes TensorFlow
      Datasets' `blimp`, which it downloads; None leaves BLiMP out.
    per_set: pairs of each set, drawn by the seed; None takes all.
    seed: decides which.
  """

  path: str | None = None
  per_set: int | None = 40
  seed: int = 0

  def __post_init__(self) -> None:
    if self.per_set is not None:
      require_counts(self, 'per_set')

  def draw(self, material: Material) -> list[Test]:
    if self.path is None:
      material.notes.append(
        'BLiMP is left out: --gin.BLIMP=FOLDER gives its JSONL files (github.com/alexwarstadt/blimp, data/), '
        "--gin.BLIMP=tfds takes TensorFlow Datasets'."
      )
      return []
    items, left_out = [], 0
    for number, pair in enumerate(self._chosen()):
      queries = [
        Query(np.array(material.encode(pair[name]), np.int32), (), number) for name in ('sentence_good', 'sentence_bad')
      ]
      if max(len(query.tokens) for query in queries) > material.text_length or min(len(q.tokens) for q in queries) < 2:
        left_out += 1
        continue
      field = pair['field'].replace('/', '_')  # one set has 'syntax/semantics'
      items.append(Item(tuple(queries), (pair['linguistics_term'], field, pair['UID'])))
    if left_out:
      material.notes.append(f'{left_out} pairs of BLiMP are longer than a row of {material.text_length} tokens.')
    if not items:
      return []
    how: dict[str, Any] = {
      'part': 'grammar',
      'kind': 'choices',
      'primary': 'accuracy',
      'items': items,
      'groupings': ('phenomenon', 'field', 'set'),
      'settings': {**settings_of(self), 'path': os.path.basename(os.path.normpath(self.path))},
    }
    return [
      Test(name='blimp', title='BLiMP', **how),
      Test(name='blimp_causal', title='BLiMP, left to right', causal=True, **how),
    ]

  def _chosen(self) -> Iterator[dict[str, str]]:
    """The pairs asked, set by set."""
    sets = _from_tfds() if self.path == TFDS else _from_files(os.path.expanduser(self.path or ''))
    found = False
    for name, pairs in sets:
      found = True
      random = np.random.default_rng([self.seed, *name.encode()])
      chosen = random.permutation(len(pairs))[: self.per_set]
      yield from (pairs[i] for i in sorted(chosen))
    if not found:
      raise UserError(f"Blimp.path={self.path!r} holds no '.jsonl' file; give the folder of BLiMP's sets.")


def _from_files(path: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
  """The sets of a folder or an archive with their names, in the names' order."""
  try:
    if os.path.isdir(path):
      for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
          if name.endswith('.jsonl'):
            with open(os.path.join(folder, name), 'rb') as file:
              yield name, _pairs(file.read(), os.path.join(folder, name))
      return
    with tarfile.open(path) as archive:
      members = (member for member in archive if member.isfile() and member.name.endswith('.jsonl'))
      held = {member.name: archive.extractfile(member) for member in members if '/.' not in f'/{member.name}'}
      for name in sorted(held):
        file = held[name]
        yield os.path.basename(name), _pairs(file.read() if file else b'', f'{path}: {name}')
  except (OSError, EOFError, tarfile.TarError) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise UserError(
      f"Blimp.path={path!r} cannot be read ({reason}); give a folder of BLiMP's JSONL files or an archive of them."
    ) from error


def _pairs(data: bytes, where: str) -> list[dict[str, str]]:
  """The pairs of one file; UserError naming the line that is none."""
  pairs = []
  for number, line in enumerate(data.splitlines(), 1):
    try:
      record = json.loads(line)
      pairs.append({name: str(record[name]) for name in _FIELDS})
    except (ValueError, TypeError, LookupError, RecursionError) as error:
      raise UserError(f'{where} line {number} is no pair of BLiMP ({error!r}).') from error
  return pairs


def _from_tfds() -> Iterator[tuple[str, list[dict[str, str]]]]:
  import tensorflow_datasets as tfds

  try:
    names = sorted(tfds.builder_cls('blimp').builder_configs)
    for name in names:
      rows = tfds.load(f'blimp/{name}', split='train').as_numpy_iterator()
      yield f'{name}.jsonl', [{field: row[field].decode() for field in _FIELDS} for row in rows]
  except Exception as error:  # TFDS raises many kinds: no network, no disk
    reason = str(error).strip().split('\n')[0]
    raise UserError(f"TensorFlow Datasets cannot give 'blimp' ({reason}); set Blimp.path to a folder.") from error
