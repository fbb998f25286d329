"""PMI-masking: masked language modelling whose units are collocations (arXiv 2010.01825; AI21Labs/pmi-masking).

The units come with the row (`collocation_ids`): words that stand together in the corpus far more often than their parts
predict (PMI_n, equation 3 of the paper) form one unit, every other word is a unit of its own. Units are taken at
random until 15% of the tokens are chosen, and 80% [MASK] / 10% random / 10% kept is drawn once per unit. A unit that
would exceed the budget is skipped, as in BERT's whole-word masking; the paper does not settle this.
"""

import dataclasses
from typing import Literal

from . import masked_lm


@dataclasses.dataclass(frozen=True, kw_only=True)
class PMIMasking(masked_lm.MaskedLM):
  """`MaskedLM` over collocations, with one draw per unit; the attributes are `MaskedLM`'s."""

  unit: Literal['token', 'word', 'collocation', 'salient'] = 'collocation'
  draw: Literal['token', 'unit'] = 'unit'
