"""A hundred seeded mistakes: each is taken, or refused by one sentence and status 2; none leaves anything behind."""

import fuzzing


def test_a_hundred_mistakes(tmp_path):
  said: list[str] = []
  counts = fuzzing.run_all(tmp_path / 'fuzz', seed=1, numbers=range(100), say=said.append)
  assert sum(counts.values()) == 100
  for kind in ('gin', 'flags', 'corpus'):
    assert counts[f'{kind} taken'], 'no mistake was a small one'
    assert counts[f'{kind} refused']
