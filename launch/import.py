"""`unmask import`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.Parser(
    prog='unmask import',
    description="Write a gin file by which `unmask train` begins with a Llama's weights.",
    allow_abbrev=False,
  )
  parser.add_argument('--from', choices=('hf',), required=True, dest='form', help='the form: hf, of transformers')
  parser.add_argument('--dir', required=True, help='a folder with config.json and safetensors')
  parser.add_argument('--vocabulary', metavar='FILE', help='its vocabulary with reserved ids (unmask convert-vocab)')
  parser.add_argument('--write', required=True, metavar='FILE', help='the gin file to write')
  options = parser.parse_args(argv)
  with flags.quiet():
    from .exporting import importing
  print(importing.write_gin(options.dir, options.vocabulary, options.write))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
