"""Realised figures that are far from what an objective was told are said in words."""

import pytest
from plain_text import source
from unmask.launch import realised
from unmask.objectives import causal_masked, masked_lm, mixture, next_token


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


def test_parts_of_a_mixture_are_counted_each_by_itself():
  parts = {'masked': masked_lm.MaskedLM(rate=0.25), 'causal': next_token.NextToken()}
  with source([f'Line {number} of a text, {number * 7919} words.' for number in range(80)], 32) as opened:
    found = realised.shares(opened, mixture.Mixture(parts=parts), 60)
    alone = realised.shares(opened, parts['masked'], 60)
  masked, causal = found['parts']['masked'], found['parts']['causal']
  assert masked['rows'] + causal['rows'] == found['rows'] == 60
  assert masked['corrupted'] == pytest.approx(0.25, abs=0.02)
  assert (causal['corrupted'], causal['supervised']) == (0, pytest.approx(0.97, abs=0.03))
  assert found['corrupted'] < 0.2
  assert 'parts' not in alone
