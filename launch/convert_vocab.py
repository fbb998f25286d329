"""`unmask convert-vocab`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.Parser(
    prog='unmask convert-vocab',
    description="Give somebody else's vocabulary the reserved ids that objectives need.",
    allow_abbrev=False,
  )
  parser.add_argument('--vocabulary', required=True, metavar='FILE', help='a SentencePiece model or a tokenizer.json')
  parser.add_argument('--out', required=True, metavar='FILE', help='the file to write, of the same kind')
  parser.add_argument('--append', action='store_true', help='add new ids where there are none to spare')
  options = parser.parse_args(argv)
  with flags.quiet():
    from .exporting import importing
  print(importing.convert_vocabulary(options.vocabulary, options.out, options.append))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
