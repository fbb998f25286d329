"""What is asked: every question is what it says it is, fits the model's rows, and is the same for every model."""

import re

import numpy as np
import pytest
from plain_text import source
from unmask import UserError
from unmask.objectives.scorers import LeftToRight
from unmask.tasks.questions import choices, embedding, entity_tracking, held_out, retrieval
from unmask.tasks.questions.material import Material
from unmask.tasks.questions.segments import spend
from unmask.tasks.questions.test import Item, Test

ALL = [
  held_out.LeftToRight(gaps=64),
  held_out.Masked(segments=16),
  held_out.Infill(gaps={1: 20, 3: 20, 8: 10, 32: 5}),
  choices.EntityCloze(spans=30),
  choices.CollocationCloze(units=30),
  retrieval.KeyValue(per_cell=3),
  retrieval.Needle(per_cell=3),
  retrieval.MultiDocument(per_cell=3, lengths=(1.0, 2.0 / 3)),
  entity_tracking.EntityTracking(stories=40),
  embedding.PassageHalves(passages=30),
]
NAMES = {
  *('left_to_right', 'masked_token', 'masked_word', 'masked_collocation', 'masked_salient', 'infill_1', 'infill_3'),
  *('infill_8', 'infill_32', 'entity_cloze', 'collocation_word', 'collocation_unit', 'key_value', 'needle'),
  *('multi_document', 'entity_tracking', 'passage_halves'),
}


@pytest.fixture(scope='module')
def material(default_task):
  """Rows of 128 tokens of the default corpus."""
  from unmask.tasks import pipeline

  lengths = {'targets': 128}
  opened = pipeline.Pipeline(mixture_or_task_name='default_text', task_feature_lengths=lengths, task=default_task)
  return Material(opened.open(say=lambda line: None))


@pytest.fixture(scope='module')
def tests(material) -> dict[str, Test]:
  return {test.name: test for questions in ALL for test in questions.draw(material)}


def _said(material: Material, item: Item, candidate: int = 0) -> tuple[str, str]:
  """The text before the gap, and what fills it."""
  ((start, end),) = item.candidates[candidate].gaps
  tokens = item.candidates[candidate].tokens
  return material.text(tokens[:start]), material.text(tokens[start:end])


def test_all_is_asked_and_fits(tests, material):
  assert set(tests) == NAMES
  assert not material.notes
  for test in tests.values():
    assert test.items
    for item in test.items:
      assert len(item.labels) == len(test.groupings)
      for query in item.candidates:
        assert len(query.tokens) <= material.text_length
        assert query.tokens[0] == material.special.bos
        edges = [edge for gap in query.gaps for edge in gap]
        assert edges == sorted(edges)
        assert edges[0] > 0
        assert edges[-1] <= len(query.tokens)
        assert all(material.special.is_text(query.tokens[a:b]).all() for a, b in query.gaps)
      assert len({query.tokens.tobytes() for query in item.candidates}) == len(item.candidates)
      # One number of tokens: no candidate is longer than another.
      assert len({query.gaps for query in item.candidates}) == 1


def test_the_same_is_drawn_again_and_other_seeds_draw_others(tests, material):
  import dataclasses

  for questions in ALL:
    again = {test.name: test.digest() for test in questions.draw(Material(material.source))}
    other = {test.name: test.digest() for test in dataclasses.replace(questions, seed=1).draw(material)}
    assert set(again) == set(other)
    for name, digest in again.items():
      assert digest == tests[name].digest()
      assert digest != other[name]


@pytest.mark.parametrize('unit', ['token', 'word', 'collocation', 'salient'])
def test_masks_are_whole_units_and_make_15_percent(unit, tests, material):
  test = tests[f'masked_{unit}']
  hidden = tokens = 0
  for item in test.items:
    (query,) = item.candidates
    segment = material.segments[query.cluster]
    assert set(query.gaps) <= set(segment.runs(unit))
    size = sum(end - start for start, end in query.gaps)
    assert 0.8 * round(0.15 * len(query.tokens)) <= size <= max(1, round(0.15 * len(query.tokens)))
    hidden, tokens = hidden + size, tokens + len(query.tokens)
  assert test.settings['hidden'] == pytest.approx(hidden / tokens)
  assert 0.12 < hidden / tokens < 0.155


def test_spending_skips_what_exceeds_and_nothing_else():
  random = np.random.default_rng(0)
  units = [(0, 3), (3, 4), (5, 9), (9, 10)]
  for budget in range(12):
    for _ in range(20):
      chosen = spend(units, budget, random)
      size = sum(b - a for a, b in chosen)
      assert size <= budget
      assert all(b - a > budget - size for a, b in units if (a, b) not in chosen)


def test_gaps_have_text_where_they_claim_it(tests, material):
  for item in tests['left_to_right'].items:
    ((start, end),) = item.candidates[0].gaps
    assert end == len(item.candidates[0].tokens) == start + 1
  for size in (1, 3, 8, 32):
    for item in tests[f'infill_{size}'].items:
      ((start, end),) = item.candidates[0].gaps
      assert end - start == size
      assert start >= 8
      assert end <= len(item.candidates[0].tokens) - 8


def test_entities_are_alike(tests, material):
  counts = material.span_counts
  digits = lambda text: any(c.isdigit() for c in text)
  ranks = []
  for item in tests['entity_cloze'].items:
    assert len(item.candidates) == 10
    ((start, end),) = item.candidates[0].gaps
    segment = material.segments[item.cluster]
    assert (start, end) in segment.runs('salient')
    np.testing.assert_array_equal(item.candidates[0].tokens, segment.tokens)
    spans = [tuple(query.tokens[start:end].tolist()) for query in item.candidates]
    assert len({digits(material.text(np.array(span))) for span in spans}) == 1
    assert all(span in counts for span in spans)
    frequencies = [counts[span] for span in spans]
    ranks.append(sum(f < frequencies[0] for f in frequencies[1:]) + 0.5 * frequencies[1:].count(frequencies[0]))
  # Frequency alone tells nothing: the right one is in the middle of them on average.
  assert abs(np.mean(ranks) / 9 - 0.5) < 0.2


def test_one_word_and_the_whole_of_the_same_collocation(tests, material):
  for word, unit in zip(tests['collocation_word'].items, tests['collocation_unit'].items, strict=True):
    np.testing.assert_array_equal(word.candidates[0].tokens, unit.candidates[0].tokens)
    (inner,), (outer,) = word.candidates[0].gaps, unit.candidates[0].gaps
    assert outer[0] <= inner[0] < inner[1] <= outer[1]
    assert inner != outer
    assert outer in material.segments[unit.cluster].runs('collocation')
    assert inner in material.segments[unit.cluster].runs('word')


def test_halves_are_of_one_passage_and_the_others_of_other_documents(tests, material):
  items = tests['passage_halves'].items
  assert len(items) == 30
  spelt = lambda tokens: f' {" ".join(map(str, tokens))} '
  texts = [spelt(document['targets']) for document in material.source.documents('validation')]
  holds = lambda tokens: {number for number, text in enumerate(texts) if spelt(tokens) in text}
  for item in items:
    assert len(item.candidates) == 20
    assert {query.gaps for query in item.candidates} == {((33, 65),)}
    assert len({query.tokens[:33].tobytes() for query in item.candidates}) == 1
    here = holds(item.candidates[0].tokens[1:])
    assert here
    for query in item.candidates[1:]:
      assert holds(query.tokens[33:]) - here
      assert not here & holds(query.tokens[33:])


def _cells(test: Test) -> dict[str, int]:
  labels = [item.labels[0] for item in test.items]
  return {label: labels.count(label) for label in labels}


def test_retrieval_has_every_length_and_depth(tests):
  for name, lengths in (('key_value', (32, 64, 128)), ('needle', (32, 64, 128)), ('multi_document', (128, 85))):
    depths = ('0.00', '0.25', '0.50', '0.75', '1.00')
    assert _cells(tests[name]) == {f'{length}|{depth}': 3 for length in lengths for depth in depths}
    for item in tests[name].items:
      length = int(item.labels[0].split('|')[0])
      assert 0.7 * length < len(item.candidates[0].tokens) <= length
      assert len(item.candidates) == 4 or (name, length) == ('multi_document', 85)


def test_the_value_is_that_of_the_key(tests, material):
  for item in tests['key_value'].items:
    text, answer = _said(material, item)
    pairs = re.findall(r'(\w+): (\w+)', text.split('}')[0])
    (key,) = re.search(r'Key: (\w+)\nValue:$', text).groups()
    assert dict(pairs)[key] == answer.strip()
    others = [_said(material, item, i)[1].strip() for i in (1, 2, 3)]
    assert set(others) <= set(dict(pairs).values()) - {answer.strip()}
    depth = float(item.labels[0].split('|')[1])
    assert [pair[0] for pair in pairs].index(key) == round(depth * (len(pairs) - 1))


def test_the_needle_lies_at_its_depth(tests, material):
  for item in tests['needle'].items:
    text, answer = _said(material, item)
    (name,) = re.search(r'\nThe secret word of (\w+) is$', text).groups()
    needle = f'The secret word of {name} is {answer.strip()}.'
    assert text.count(needle) == 1
    before, after = text[: -len(f'\nThe secret word of {name} is')].split(needle)
    depth = float(item.labels[0].split('|')[1])
    assert abs(len(before) / (len(before) + len(after)) - depth) < 0.3
    assert len(before.split()) <= 1 or depth > 0
    assert not after.strip() or depth < 1
    others = [_said(material, item, i)[1].strip() for i in (1, 2, 3)]
    assert needle not in [needle.replace(answer.strip(), other) for other in others]


def test_who_does_not_know_the_needle_gets_chance(material):
  """By any rule that looks at the candidates and the haystack alone: here, a word of the haystack first."""
  (test,) = retrieval.Needle(per_cell=40).draw(material)
  hits = []
  for item in test.items:
    text, answer = _said(material, item)
    hay = re.sub(r'The secret word of \w+ is( \w+\.)?', '', text)
    options = [_said(material, item, i)[1].strip() for i in range(4)]
    inside = [word for word in options if re.search(rf'\b{word}\b', hay)] or options
    hits.append((answer.strip() in inside) / len(inside))
  assert abs(np.mean(hits) - 0.25) < 3.5 * np.std(hits) / len(hits) ** 0.5


def test_the_document_asked_about_holds_the_answer(tests, material):
  for item in tests['multi_document'].items:
    text, answer = _said(material, item)
    found = re.findall(r'Document \[(\d+)\] \(Title: (\w+)\) The code word is (\w+)\.', text)
    (title,) = re.search(r'\nQuestion: what is the code word of (\w+)\?\nAnswer:$', text).groups()
    assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
    values = {name: value for _, name, value in found}
    assert values[title] == answer.strip()
    others = {_said(material, item, i)[1].strip() for i in range(1, len(item.candidates))}
    assert others <= set(values.values()) - {answer.strip()}
    assert len(others) == min(3, len(found) - 1)
    depth = float(item.labels[0].split('|')[1])
    assert [name for _, name, _ in found].index(title) == round(depth * (len(found) - 1))


def _follow(text: str) -> tuple[list[str], int, int]:
  """What the text says: the objects in the box asked about, that box, and how often it was changed."""
  begin, *rest = text.split('. ')
  boxes: dict[int, list[str]] = {}
  for box, inside in re.findall(r'Box (\d) contains (?:the )?(\w+)', begin):
    boxes[int(box)] = [] if inside == 'nothing' else [inside]
  changed = dict.fromkeys(boxes, 0)
  for sentence in rest[:-1]:
    name = re.search(r'the (\w+)', sentence).group(1)
    numbers = [int(box) for box in re.findall(r'Box (\d)', sentence)]
    if sentence.startswith(('Move', 'Remove')):
      boxes[numbers[0]].remove(name)
    if sentence.startswith(('Move', 'Put')):
      boxes[numbers[-1]].append(name)
    for box in numbers:
      changed[box] += 1
  asked = int(re.fullmatch(r'Box (\d) contains the', rest[-1]).group(1))
  return boxes[asked], asked, changed[asked]


def test_boxes_hold_what_the_story_says(tests, material):
  moves = set()
  for item in tests['entity_tracking'].items:
    text, answer = _said(material, item)
    inside, _, changes = _follow(text)
    assert inside == [answer.strip()]
    assert item.labels == (str(changes),)
    moves.add(changes)
    assert len(item.candidates) == 4
  assert len(moves) >= 3


def test_what_there_is_no_material_for_is_left_out_and_said():
  """Bytes, without units, in rows too short for most."""
  with source([f'Line {n} of a plain text about {n * 37} other things of no name.' for n in range(60)], 44) as opened:
    found = Material(opened)
    drawn = {test.name: test for questions in ALL for test in questions.draw(found)}
  assert {'left_to_right', 'masked_token', 'infill_1', 'infill_8'} <= set(drawn)
  assert not {'masked_word', 'masked_salient', 'entity_cloze', 'collocation_word', 'entity_tracking'} & set(drawn)
  for name in ('masked_word', 'masked_salient', 'infill_32', 'entity_cloze', 'collocation_word', 'entity_tracking'):
    assert any(name in note for note in found.notes), (name, found.notes)
  for test in drawn.values():
    for item in test.items:
      assert LeftToRight().candidate(item.candidates[0])


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: held_out.LeftToRight(gaps=0), 'LeftToRight.gaps is 0'),
    (lambda: held_out.Masked(rate=1.0), 'Masked.rate is 1.0'),
    (lambda: held_out.Masked(units=['letter']), "Masked.units holds 'letter'"),
    (lambda: held_out.Infill(gaps={0: 5}), 'Infill.gaps is'),
    (lambda: choices.EntityCloze(candidates=1), 'EntityCloze.candidates is 1'),
    (lambda: retrieval.Needle(depths=(0.5, 2.0)), 'Needle.depths is'),
    (lambda: retrieval.KeyValue(lengths=()), 'KeyValue.lengths is'),
    (lambda: entity_tracking.EntityTracking(boxes=1), 'EntityTracking.boxes=1'),
  ],
)
def test_settings_are_checked(make, sign):
  with pytest.raises(UserError, match=re.escape(sign)):
    make()
