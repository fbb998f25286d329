"""`unmask train`: flags and a call."""

import sys
from collections.abc import Sequence

from . import distributed, flags, startup


def _main(argv: Sequence[str]) -> None:
  began = startup.Startup(startup.process_age())
  options = flags.parse(flags.parser('train', 'Pretrain a decoder under one objective.'), argv)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/runs/pretrain.gin and --gin_file=gin/objectives/NAME.gin.')
  with flags.quiet():
    from . import config, loop, start

    start.libraries()

  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  with distributed.together():
    config.call(loop.train, began=began)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return distributed.leave(flags.run(_main, argv))


if __name__ == '__main__':
  sys.exit(main())
