"""`unmask replay`: flags and a call."""

import sys
from collections.abc import Sequence

from . import distributed, flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('replay', 'Run one update of a run again and look into it; nothing of the run is changed.')
  parser.add_argument('--model_dir', required=True, metavar='DIR', help='the run')
  parser.add_argument('--step', required=True, type=int, metavar='N', help='the update, from 1')
  parser.add_argument('--rows', default=2, type=int, metavar='K', help='how many rows of the batch are shown (2)')
  options = flags.parse(parser, argv)
  saved = flags.saved_config(options.model_dir)
  with flags.quiet():
    from . import config, replaying, start

    start.libraries()
  config.load(
    options.gin_file, [*options.gin_bindings, f'MODEL_DIR = {options.model_dir!r}'], options.gin_search_paths, saved
  )
  with distributed.together():
    replaying.replay(options.model_dir, options.step, options.rows)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return distributed.leave(flags.run(_main, argv))


if __name__ == '__main__':
  sys.exit(main())
