"""PMI-masking: masked language modelling whose units are collocations (arXiv 2010.01825; AI21Labs/pmi-masking).

The entries come with the row (`collocation_lengths`): words that stand together in the corpus far more often than their
parts predict (PMI_n, equation 3 of the paper). Of entries that overlap in part one is taken at random, anew in each
epoch; every other word is a unit of its own. Units are taken at random until 15% of the tokens are chosen, and 80%
[MASK] / 10% random / 10% kept is drawn once per unit. The paper does not say what becomes of the unit that would exceed
the budget: here every unit has the same chance (`units.select_units`), because skipping it, as BERT's code does with
words, masks long collocations three times less often than words in rows of 128 tokens (docs/log.md).
"""

import dataclasses
from typing import Literal

from . import masked_lm


@dataclasses.dataclass(frozen=True, kw_only=True)
class PMIMasking(masked_lm.MaskedLM):
  """`MaskedLM` over collocations, with one draw per unit; the attributes are `MaskedLM`'s."""

  unit: Literal['token', 'word', 'collocation', 'salient'] = 'collocation'
  draw: Literal['token', 'unit'] = 'unit'
  last_unit: Literal['skip', 'chance'] = 'chance'
