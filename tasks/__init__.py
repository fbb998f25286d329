"""From text to sharded batches: corpora, vocabularies, units, seqio tasks, rows. Uses objectives; knows nothing of
launch.

The names below are for other people's code; each is loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from .answers import to_answer_rows as to_answer_rows
  from .convert import ObjectiveConverter as ObjectiveConverter
  from .corpora import Corpus as Corpus
  from .corpora import Document as Document
  from .corpora import LocalText as LocalText
  from .corpora import SeqioText as SeqioText
  from .corpora import TfdsText as TfdsText
  from .pipeline import Pipeline as Pipeline
  from .prepared import PreparedTask as PreparedTask
  from .prompts.prompt import Prompt as Prompt
  from .prompts.registering import register_prompts as register_prompts
  from .registration import output_features as output_features
  from .registration import register as register
  from .registration import register_mixture as register_mixture
  from .rows import to_rows as to_rows
  from .text_task import TextTask as TextTask
  from .vocabularies import byte_vocabulary as byte_vocabulary
  from .vocabularies import sentencepiece_vocabulary as sentencepiece_vocabulary
  from .vocabularies import special_tokens as special_tokens

HOMES = {
  'register': 'registration',
  'register_mixture': 'registration',
  'register_prompts': 'prompts.registering',
  'Prompt': 'prompts.prompt',
  'output_features': 'registration',
  'to_rows': 'rows',
  'to_answer_rows': 'answers',
  'ObjectiveConverter': 'convert',
  'TextTask': 'text_task',
  'PreparedTask': 'prepared',
  'Corpus': 'corpora',
  'Document': 'corpora',
  'LocalText': 'corpora',
  'TfdsText': 'corpora',
  'SeqioText': 'corpora',
  'Pipeline': 'pipeline',
  'byte_vocabulary': 'vocabularies',
  'sentencepiece_vocabulary': 'vocabularies',
  'special_tokens': 'vocabularies',
}
"""The public names and the modules here that define them."""

__all__ = list(HOMES)  # pyrefly: ignore


def __getattr__(name: str) -> Any:
  if name not in HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'.{HOMES[name]}', __name__), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *HOMES])
