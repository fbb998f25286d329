"""The collocation lexicon of PMI-masking (arXiv 2010.01825): what is asked for, and the file that holds it.

A lexicon file is UTF-8 text:

    unmask lexicon 1                           what it is, and the version of this format
    {"corpus": ..., "sha256": ..., ...}        one JSON object, the fields of `Lexicon` but its entries
    new york<TAB>1034<TAB>6.104212             words, occurrences, score; best first within each length

It is written whole or not at all. `sha256` is that of the rest of the object and all lines after it, so that a file
that was cut or edited is known.
"""

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from typing import NamedTuple

from ... import UserError

SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}  # of the entries, by length; section 3 of the paper
LENGTHS = tuple(SHARES)
LONGEST = max(LENGTHS)
MEASURES = ('pmi', 'pmi_squared', 'naive_pmi', 'frequency')
WORDS_VERSION = 1  # of words.split and words.normalise; raise it when they change what a word is
_FORMAT = 1
_MAGIC = 'unmask lexicon '

Ngram = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Which n-grams a lexicon takes. With p(n-gram) = count / number of n-grams of its length in the corpus,

      pmi          min over segmentations of log [ p(w1..wn)   / prod p(part) ]     (equation 3 of the paper)
      pmi_squared  min over segmentations of log [ p(w1..wn)^2 / prod p(part) ]     (the lists released with it)
      naive_pmi    log [ p(w1..wn) / prod p(wi) ]                                   (a baseline of the paper)
      frequency    count                                                            (a baseline of the paper)

  where a segmentation is any division into two or more contiguous parts.

  Attributes:
    measure: one of the above. 'pmi' takes positive scores only: what its parts predict is no collocation, however
      short the list of its length is.
    min_count: n-grams seen this often or less are left out; 10 in the paper.
    size: entries to take, fewer where the corpus has fewer; 800,000 in the paper. None lets `coverage` decide.
    coverage: without a size, the lexicon is the smallest that covers this share of the corpus's words; the paper's
      covers about half of its corpus.
    shares: of the size, for n = 2, 3, 4, 5.
  """

  measure: str = 'pmi'
  min_count: int = 10
  size: int | None = None
  coverage: float = 0.5
  shares: tuple[float, ...] = tuple(SHARES.values())

  def __post_init__(self):
    if self.measure not in MEASURES:
      raise UserError(f'lexicon.Settings.measure is {self.measure!r}; it is one of {", ".join(MEASURES)}.')
    if self.min_count < 0:
      raise UserError(f'lexicon.Settings.min_count is {self.min_count}; it is 0 or more.')
    if self.size is not None and self.size < 0:
      raise UserError(f'lexicon.Settings.size is {self.size}; it is 0 or more, or None to choose by coverage.')
    if not 0 <= self.coverage <= 1:
      raise UserError(f'lexicon.Settings.coverage is {self.coverage}; it is a share of the words, 0 to 1.')
    if len(self.shares) != len(LENGTHS) or min(self.shares) <= 0 or sum(self.shares) > 1 + 1e-9:
      raise UserError(f'lexicon.Settings.shares is {self.shares}; it is four shares above 0, for 2 to 5 words.')

  def described(self) -> dict:
    """What matters of the settings, as JSON holds it: a size makes the coverage one finds, not one asks for."""
    kept = dataclasses.asdict(self) | {'shares': list(self.shares)}
    del kept['size' if self.size is None else 'coverage']
    return kept


class Entry(NamedTuple):
  """An n-gram with its number of occurrences and its score, in nats but for 'frequency'."""

  ngram: Ngram
  count: int
  score: float


@dataclasses.dataclass(frozen=True)
class Lexicon:
  """Collocations, best first within each length.

  Attributes:
    entries: all of them, by length.
    coverage: share of the corpus's words that lie in an occurrence of an entry.
    corpus: fingerprint of the documents that were counted.
    settings: `Settings.described`.
    size: the entries asked for, or that the coverage needed; by length, the shares of this.
    totals: n-grams in the corpus, n = 1..5, frequent or not; the first is its number of words.
    frequent: n-grams above `min_count`, n = 1..5.
    words_version: of the rules by which words were split.
  """

  entries: tuple[Entry, ...]
  coverage: float
  corpus: str = ''
  settings: dict = dataclasses.field(default_factory=dict)
  size: int = 0
  totals: tuple[int, ...] = (0,) * LONGEST
  frequent: tuple[int, ...] = (0,) * LONGEST
  words_version: int = WORDS_VERSION

  def of_length(self, n: int) -> list[Entry]:
    """The entries of n words, best first."""
    return [entry for entry in self.entries if len(entry.ngram) == n]

  def require(self, corpus: str, path: str) -> None:
    """Raises UserError naming both if the lexicon in `path` was not counted on `corpus`."""
    if self.corpus != corpus:
      raise UserError(
        f'The lexicon {path} was counted on the corpus {self.corpus!r}, not on this one, {corpus!r}; build it again '
        'with `unmask lexicon build`, or say lexicon_of_other_corpus=True if that is meant.'
      )

  def save(self, path: str) -> None:
    """Writes the file, whole or not at all; UserError where it cannot be written."""
    lines = [f'{" ".join(entry.ngram)}\t{entry.count}\t{entry.score:.6f}\n' for entry in self.entries]
    body = ''.join(lines).encode()
    header = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != 'entries'}
    header['entries'] = len(lines)
    header['sha256'] = _digest(header, body)
    head = f'{_MAGIC}{_FORMAT}\n{json.dumps(header, sort_keys=True)}\n'.encode()
    folder = os.path.dirname(os.path.abspath(path))
    scratch = None
    try:
      os.makedirs(folder, exist_ok=True)
      with tempfile.NamedTemporaryFile(dir=folder, prefix=f'.{os.path.basename(path)}-', delete=False) as file:
        scratch = file.name
        file.write(head + body)
      umask = os.umask(0)
      os.umask(umask)
      os.chmod(scratch, 0o666 & ~umask)  # readable as the user's other files are
      os.replace(scratch, path)
    except OSError as error:
      if scratch is not None and os.path.exists(scratch):
        os.remove(scratch)
      raise UserError(f'Cannot write the lexicon {path}: {error.strerror}.') from error

  @classmethod
  def load(cls, path: str) -> 'Lexicon':
    """Reads what `save` wrote.

    Raises:
      UserError: there is no such file, or it is none of ours, of another version, cut short or otherwise damaged.
    """
    try:
      with open(path, 'rb') as file:
        first, second, body = file.readline(200), file.readline(), file.read()
    except OSError as error:
      raise UserError(f'Cannot read the lexicon {path}: {error.strerror}.') from error
    if not first.startswith(_MAGIC.encode()):
      raise UserError(f'{path} is no lexicon file; make one with `unmask lexicon build`.')
    if first.rstrip(b'\n') != f'{_MAGIC}{_FORMAT}'.encode():
      found = first[len(_MAGIC) :].decode('utf-8', 'replace').strip()
      raise UserError(f'The lexicon {path} has format {found}, this program reads {_FORMAT}; build it again.')
    try:
      header = json.loads(second)
      held = body.count(b'\n')
      if held != header['entries']:
        raise ValueError(f'it should hold {header["entries"]} entries and holds {held}')
      if header.pop('sha256') != _digest(header, body):
        raise ValueError('it is not what was written')
      lexicon = cls(_entries(body), **_typed(header))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(f'The lexicon {path} is damaged ({error}); build it again.') from error
    if lexicon.words_version != WORDS_VERSION:
      raise UserError(
        f'The lexicon {path} was counted with version {lexicon.words_version} of the rules that split words, this '
        f'program has version {WORDS_VERSION}; build it again.'
      )
    return lexicon


def _digest(header: dict, body: bytes) -> str:
  return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + body).hexdigest()


def _entries(body: bytes) -> tuple[Entry, ...]:
  entries = []
  for line in body.decode().split('\n')[:-1]:
    ngram, count, score = line.split('\t')
    entries.append(Entry(tuple(map(sys.intern, ngram.split(' '))), int(count), float(score)))
  return tuple(entries)


def _typed(header: dict) -> dict:
  """The header's fields as `Lexicon` takes them."""
  fields = {name: value for name, value in header.items() if name != 'entries'}
  return fields | {'totals': tuple(header['totals']), 'frequent': tuple(header['frequent'])}
