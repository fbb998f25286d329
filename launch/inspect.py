"""`unmask inspect`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    'inspect', 'Show a real example under an objective, and the realised shares over a thousand rows.'
  )
  parser.add_argument('--row', type=int, default=0, help='which row that holds an example (default 0)')
  parser.add_argument('--rows', type=int, default=1000, help='how many rows to count (default 1000; 0: none)')
  parser.add_argument('--svg', metavar='FILE', help='also draw what is printed into an SVG file')
  options = flags.parse(parser, argv)
  if options.row < 0 or options.rows < 0:
    raise flags.UserError('--row and --rows are 0 or more.')
  if options.svg:
    flags.require_folder('--svg', options.svg)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/objectives/NAME.gin.')
  with flags.quiet():
    from . import config, inspection, start

    start.libraries()
  config.load(['gin/runs/inspect.gin', *options.gin_file], options.gin_bindings, options.gin_search_paths)
  config.call(inspection.inspect, row=options.row, num_rows=options.rows, svg=options.svg)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
