"""`unmask lexicon build` and `unmask lexicon show`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags

_USAGE = """usage: unmask lexicon build [flags] [-- Apache Beam's flags]
       unmask lexicon show --file=FILE [--top=50]

  build  count a corpus and write its collocations, as PMI-masking needs them
  show   print the best entries of each length

unmask lexicon build --help and unmask lexicon show --help list the flags."""


def _main(argv: Sequence[str]) -> None:
  commands = {'build': _build, 'show': _show}
  if argv and argv[0] in commands:
    commands[argv[0]](argv[1:])
  elif argv and argv[0] in ('-h', '--help'):
    print(_USAGE)
  else:
    raise flags.UserError('Say unmask lexicon build or unmask lexicon show; unmask lexicon --help tells more.')


def _build(argv: Sequence[str]) -> None:
  parser = flags.parser('lexicon build', 'Count the training documents of a task and write their collocations.')
  parser.add_argument('--output', help='the file to write (default DATA_DIR/lexicon-TASK-MEASURE.tsv)')
  flags.add_engine(parser)
  parser.add_argument('--memory', type=int, metavar='MIB', help='what the local engine may use (2048)')
  parser.add_argument('--scratch_dir', help="where the local engine spills (default the system's temporary folder)")
  options, beam_flags = flags.parse_with_beam(parser, argv)
  for flag in ('memory', 'scratch_dir'):
    if options.engine == 'beam' and getattr(options, flag) is not None:
      raise flags.UserError(f'--{flag} is of the local engine; Apache Beam has flags of its own, behind --.')
  with flags.quiet():
    from . import config, lexicons, start

    start.libraries()
  config.load(['gin/runs/lexicon.gin', *options.gin_file], options.gin_bindings, options.gin_search_paths)
  config.call(
    lexicons.build,
    output=options.output,
    engine=options.engine,
    memory_limit=(2048 if options.memory is None else options.memory) << 20,
    scratch_dir=options.scratch_dir,
    beam_flags=beam_flags,
  )


def _show(argv: Sequence[str]) -> None:
  parser = flags.Parser(
    prog='unmask lexicon show', description='Print the best entries of each length.', allow_abbrev=False
  )
  parser.add_argument('--file', required=True, help='a file that unmask lexicon build wrote')
  parser.add_argument('--top', type=int, default=50, help='how many of each length (default 50)')
  options = parser.parse_args(argv)
  if options.top < 1:
    raise flags.UserError('--top is 1 or more.')
  from . import lexicons

  lexicons.show(options.file, options.top)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
