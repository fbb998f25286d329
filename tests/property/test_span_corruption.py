"""Span corruption: lengths, where spans stand, and rows of several documents."""

import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, TABLE, corrupt, documents, make_rows
from unmask import UserError
from unmask.objectives import span_corruption
from unmask.objectives.span_corruption import SpanCorruption

UL2 = [(0.15, 3.0), (0.15, 8.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0), (0.5, 64.0)]  # rates and mean lengths


def _t5_noise(generator: np.random.Generator, length: int, rate: float, mean_length: float) -> np.ndarray:
  """t5's `random_spans_noise_mask` of one text, written plainly: bool [length]."""
  noise = min(max(int(np.round(length * rate)), 1), length - 1)
  spans = max(int(np.round(noise / mean_length)), 1)
  return _laid(_cut(generator, length - noise, spans), _cut(generator, noise, spans))


def _circle_noise(generator: np.random.Generator, length: int, rate: float, mean_length: float) -> np.ndarray:
  """A circle of all tokens but the first, T5's way, cut open anywhere; where a span is hit, it counts as two."""
  noise, spans, *_ = span_corruption.lengths(length, rate, mean_length)
  rest = length - 1 - noise
  while True:
    circle = _laid(_cut(generator, rest, spans), _cut(generator, noise, spans))
    at = int(generator.integers(length - 1))
    if not (circle[at - 1] and circle[at]):
      return np.concatenate([[False], np.roll(circle, -at)])
    if spans > 1:
      return np.concatenate([[False], _laid([0, *_cut(generator, rest, spans - 1)], _cut(generator, noise, spans))])


def _cut(generator: np.random.Generator, items: int, parts: int) -> list[int]:
  """Lengths of parts, none of them empty, all ways alike."""
  cuts = 1 + np.sort(generator.permutation(items - 1)[: parts - 1])
  return np.diff([0, *cuts, items]).tolist()


def _laid(kept: list[int], noise: list[int]) -> np.ndarray:
  """Kept tokens and noise in turn, bool."""
  return np.repeat([False, True] * len(kept), np.ravel(np.stack([kept, noise], axis=1)))


def _ours(objective: SpanCorruption, count: int, length: int) -> np.ndarray:
  """Noise of many copies of a text without its document's end, bool [count, length]."""
  rows = documents(1, length)
  rows['targets'][0, -1] = SPECIAL.text[0]
  rows = {name: np.repeat(value, count, axis=0) for name, value in rows.items()}
  features = corrupt(objective, rows)
  restore = TABLE['span_corruption'].restore
  for b in range(20):
    clean, row = ({name: value[b] for name, value in side.items()} for side in (rows, features))
    np.testing.assert_array_equal(restore(clean, row), clean['targets'])
  inputs, seen = features['decoder_input_tokens'], features['decoder_levels'] == 0
  return np.array([_noise_of(inputs[b][seen[b]], inputs[b][~seen[b]], length) for b in range(count)])


def _noise_of(inputs: np.ndarray, targets: np.ndarray, length: int) -> np.ndarray:
  """Which tokens of a text were cut out, bool [length]."""
  marks = [i for i, token in enumerate(targets) if token in SPECIAL.sentinels]
  sizes = iter(np.diff([*marks, len(targets) - 1]) - 1)
  mask = []
  for token in inputs[:-1]:
    mask += [True] * next(sizes) if token in SPECIAL.sentinels else [False]
  assert len(mask) == length
  return np.array(mask)


@pytest.mark.parametrize(('rate', 'mean_length'), [(0.15, 3.0), (0.5, 3.0), (0.5, 8.0)])
@pytest.mark.parametrize(('placement', 'plain'), [('t5', _t5_noise), ('even', _circle_noise)])
def test_spans_are_distributed_as_in_plain_code(placement, plain, rate, mean_length):
  """Where noise is, and how long its spans are."""
  count, length = 6000, 40
  ours = _ours(SpanCorruption(rate=rate, mean_length=mean_length, placement=placement), count, length)
  generator = np.random.default_rng(0)
  theirs = np.array([plain(generator, length, rate, mean_length) for _ in range(count)])
  assert (ours.sum(axis=1) == theirs.sum(axis=1)).all()
  free = theirs.mean(axis=0) * (1 - theirs.mean(axis=0)) > 0  # the first is never noise; T5's last always
  assert free.sum() == {'t5': 38, 'even': 39}[placement]
  assert (ours.mean(axis=0)[~free] == theirs.mean(axis=0)[~free]).all()
  share = (ours.mean(axis=0) + theirs.mean(axis=0))[free] / 2
  z = (ours.mean(axis=0) - theirs.mean(axis=0))[free] / np.sqrt(2 * share * (1 - share) / count)
  assert np.abs(z).max() < 4.2, z  # of 40 normal numbers one in a thousand times
  pairs = [(x[:, 1:] & x[:, :-1]).mean(axis=0) for x in (ours, theirs)]  # how long spans are
  assert np.abs(pairs[0] - pairs[1]).max() < 4.2 * np.sqrt(0.5 / count)


@pytest.mark.parametrize(('rate', 'mean_length'), [(0.15, 3.0), (0.5, 8.0)])
def test_every_token_is_noise_as_often_as_any_other(rate, mean_length):
  """At T5's 568 tokens, within chance and a fiftieth; T5's own placement gives 0.056 to 1 for 0.15."""
  shares = _ours(SpanCorruption(rate=rate, mean_length=mean_length), 1000, 568)[:, 1:].mean(axis=0)
  mean = span_corruption.lengths(568, rate, mean_length).noise / 567
  assert np.abs(shares - mean).max() < 0.02 * mean + 4.5 * np.sqrt(mean * (1 - mean) / 1000)


@pytest.mark.parametrize('rate', [0.15, 0.5])
def test_a_lone_span_begins_anywhere(rate):
  length = 40
  ours = _ours(SpanCorruption(rate=rate, mean_length=64.0), 4000, length)
  noise = round(rate * length)
  starts = np.bincount(ours.argmax(axis=1), minlength=length - noise + 1)
  assert starts[0] == 0
  assert (ours.cumsum(axis=1).max(axis=1) == noise).all()
  assert ((ours[:, 1:] & ~ours[:, :-1]).sum(axis=1) == 1).all()
  assert scipy.stats.chisquare(starts[1:]).pvalue > 1e-3
  suffix = _ours(SpanCorruption(rate=rate, mean_length=64.0, placement='t5'), 50, length)
  assert suffix[:, -noise:].all()


@pytest.mark.parametrize('placement', ['even', 't5'])
def test_a_text_with_as_little_left_as_holds_its_spans_apart(placement):
  objective = SpanCorruption(rate=0.9, mean_length=1.0, placement=placement)
  noise = _ours(objective, 200, 40)
  assert (noise.sum(axis=1) == 36).all()
  assert ((noise[:, 1:] & ~noise[:, :-1]).sum(axis=1) == 4).all()
  assert noise[:, [1, -1]].all()


def test_another_placement_is_refused():
  with pytest.raises(UserError, match=r"SpanCorruption.placement is 'roll'; choose one of even, t5"):
    SpanCorruption(placement='roll')


def test_t5_lengths():
  """Inputs of 512 are 568 tokens of text with 114 targets; 128: 141 and 29; spans of 64 at one half: 1,007 and 513."""
  for inputs, text, targets, how in ((512, 568, 114, ()), (128, 141, 29, ()), (512, 1007, 513, (0.5, 64.0))):
    assert span_corruption.text_length(inputs, *how) == text
    assert span_corruption.lengths(text, *how)[2:] == (inputs, targets)
  features = corrupt(span_corruption.SpanCorruption(), documents(50, 568))
  assert (features['decoder_segment_ids'] > 0).all()
  assert ((features['decoder_levels'] == 0).sum(axis=1) == 512).all()
  assert (features['decoder_loss_weights'].sum(axis=1) == 114).all()
  assert np.isin(features['decoder_input_tokens'], SPECIAL.sentinels).sum(axis=1).tolist() == [56] * 50


def _counted(objective: SpanCorruption, rows: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Noise of rows, what one text of their lengths has, and the most that their documents with spans can have."""
  features = corrupt(objective, rows)
  scored = features['decoder_loss_weights'] > 0
  noise = scored & ~np.isin(features['decoder_target_tokens'], [*SPECIAL.sentinels, SPECIAL.end_of_span])
  room = np.zeros(len(noise), int)
  for b, segments in enumerate(rows['segment_ids']):
    for number in range(1, segments.max() + 1):
      body = (segments == number).sum() - 1  # without its end
      mine = features['decoder_segment_ids'][b] == number
      spans = np.isin(features['decoder_input_tokens'][b][mine], SPECIAL.sentinels).sum() // 2
      room[b] += body - spans if spans else 0
  tokens = (rows['segment_ids'] > 0).sum(axis=1)
  wanted = [objective._lengths(n).noise for n in tokens]
  return noise.sum(axis=1), np.array(wanted), room


@pytest.mark.parametrize(('rate', 'mean_length'), UL2)
def test_a_row_of_documents_is_cut_as_much_as_one_text(rate, mean_length):
  """Unless the documents that have spans are too short: they keep one token a span then, and no more."""
  objective = SpanCorruption(rate=rate, mean_length=mean_length)
  for pieces in (1, 2, 3, 6):
    noise, wanted, room = _counted(objective, make_rows(np.random.default_rng(0), 300, 128, segments=pieces))
    np.testing.assert_array_equal(noise, np.minimum(wanted, room))


@pytest.mark.parametrize(('rate', 'mean_length'), UL2)
def test_three_documents_of_a_length_lose_no_noise(rate, mean_length):
  """But for half of the row in a lone span, which is longer than the document of 42 tokens that it is in."""
  rows = {name: np.repeat(value, 200, axis=0) for name, value in documents(1, 126).items()}
  rows['targets'][:, [41, 83]], rows['targets'][:, [42, 84]] = SPECIAL.eos, SPECIAL.bos
  rows['segment_ids'][:] = 1 + np.arange(126) // 42
  noise, *_ = _counted(SpanCorruption(rate=rate, mean_length=mean_length), rows)
  assert set(noise) == {40 if (rate, mean_length) == (0.5, 64.0) else {0.15: 19, 0.5: 63}[rate]}


def test_documents_are_cut_by_their_lengths():
  """A document of a third of the row has a third of the noise, on average."""
  rows = {name: np.repeat(value, 3000, axis=0) for name, value in documents(1, 128).items()}
  rows['targets'][:, [42, 43]] = SPECIAL.eos, SPECIAL.bos
  rows['segment_ids'][:, 43:] = 2
  for rate, mean_length in ((0.15, 3.0), (0.15, 64.0)):
    features = corrupt(SpanCorruption(rate=rate, mean_length=mean_length), rows)
    text = (features['decoder_loss_weights'] > 0) & SPECIAL.is_text(features['decoder_target_tokens'])
    first = (text & (features['decoder_segment_ids'] == 1)).sum(axis=1)
    assert first.mean() / 19 == pytest.approx(42 / 126, abs=0.035)
