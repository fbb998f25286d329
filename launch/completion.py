"""`unmask completion`: what a shell needs to complete commands, flags, gin files and gin's macros; by argcomplete.

eval "$(unmask completion bash)"        # or zsh; in fish: unmask completion fish | source
"""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.Parser(
    prog='unmask completion',
    description='Print what a shell needs to complete unmask.',
    epilog='bash and zsh: eval "$(unmask completion bash)"; fish: unmask completion fish | source',
  )
  parser.add_argument('shell', choices=('bash', 'zsh', 'fish'))
  options = parser.parse_args(argv)
  import argcomplete

  print(argcomplete.shellcode(['unmask'], shell=options.shell))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
