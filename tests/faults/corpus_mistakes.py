"""Mistakes in corpora: what may stand in a text file, or in a file of JSON lines, and be no text."""

import json
import random

_ODD_LINES = (
  '{"text": null}',
  '{"text": 5}',
  '{"txt": "a"}',
  '[]',
  '"text"',
  'null',
  '{"text": "a", "id": [1]}',
  '{"text": ""}',
  '{"text": NaN}',
  '[' * 5000,
  '1' * 5000,
  '{"text": "a"',
  '{"text": "a"}{"text": "b"}',
  '{"text": "a", "id": "\\ud800"}',
  '{"text": "\\u0000"}',
)


def good_text(count: int = 60) -> list[str]:
  """Documents enough for both splits and a vocabulary of 350 ids."""
  rng = random.Random(5)
  words = [
    'the',
    'river',
    'Anna',
    'walked',
    'in',
    'April',
    'and',
    'saw',
    'London',
    'town',
    'a',
    'bridge',
    'of',
    'stone',
  ]
  return [f'{" ".join(rng.choices(words, k=40))}. Number {i}.' for i in range(count)]


def _noise(rng: random.Random, suffix: str) -> bytes:
  return rng.randbytes(rng.choice((1, 50, 5000)))


def _nothing(rng: random.Random, suffix: str) -> bytes:
  return rng.choice((b'', b'\n', b' \t\r\n', b'\xef\xbb\xbf', b'\x00'))


def _folder_instead(rng: random.Random, suffix: str) -> None:
  return None


def _giant(rng: random.Random, suffix: str) -> bytes:
  unit = rng.choice(('word ', 'a', '漢字', 'A.', '1,', 'two hundred ', '🙂'))
  return _as(unit * (2_000_000 // len(unit.encode())), suffix).encode()


def _controls(rng: random.Random, suffix: str) -> bytes:
  return _as(''.join(chr(rng.randrange(32)) + 'word ' * rng.choice((1, 40)) for _ in range(40)), suffix).encode()


def _unicode(rng: random.Random, suffix: str) -> bytes:
  def letter() -> str:
    code = rng.choice((rng.randrange(0x20, 0x300), rng.randrange(0x20, 0xD800), rng.randrange(0xE000, 0x110000)))
    return chr(code)

  return _as(''.join(letter() for _ in range(3000)), suffix).encode()


def _surrogates(rng: random.Random, suffix: str) -> bytes:
  if suffix == 'jsonl':
    return b'{"text": "half \\ud800 of a letter"}\n'
  return 'half \ud800 of a letter'.encode('utf-8', 'surrogatepass')


def _encoded(rng: random.Random, suffix: str) -> bytes:
  return _as('A plain line of text.\n' * 30, suffix).encode(
    rng.choice(('utf-16', 'utf-32', 'utf-8-sig', 'utf-7', 'utf-16-le'))
  )


def _line_ends(rng: random.Random, suffix: str) -> bytes:
  ends = ('\n', '\r\n', '\r', '\x0b', '\x0c', '\x85', '\u2028', '\u2029')
  return _as(''.join(f'Line {i} of a text.{rng.choice(ends)}' for i in range(60)), suffix).encode()


def _spoilt_good(rng: random.Random, suffix: str) -> bytes:
  data = bytearray(_as('\n'.join(good_text(20)), suffix).encode())
  for _ in range(rng.choice((1, 3, 30))):
    data[rng.randrange(len(data))] = rng.randrange(256)
  return bytes(data)


def _odd_json(rng: random.Random, suffix: str) -> bytes:
  return '\n'.join(rng.choices(_ODD_LINES, k=rng.choice((1, 3)))).encode()


def _as(text: str, suffix: str) -> str:
  return json.dumps({'text': text}) + '\n' if suffix == 'jsonl' else text


MAKERS = (
  _noise,
  _nothing,
  _folder_instead,
  _giant,
  _controls,
  _unicode,
  _surrogates,
  _encoded,
  _line_ends,
  _spoilt_good,
  _odd_json,
)
