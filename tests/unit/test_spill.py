"""Documents on disk: cut without loss, in an order of their own, and in memory a part at a time."""

import itertools
import os
import random

import pytest
from unmask.tasks import corpora, spill


def _document(identity, text, **more):
  return {'id': identity, 'text': text, **more}


def _sorted(folder, documents, shards=3, one_in=4):
  with spill.Spill(str(folder), shards) as spilled:
    for document in documents:
      spilled.put(document)
  counts = sum((spill.sort(str(folder), shard, one_in) for shard in range(shards)), spill.Counts())
  return [list(spill.stream(str(folder), shard)) for shard in range(shards)], counts


@pytest.mark.parametrize(
  ('text', 'parts'),
  [
    ('a b c', ['a b c']),
    ('line one\nline two\nline three', ['line one\n', 'line two\n', 'line three']),
    ('aaaa bbbb cccc dddd', ['aaaa bbbb ', 'cccc dddd']),
    ('x' * 25, ['x' * 10, 'x' * 10, 'x' * 5]),
    ('one\ntwo three four five', ['one\n', 'two three ', 'four five']),
    ('\n' + 'y' * 12 + '   \n \n    \nend', ['y' * 10, 'yy   \n \n', '    \nend']),
  ],
)
def test_pieces(text, parts):
  found = list(spill.pieces(_document('d', text, source='s'), 10))
  assert [piece['text'] for piece in found] == parts
  assert all(len(part) <= 10 and part.strip() for part in parts)
  assert all(piece['source'] == 's' for piece in found)
  assert {spill.source_id(piece) for piece in found} == {'d'}
  if len(parts) == 1:
    assert found == [_document('d', text, source='s')]
  else:
    assert [piece['id'] for piece in found] == [f'd#{i + 1}' for i in range(len(parts))]
    assert [spill.is_first(piece) for piece in found] == [True] + [False] * (len(parts) - 1)


def test_pieces_together_are_the_text_and_in_one_split():
  rng = random.Random(0)
  for number in range(40):
    text = 'a' + ''.join(rng.choice('ab \n') for _ in range(500))
    found = list(spill.pieces(_document(f'd{number}', text), 20))
    assert ''.join(piece['text'] for piece in found).split() == text.split()
    held_out = {spill.is_held_out(piece, 3) for piece in found}
    assert held_out == {corpora.is_validation(f'd{number}', 3)}


def test_shards_do_not_depend_on_the_order_of_reading(tmp_path):
  documents = [_document(f'd{i}', f'text {i}') for i in range(300)]
  one, counts = _sorted(tmp_path / 'one', documents)
  random.Random(1).shuffle(documents)
  two, again = _sorted(tmp_path / 'two', documents)
  assert one == two
  assert counts == again
  assert min(map(len, one)) > 60
  assert sorted(d['id'] for shard in one for d in shard) == sorted(d['id'] for d in documents)
  numbers = [int(d['id'][1:]) for d in one[0]]
  rising = sum(a < b for a, b in itertools.pairwise(numbers))
  assert 0.3 < rising / len(numbers) < 0.7  # at random


@pytest.mark.parametrize('one_in', [2, 4, 20])
def test_every_shard_has_documents_of_both_splits(tmp_path, one_in):
  """Shard and split are decided by hashes of the same id; neither may decide the other."""
  shards, _ = _sorted(tmp_path, [_document(f'd{i}', 'text') for i in range(4000)], shards=8, one_in=one_in)
  for shard in shards:
    share = sum(spill.is_held_out(document, one_in) for document in shard) / len(shard)
    assert 0.5 / one_in < share < 1.6 / one_in


def test_a_shard_beyond_memory_is_sorted_in_parts(tmp_path, monkeypatch):
  documents = [_document(f'd{i}', f'text {i}' * 20) for i in range(400)]
  documents += [_document('d7', 'another text'), _document('d9', 'yet another')]
  whole, counts = _sorted(tmp_path / 'whole', documents)
  monkeypatch.setattr(spill, '_MEMORY', 2000)
  paths: list[str] = []

  def parted_files(path, parts):
    paths.extend(found := parted_before(path, parts))
    sizes.extend(os.path.getsize(path) for path in found)
    return found

  parted_before, sizes = spill._parted, []
  monkeypatch.setattr(spill, '_parted', parted_files)
  parted, again = _sorted(tmp_path / 'parted', documents)
  assert whole == parted
  assert counts == again
  assert len(paths) > 30
  assert max(sizes) < 8000  # of some 60,000 bytes: hashes are even only on the whole
  assert sorted(os.listdir(tmp_path / 'parted')) == [f'{i:05d}.sorted' for i in range(3)]


def test_documents_with_the_same_id_are_told_apart_by_their_text(tmp_path):
  documents = [_document('d', text) for text in ('b', 'c', 'a', 'a')] + [_document('e', 'b')]
  for seed in range(3):
    random.Random(seed).shuffle(documents)
    shards, counts = _sorted(tmp_path / str(seed), documents)
    found = {document['id']: document['text'] for shard in shards for document in shard}
    assert found == {'d': 'a', 'd~2': 'a', 'd~3': 'b', 'd~4': 'c', 'e': 'b'}
    assert counts.renamed == 3
    renamed = [document for shard in shards for document in shard if '~' in document['id']]
    assert {spill.is_held_out(document, 4) for document in renamed} == {corpora.is_validation('d', 4)}


def test_counts(tmp_path):
  documents = [_document(f'd{i}', 'ten chars\n' * (1 + 2 * (i % 2))) for i in range(100)]
  cut = [piece for document in documents for piece in spill.pieces(document, 10)]
  _, counts = _sorted(tmp_path, cut)
  held_out = [document for document in documents if corpora.is_validation(document['id'], 4)]
  characters = sum(len(document['text']) for document in documents)
  training = characters - sum(len(document['text']) for document in held_out)
  assert counts == spill.Counts(100, len(held_out), 50, 150, 0, characters, training)
