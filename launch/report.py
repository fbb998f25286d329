"""`unmask report`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='unmask report', description='Compare judged models on one page.', allow_abbrev=False)
  parser.add_argument('--model_dir', action='append', required=True, metavar='DIR', help='a judged model; repeat it')
  parser.add_argument('--out', default='.', metavar='DIR', help='where report.html and report.md go (default: here)')
  options = parser.parse_args(argv)
  from . import reporting

  reporting.report(options.model_dir, options.out)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
