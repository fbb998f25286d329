"""`unmask report`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='unmask report', description='Compare judged models on one page.', allow_abbrev=False)
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument('--model_dir', action='append', metavar='DIR', help='a judged model; repeat it')
  what.add_argument('--sweep_dir', metavar='DIR', help='all judged models of a sweep')
  parser.add_argument('--out', metavar='DIR', help='where report.html goes (default: the sweep_dir, or here)')
  options = parser.parse_args(argv)
  from . import reporting

  dirs, missing = reporting.sweep_cells(options.sweep_dir) if options.sweep_dir else (options.model_dir, [])
  reporting.report(dirs, options.out or options.sweep_dir or '.', missing)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
