"""`unmask prepare`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    'prepare',
    'Make a task\'s vocabulary, units and cache, unless they are there. Apache Beam\'s flags stand behind "--".',
  )
  flags.add_engine(parser)
  options, beam_flags = flags.parse_with_beam(parser, argv)
  with flags.quiet():
    from . import config, preparing, start

    start.libraries()
  config.load(['gin/runs/prepare.gin', *options.gin_file], options.gin_bindings, options.gin_search_paths)
  config.call(preparing.prepare, engine=options.engine, beam_flags=beam_flags)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
