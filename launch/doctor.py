"""`unmask doctor`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> int:
  parser = flags.Parser(
    prog='unmask doctor',
    description='Look at versions, devices, paths and optional parts; say what is missing and what mends it.',
    allow_abbrev=False,
  )
  parser.add_argument('--data_dir', default='data', metavar='DIR', help='where corpora are to lie (data)')
  parser.add_argument('--runs_dir', default='runs', metavar='DIR', help='where runs are to lie (runs)')
  options = parser.parse_args(argv)
  with flags.quiet():
    from . import checkup

    found = checkup.examine(options.data_dir, options.runs_dir)
  return checkup.show(found)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status: 0, or 2 if something that is needed is broken."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
