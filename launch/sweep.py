"""`unmask sweep`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> int:
  parser = flags.parser('sweep', 'Train and judge many cells, then write a report. Finished cells are not run again.')
  parser.add_argument('--dry_run', action='store_true', help='only print the cells')
  options = flags.parse(parser, argv)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/sweeps/core.gin.')
  from . import config, sweeping

  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  return 1 if config.call(sweeping.sweep, dry_run=options.dry_run) else 0


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
