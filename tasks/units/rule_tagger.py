"""Salient spans by rules that need nothing but the text: dates, money and numbers by expression, names by capitals.

REALM (arXiv 2002.08909, section 3.4) and T5+SSM (arXiv 2002.08910) take named entities from a tagger trained on
CoNLL-2003 and dates from a regular expression that was not published. This is a heuristic in their place; how far it
agrees with spaCy is measured by tests/benchmarks/taggers.py.

A date is one that stands for itself: a month, a day, a year, a decade, a century, an era, a weekday. Relative dates
("last year", "two days later") are none. Money wins over dates, dates over numbers, and all of them over names, which
are sought in what is left. No span holds a line end or the end of a sentence.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from .salience import SENTENCE_EDGES, Gazetteer, Span

VERSION = 1  # of the rules; part of a corpus's fingerprint
LABELS = ('NAME', 'DATE', 'NUMBER', 'MONEY')
_S = '[ \xa0]'  # a space inside a span: no line end, no tab
_END = r'(?!\w|[.,]\d)'

_MONTH = '(?:January|February|March|April|May|June|July|August|September|October|November|December)'
_SHORT_MONTH = r'(?:(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)'
_ANY_MONTH = f'(?:{_MONTH}|{_SHORT_MONTH})'
_DAY = r'(?:\d{1,2}(?:st|nd|rd|th)?(?!\w))'
_DAYS = rf'{_DAY}(?:{_S}?[-\u2013]{_S}?{_DAY})?'
_YEAR = r'(?:(?:1\d|20)\d\d(?!\w|[.,]\d))'
_WEEKDAY = '(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?)'
_SEASON = '(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ff]all|[Ww]inter)'
_ERA = r'(?:(?:BCE?|AD|CE)\b|B\.C\.(?:E\.)?|A\.D\.|C\.E\.)'
_SPELLED_ORDINAL = (
  '(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|'
  'fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty-first)'
)
_ORDINAL = rf'(?:\d{{1,2}}(?:st|nd|rd|th)|{_SPELLED_ORDINAL})'
_AGE = '(?:century|centuries|millennium|millennia)'
_BEFORE_MAY = ('in', 'of', 'by', 'since', 'until', 'during', 'from', 'last', 'next', 'early', 'late')
_MAY = '(?:' + '|'.join(rf'(?<=\b{word} )' for word in _BEFORE_MAY) + r')May\b'  # alone it is rarely the month
_COUNTED = (
  'hundred|thousand|[mb]illion|trillion|percent|per cent|[kcm]?m|[km]?g|ft|mi|M?W|MHz|miles?|feet|foot|met(?:re|er)s?|'
  'kilomet(?:re|er)s?|years?|days?|hours?|people|men|women|troops|tons?|tonnes?|acres|species|members|islands|ships|'
  'soldiers|times|others|copies|square|degrees|volts'
)
_NO_YEAR = rf'(?!{_S}?%|[- \xa0](?:{_COUNTED})\b)'  # "1500 metres", "1200 people": a number, for what follows it
_DATE = '|'.join([
  # 5 (of) April (1990), Monday 5 April
  rf'(?:{_WEEKDAY},?{_S})?{_DAYS}{_S}(?:(?:day{_S})?of{_S})?{_ANY_MONTH}(?!\w)(?:,?{_S}{_YEAR})?',
  # April 5(, 1990)
  rf'(?:{_WEEKDAY},?{_S})?{_ANY_MONTH}{_S}{_DAYS}(?!{_S}?%|[.,]\d)(?:,?{_S}{_YEAR})?',
  # April 1990, summer of 1990
  rf'(?:{_ANY_MONTH}|{_SEASON})(?:,|{_S}of)?{_S}{_YEAR}',
  # April
  rf'(?!May\b){_MONTH}\b|{_MAY}',
  # 1990-04-05, 4/5/1990
  r'\d{4}-\d{2}-\d{2}\b|\d{1,2}/\d{1,2}/\d{2}(?:\d\d)?\b',
  # 44 BC, 500-400 BC
  rf'(?:\d{{1,3}}(?:,\d{{3}})+|\d{{1,5}})(?:{_S}?[-\u2013]{_S}?\d{{1,5}})?{_S}?{_ERA}',
  # AD 500
  rf'(?:AD\b|A\.D\.){_S}?\d{{1,4}}{_END}',
  # 19th century BC, 13th and 10th centuries
  rf'{_ORDINAL}(?:(?:[-\u2013]|,?{_S}(?:and|or|to){_S}(?:the{_S})?|,{_S}){_ORDINAL})?[- \xa0]{_AGE}\b(?:{_S}{_ERA})?',
  # 1990s, 1950s-1960s
  rf'(?:1\d|20)\d0s\b(?:{_S}?[-\u2013]{_S}?(?:1\d|20)\d0s\b)?',
  # 1990, 1914-1918, 1914-18
  rf'{_YEAR}(?:{_S}?[-\u2013/]{_S}?(?:{_YEAR}|\d\d{_END}))?{_NO_YEAR}',
  # Monday
  rf'{_WEEKDAY}\b',
])  # fmt: skip

_SCALE = rf'(?:(?:{_S}|-)(?:hundred|thousand|million|billion|trillion)\b)'
_FIGURE = r'(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?'
_UNIT = '(?:one|two|three|four|five|six|seven|eight|nine)'
_SPELLED = (
  f'(?:(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:-{_UNIT})?|ten|eleven|twelve|thirteen|fourteen|'
  rf'fifteen|sixteen|seventeen|eighteen|nineteen|{_UNIT})\b'
)
_CARDINAL = rf'{_SPELLED}(?:{_SCALE}(?:{_S}(?:and{_S})?{_SPELLED})?)*'
_AMOUNT = rf'(?:{_FIGURE}(?!\w|[.,]\d){_SCALE}*|{_CARDINAL})'
_CODE = '(?:USD|EUR|GBP|JPY|CHF|CNY|RMB|INR|AUD|CAD)'
_SYMBOL = '(?:(?:US|AU|CA|NZ|HK|[ACRS])?[$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd])'
_CURRENCY = (  # a bare "pound" or "mark" is a weight or a grade as often
  '(?:dollars?|euros?|cents?|pence|yen|yuan|renminbi|rupees?|francs?|pesos?|rou?bles?|rubles?|shillings?|guineas?|'
  f'pounds?{_S}sterling|{_CODE})'
)
_MONEY = '|'.join([
  rf'(?:{_SYMBOL}|{_CODE}\b){_S}?{_FIGURE}(?:{_SCALE}+|{_S}?(?:bn|mn|[mbkMBK])\b)?(?:{_S}{_CURRENCY}\b)?{_END}',
  rf'{_AMOUNT}{_S}(?:(?:US|U\.S\.|[A-Z][a-z]+n){_S})?{_CURRENCY}\b',
  rf'{_FIGURE}{_S}?[\u20ac\u00a3\u00a2](?!\w)',
])  # fmt: skip
_NUMBER = '|'.join([
  rf'(?:{_FIGURE}(?:{_S}?[-\u2013]{_S}?{_FIGURE})?|{_SPELLED}){_SCALE}*(?:{_S}?%|{_S}(?:percent|per{_S}cent)\b)',
  rf'{_FIGURE}(?:{_END}{_SCALE}*|(?:st|nd|rd|th){_END})',
  rf'(?!one\b(?!{_SCALE})){_CARDINAL}',
])  # fmt: skip
# How anything of the above begins: most words are refused here, before the long alternatives are tried.
_GATE = (
  r'[\d$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd]|[AEGJCRIUHNS][A-Z$\u00a3.]|Ja|Fe|Ma[ry]|Ap|Ju|Au|Se|Oc|No|De|Mo|Tu|We|Th|Fr|'
  'Sa|Su|Sp|Fa|Wi|sp|su|au|fal|wi|one|tw[eo]|thir|thre|ten|fo[ur]|fi[fvr]|s[ei][vcx]|ei|ni|el'
)
_FIGURES = re.compile(
  rf'(?<!\w)(?={_GATE})(?<!\d[.,])(?:(?P<MONEY>{_MONEY})|(?P<DATE>{_DATE})|(?P<NUMBER>(?<![A-Z]-)(?:{_NUMBER})(?!-[a-z])))'
)


def _upper_case() -> str:
  """All capital letters as the inside of a character class."""
  ranges: list[list[int]] = []
  for code in range(0x20000):
    if chr(code).isupper() and chr(code).isalpha():
      if ranges and ranges[-1][1] == code - 1:
        ranges[-1][1] = code
      else:
        ranges.append([code, code])
  return ''.join(chr(a) if a == b else f'{chr(a)}-{chr(b)}' for a, b in ranges)


_UPPER = _upper_case()
_NEVER = r"(?!(?:I|Mr|Mrs|Ms|Dr|Sir|BCE|BC|AD|CE)(?!\w)(?!['\u2019][A-Z]))"
_WORD = rf"(?:{_NEVER}(?:(?:[{_UPPER}]\.){{2,}}|(?:(?:al|el)-|[dl]['\u2019])?[{_UPPER}]\w*(?:['\u2019]\w+)*))"
_EPITHET = 'the(?= (?:Great|Elder|Younger|Bold|Fat|Conqueror|Terrible|Magnificent)\\b)'
_CONNECTOR = f'(?:(?:of|de)(?: (?:the|la|las|los))?|{_EPITHET}|la|le|van|von|der|den|du|del|di|da|al|bin|ibn|y|es|&)'
_ABBREVIATED = rf'(?:(?<=(?<!\w)[{_UPPER}]\.)|(?<=(?<!\w)(?:St|Mt|Ft)\.))'
_NAME = re.compile(
  rf"(?<!\w)(?<!\w['\u2019])({_WORD})"
  rf'(?:{_S}{_WORD}|-(?:{_WORD}|\d+(?!\w))|{_S}{_CONNECTOR}{_S}{_WORD}|\.{_ABBREVIATED}{_S}?{_WORD})*'
)
_BEGINS = re.compile(rf"(?<!\w)(?<!\w['\u2019])(?={_NEVER}(?:(?:al|el)-|[dl]['\u2019])?[{_UPPER}])")  # where _WORD fits
_FIRST = re.compile(_WORD)
_REACH = 200  # characters behind a dot that a name is read on, to know that it would go on
_AFTER_DOT = re.compile(r'\. ?(\w+)')


@dataclasses.dataclass(frozen=True)
class RuleTagger:
  """Dates, money and numbers by expression, names by capitals and the gazetteer.

  A name is a run of capitalised words, over hyphens, the dots of initials and connectors ("of", "van"). At the start of
  a sentence, where every word is capitalised, a function word does not belong to it, and a lone common word is none.
  """

  gazetteer: Gazetteer

  @property
  def labels(self) -> tuple[str, ...]:
    """'NAME', 'DATE', 'NUMBER' and 'MONEY'."""
    return LABELS

  def fingerprint(self) -> str:
    """Changes with the rules and with the gazetteer."""
    lists = json.dumps([sorted(self.gazetteer.common), sorted(self.gazetteer.function)])
    return f'rules {VERSION} {hashlib.sha1(lists.encode()).hexdigest()}'

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """The spans of each text: disjoint, in order, of labels 'NAME', 'DATE', 'NUMBER' and 'MONEY'."""
    return [self._tag(text) for text in texts]

  def _tag(self, text: str) -> list[Span]:
    spans, rest, last = [], [], 0
    for match in _FIGURES.finditer(text):
      start, end = match.span()
      spans.append(Span(start, end, str(match.lastgroup)))
      rest += [text[last:start], 'x' * (end - start)]  # names are sought in what is left
      last = end
    spans += self._names(''.join([*rest, text[last:]]))
    spans.sort()
    return spans

  def _names(self, text: str) -> Iterator[Span]:
    function, common = self.gazetteer.function, self.gazetteer.common
    dots = self._sentence_ends(text)
    dot = next(dots, len(text))
    begin = _BEGINS.search(text)
    while begin:
      start = begin.start()
      while dot < start:
        dot = next(dots, len(text))
      limit = dot + _REACH  # a run of capitals without end is not read again from each of its words
      after = _end(_FIRST, text, start, limit)
      word, starts = text[start:after].lower(), _starts_sentence(text, start)
      end = after
      if word not in function or not starts:
        end = _end(_NAME, text, start, limit)
        if dot < end - 1:
          end = dot + (text[dot - 2 : dot - 1] == '.')  # the dot of "U.S." belongs to it
      if word in function and (after == end or starts):
        end = after  # "In April", "The Nile": the name begins at the next word that has a capital
      elif end - start > 1 and not (after == end and word in common and starts):
        yield Span(start, end - 2 * text.endswith(("'s", '\u2019s'), start, end), 'NAME')
      begin = _BEGINS.search(text, end)

  def _sentence_ends(self, text: str) -> Iterator[int]:
    """Dots that a function word follows: they are no initial's ("plan B. Then Ada"), and a name stops there."""
    return (dot.start() for dot in _AFTER_DOT.finditer(text) if dot.group(1).lower() in self.gazetteer.function)


def _end(pattern: re.Pattern[str], text: str, start: int, limit: int) -> int:
  """Where the pattern, read from `start` and not beyond `limit`, ends."""
  match = pattern.match(text, start, limit)
  return match.end() if match else start + 1


def _starts_sentence(text: str, start: int) -> bool:
  """Whether nothing but a mark that may end or open a sentence comes before."""
  at = start - 1
  while at >= 0 and text[at].isspace() and text[at] != '\n':
    at -= 1
  return at < 0 or text[at] in SENTENCE_EDGES
