"""`unmask job`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags, sweep


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('job', "Write a scheduler's file that runs `unmask train` with these gin flags.")
  sweep.add_engines(parser)
  parser.add_argument('--name', metavar='NAME', help='of the run there (default: the last part of MODEL_DIR)')
  options = flags.parse(parser, argv)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/runs/pretrain.gin and --gin_file=gin/objectives/NAME.gin.')
  with flags.quiet():
    from . import jobs

  jobs.write(sweep.engine(options), options)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
