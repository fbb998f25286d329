"""Realised figures that are far from what an objective was told are said in words."""

from unmask.launch import realised
from unmask.objectives import causal_masked, masked_lm


def test_far_figures_are_named_and_near_ones_are_not():
  objective = causal_masked.CausalMasked(spans_per_row=8)
  assert realised.surprises({'untouched': 0.015, 'corrupted': 0.4}, objective) == []
  (line,) = realised.surprises({'untouched': 0.577}, objective)
  assert 'untouched is 0.577' in line
  assert 'CausalMasked' in line
  assert 'configured 0.000' in line
  shares = {'corrupted': 0.12, 'supervised': 0.149, 'masked': 0.85, 'randomised': 0.09, 'kept': 0.1}
  (line,) = realised.surprises(shares, masked_lm.MaskedLM())
  assert 'corrupted is 0.120' in line
