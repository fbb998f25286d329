"""FIM: cuts between characters, both orders, and what a real vocabulary makes of cut tokens."""

import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents
from unmask import UserError
from unmask.launch import realised
from unmask.objectives import preprocessor, scorers
from unmask.objectives.fill_in_the_middle import FillInTheMiddle
from unmask.tasks import vocabularies

PRE, SUF, MID = SPECIAL.spare[3:6]
COUNT, LENGTH = 6000, 12  # of which ten tokens, 30 characters, are text


def _parts(objective: FillInTheMiddle) -> tuple[np.ndarray, np.ndarray]:
  """Characters of prefix and middle of copies of one document, and whether each is in SPM; -1 where it is whole."""
  rows = {name: np.repeat(value, COUNT, axis=0) for name, value in documents(1, LENGTH).items()}
  inputs = corrupt(objective, rows)['decoder_input_tokens']
  found = np.full((COUNT, 2), -1)
  spm = np.zeros(COUNT, bool)
  size = lambda tokens: sum(3 if t < 1000 else 1 + (t % 2) if t < 2000 else 2 - (t % 2) for t in tokens)
  for b, row in enumerate(inputs.tolist()):
    if PRE in row:
      pre, suf, mid, end = (row.index(mark) for mark in (PRE, SUF, MID, SPECIAL.end_of_span))
      spm[b] = suf == pre + 1  # or PSM with an empty prefix
      found[b] = size(row[pre + 1 : suf]), size(row[mid + 1 : end])
  return found, spm


def test_cuts_are_uniform_over_characters():
  """Each of the 31 places, twice and independently: a third each in expectation."""
  found, _ = _parts(FillInTheMiddle(rate=1.0, spm_share=0.0))
  assert (found >= 0).all()
  first, second = found[:, 0], found.sum(axis=1)
  places = np.arange(31)
  # Of two places drawn uniformly the smaller one is k with probability (2 (31 - k) - 1) / 31^2.
  assert scipy.stats.chisquare(np.bincount(first, minlength=31), (2 * (31 - places) - 1) / 31**2 * COUNT).pvalue > 1e-3
  # The larger one too, mirrored, but where both lie in one token and it moves to its end.
  whole = second % 3 == 0
  assert abs((second - 10.5 * 2).mean()) < 1
  assert found.mean(axis=0) == pytest.approx([10, 10], abs=0.5)
  assert (~whole).mean() == pytest.approx(2 / 3 * (1 - 1 / 10), abs=0.04)


def test_rates_of_cutting_and_of_both_orders():
  found, spm = _parts(FillInTheMiddle())
  cut = found[:, 0] >= 0
  assert cut.mean() == pytest.approx(0.5, abs=0.03)
  empty = 61 / 31**2  # of the prefixes
  assert spm[cut].mean() == pytest.approx(0.5 + 0.5 * empty, abs=0.04)
  assert not _parts(FillInTheMiddle(rate=0.0))[1].any()


def test_what_is_scored():
  """All parts and the end, and not the marks."""
  features = corrupt(FillInTheMiddle(rate=1.0), documents(200, 40))
  targets, weights = features['decoder_target_tokens'], features['decoder_loss_weights']
  marks = np.isin(targets, [PRE, SUF, MID])
  assert marks.sum() == 3 * 200
  assert (weights[marks] == 0).all()
  assert (weights[(targets > 0) & ~marks] == 1).all()
  assert (targets == SPECIAL.end_of_span).sum() == 200
  all_scored = corrupt(FillInTheMiddle(rate=1.0, mark_weight=1.0), documents(200, 40))['decoder_loss_weights']
  assert (all_scored[marks] == 1).all()


def test_no_row_overflows():
  for room in (8, 16, 60):
    rows = {name: np.concatenate([value] * 3, axis=1) for name, value in documents(300, 20).items()}
    rows['segment_ids'] = np.repeat([[1] * 20 + [2] * 20 + [3] * 20], 300, axis=0).astype(np.int32)
    features = corrupt(FillInTheMiddle(rate=1.0, room=room), rows)
    assert features['decoder_segment_ids'].shape == (300, 60 + room)
    cut = (features['decoder_input_tokens'] == PRE).sum(axis=1)
    assert {8: {1, 2}, 16: {2, 3}, 60: {3}}[room] >= set(cut.tolist())  # a passage takes 4 to 6


def test_the_scorer_asks_in_a_form_that_was_trained():
  """Of a row that is cut, what stands before its middle is the prompt."""
  for spm_share, form in ((0.0, scorers.FillIn), (0.5, scorers.FillIn), (1.0, scorers.SuffixFirst)):
    objective = FillInTheMiddle(rate=1.0, spm_share=spm_share, split='token')
    scorer = objective.scorer(SPECIAL)
    assert type(scorer) is form
    if spm_share == 0.5:
      continue
    rows = documents(50, 20)
    for row, text in zip(
      corrupt(objective, rows)['decoder_input_tokens'].tolist(), rows['targets'].tolist(), strict=True
    ):
      pre, suf, mid, end = (row.index(mark) for mark in (PRE, SUF, MID, SPECIAL.end_of_span))
      prefix, suffix = (row[pre + 1 : suf], row[suf + 1 : mid]) if not spm_share else ([], row[suf + 1 : mid])
      behind = row[mid + 1 : end]
      if spm_share:  # where the prefix ends is not marked: any split of the two will do
        prefix, behind = behind[:3], behind[3:]
      assert [2, *prefix, *behind, *suffix, SPECIAL.eos] == text
      if suffix:
        prompt = scorer.prompt(np.array([2, *prefix]), np.array(suffix)).tolist()
        assert [*prompt, *behind, SPECIAL.end_of_span] == row[: end + 1]


def test_passages_without_room_show_beside_what_was_configured():
  rows = {name: np.concatenate([value] * 3, axis=1) for name, value in documents(300, 20).items()}
  rows['segment_ids'] = np.repeat([[1] * 20 + [2] * 20 + [3] * 20], 300, axis=0).astype(np.int32)
  for room, is_told in ((8, True), (60, False)):
    objective = FillInTheMiddle(rate=0.9, room=room)
    cut = (corrupt(objective, rows)['decoder_input_tokens'] == PRE).sum()
    assert bool(realised.surprises({'untouched': 1 - cut / 900}, objective)) == is_told


def test_text_of_a_real_vocabulary_is_whole_again(default_source):
  """Prefix, middle and suffix, decoded and put together, are the text; each of them is tokens of its own."""
  vocabulary, special = default_source.vocabulary, default_source.special
  objective = FillInTheMiddle(rate=1.0, room=60)
  rows = default_source.rows('validation').take(60)
  marks = special.spare[3:6]
  cut = 0
  for row in preprocessor.corrupt_rows(objective, special, 7)(rows).as_numpy_iterator():
    for number in range(1, row['segment_ids'].max() + 1):
      text = [int(t) for t in row['targets'][row['segment_ids'] == number] if special.is_text(t)]
      made = row['decoder_input_tokens'][row['decoder_segment_ids'] == number].tolist()
      if marks[0] not in made:
        continue
      pre, suf, mid, end = (made.index(mark) for mark in (*marks, special.end_of_span))
      joined = made[pre + 1 : suf] + made[mid + 1 : end] + made[suf + 1 : mid]
      assert vocabulary.decode(joined) == vocabulary.decode(text)
      assert special.is_text(np.array(joined, np.int32)).all()
      cut += joined != text
  assert cut > 20


def test_fragments_are_the_vocabularys_own(default_source):
  """Both parts of a piece spell it; nothing of a byte is cut."""
  vocabulary = default_source.vocabulary
  processor, table = vocabulary.tokenizer, default_source.special.fragments()
  spell = lambda ids: ''.join(processor.id_to_piece(int(i)) for i in ids if i)
  tokens = np.random.default_rng(0).permutation(processor.vocab_size())[:600]
  cuts = 0
  for token in map(int, tokens):
    size = table.characters[token]
    piece = processor.id_to_piece(token)
    if not (processor.is_byte(token) or processor.is_control(token) or processor.is_unknown(token)):
      assert size == len(piece)
    for cut in range(1, size):
      row = table.first[token] + cut - 1
      assert spell(table.left[row]) == piece[:cut]
      assert spell(table.right[row]) == piece[cut:]
      cuts += 1
  assert cuts > 500
  bytes_ = vocabularies.special_tokens(vocabularies.byte_vocabulary()).fragments()
  assert set(bytes_.characters.tolist()) == {0, 1}


def test_mistakes_are_named():
  for settings in ({'rate': 1.5}, {'spm_share': -1}, {'split': 'word'}, {'room': 3}, {'mark_weight': 2.0}):
    with pytest.raises(UserError, match=next(iter(settings))):
      FillInTheMiddle(**settings)
