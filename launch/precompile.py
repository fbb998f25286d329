"""`unmask precompile`: flags and a call."""

import os
import sys
from collections.abc import Sequence

from . import flags

# Before JAX is imported: it computes on this machine's CPU, and libtpu compiles without a TPU and without asking the
# cloud's metadata server which one it runs on. The last two keep libtpu from complaining of that.
ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
}


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    'precompile', 'Compile the very step that train runs for TPU slices nobody holds, and study it.'
  )
  add = parser.add_argument
  add('--topology', action='append', metavar='KIND:AxB', help='v5e:4x4, v5p:4x4x4, 2xv5e:4x4 (two slices); repeatable')
  add('--mesh', metavar='AXIS=N,...', help='in place of the mesh that the gin files bind: fsdp=8,tensor=2')
  add('--json', default='precompile.json', metavar='PATH', help='where all figures are written (precompile.json)')
  add(
    '--markdown',
    nargs='?',
    const='table',
    choices=('table', 'rows'),
    help='print a line a topology of a Markdown table, without its head if "rows"',
  )
  add('--search', action='store_true', help='try batches, remat policies, meshes and compiler flags; one topology')
  add('--search_batches', metavar='N,...', help='of --search: in place of one, two and four times BATCH_SIZE')
  add('--search_remat', metavar='POLICY,...', help='of --search: in place of all policies')
  add('--search_mesh', action='append', metavar='AXIS=N,...', help='of --search: a mesh to try; repeatable')
  add('--write', metavar='PATH', help="of --search: the winner's gin file (precompiled.gin)")
  options = flags.parse(parser, argv)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/runs/pretrain.gin and --gin_file=gin/objectives/NAME.gin.')
  for flag in ('search_batches', 'search_remat', 'search_mesh', 'write'):
    if getattr(options, flag) is not None and not options.search:
      raise flags.UserError(f'--{flag} is of --search: add that, or leave it out.')
  if options.search and options.markdown:
    raise flags.UserError('--markdown is not for --search, which prints a table of its own: leave one of them out.')
  if not options.topology:
    raise flags.UserError('Give --topology=KIND:AxB, such as --topology=v5e:4x4 or --topology=v5p:4x4x4.')
  os.environ.update(ENVIRONMENT)
  with flags.quiet():
    from . import config, precompiling, start

    start.libraries()
  # train's bindings alone are read; it is not run, so it needs no folder.
  config.load(options.gin_file, ["MODEL_DIR = ''", *options.gin_bindings], options.gin_search_paths)
  precompiling.precompile(options)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
