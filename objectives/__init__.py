"""Pretraining objectives: what is corrupted, what may be seen, what is scored.

One objective is one file. `base` holds the contract; `special_tokens`, `attention`, `loss` and `scoring` its parts that
need no TensorFlow; `checks` the refusals of settings; `features`, `random` and `units` the graph functions that
objectives share. Nothing here knows of models, tasks, launch or gin.

The names below are for other people's code; each is loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from .answers_only import AnswersOnly as AnswersOnly
  from .attention import BIDIRECTIONAL as BIDIRECTIONAL
  from .attention import CAUSAL as CAUSAL
  from .attention import PREFIX as PREFIX
  from .attention import AttentionSpec as AttentionSpec
  from .attention import by_layer as by_layer
  from .base import Objective as Objective
  from .bottleneck import Bottleneck as Bottleneck
  from .bpdec import BPDec as BPDec
  from .budgeted_spans import BudgetedSpans as BudgetedSpans
  from .causal_masked import CausalMasked as CausalMasked
  from .dup_mae import DupMAE as DupMAE
  from .electra import Electra as Electra
  from .embedding import Embedding as Embedding
  from .ernie_gram import ERNIEGram as ERNIEGram
  from .fill_in_the_middle import FillInTheMiddle as FillInTheMiddle
  from .forgetful_causal import ForgetfulCausal as ForgetfulCausal
  from .guided_masking import GuidedMasking as GuidedMasking
  from .loss import LossTerm as LossTerm
  from .loss import weighted_cross_entropy as weighted_cross_entropy
  from .masked_diffusion import MaskedDiffusion as MaskedDiffusion
  from .masked_lm import MaskedLM as MaskedLM
  from .meap import MEAP as MEAP
  from .meap_fine_tuning import MEAPFineTuning as MEAPFineTuning
  from .mixture import Mixture as Mixture
  from .needs import Need as Need
  from .networks import Classes as Classes
  from .networks import Detector as Detector
  from .networks import EnhancedDecoder as EnhancedDecoder
  from .networks import ExtraLayers as ExtraLayers
  from .networks import Frozen as Frozen
  from .networks import Networks as Networks
  from .networks import Tower as Tower
  from .next_token import NextToken as NextToken
  from .noise_strategies import NoiseStrategies as NoiseStrategies
  from .pmi_masking import PMIMasking as PMIMasking
  from .prefix_lm import PrefixLM as PrefixLM
  from .preprocessor import corrupt_rows as corrupt_rows
  from .random_span import RandomSpan as RandomSpan
  from .salient_span import SalientSpan as SalientSpan
  from .salient_text_to_text import SalientTextToText as SalientTextToText
  from .schedules import LinearRate as LinearRate
  from .scorers import AnyOrder as AnyOrder
  from .scorers import FillIn as FillIn
  from .scorers import Infill as Infill
  from .scorers import LeftToRight as LeftToRight
  from .scorers import PrefixLeftToRight as PrefixLeftToRight
  from .scorers import PseudoLikelihood as PseudoLikelihood
  from .scorers import SpanInfill as SpanInfill
  from .scorers import SuffixFirst as SuffixFirst
  from .scoring import Query as Query
  from .scoring import Scorer as Scorer
  from .scoring import ScoringRow as ScoringRow
  from .scoring import Unscored as Unscored
  from .span_corruption import SpanCorruption as SpanCorruption
  from .special_tokens import SpecialTokens as SpecialTokens
  from .stages import Stages as Stages
  from .token_replacement import TokenReplacement as TokenReplacement

HOMES = {
  'Objective': 'base',
  'SpecialTokens': 'special_tokens',
  'AttentionSpec': 'attention',
  'CAUSAL': 'attention',
  'BIDIRECTIONAL': 'attention',
  'PREFIX': 'attention',
  'by_layer': 'attention',
  'LossTerm': 'loss',
  'weighted_cross_entropy': 'loss',
  'Embedding': 'embedding',
  'Scorer': 'scoring',
  'Query': 'scoring',
  'ScoringRow': 'scoring',
  'LeftToRight': 'scorers',
  'PseudoLikelihood': 'scorers',
  'AnyOrder': 'scorers',
  'FillIn': 'scorers',
  'Unscored': 'scoring',
  'Infill': 'scorers',
  'PrefixLeftToRight': 'scorers',
  'SpanInfill': 'scorers',
  'SuffixFirst': 'scorers',
  'Networks': 'networks',
  'Tower': 'networks',
  'Detector': 'networks',
  'Classes': 'networks',
  'Frozen': 'networks',
  'EnhancedDecoder': 'networks',
  'ExtraLayers': 'networks',
  'corrupt_rows': 'preprocessor',
  'Need': 'needs',
  'LinearRate': 'schedules',
  'AnswersOnly': 'answers_only',
  'NextToken': 'next_token',
  'CausalMasked': 'causal_masked',
  'MaskedLM': 'masked_lm',
  'MaskedDiffusion': 'masked_diffusion',
  'Electra': 'electra',
  'ERNIEGram': 'ernie_gram',
  'GuidedMasking': 'guided_masking',
  'DupMAE': 'dup_mae',
  'BPDec': 'bpdec',
  'RandomSpan': 'random_span',
  'PMIMasking': 'pmi_masking',
  'SalientSpan': 'salient_span',
  'SalientTextToText': 'salient_text_to_text',
  'MEAP': 'meap',
  'MEAPFineTuning': 'meap_fine_tuning',
  'ForgetfulCausal': 'forgetful_causal',
  'Bottleneck': 'bottleneck',
  'PrefixLM': 'prefix_lm',
  'FillInTheMiddle': 'fill_in_the_middle',
  'SpanCorruption': 'span_corruption',
  'BudgetedSpans': 'budgeted_spans',
  'NoiseStrategies': 'noise_strategies',
  'TokenReplacement': 'token_replacement',
  'Mixture': 'mixture',
  'Stages': 'stages',
}
"""The public names and the modules here that define them."""

__all__ = list(HOMES)  # pyrefly: ignore


def __getattr__(name: str) -> Any:
  if name not in HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'.{HOMES[name]}', __name__), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *HOMES])
