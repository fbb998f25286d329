"""`unmask export`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('export', 'Write a trained model as a folder that Hugging Face transformers loads.')
  parser.add_argument('--to', choices=('hf',), required=True, help='the form: hf, for transformers')
  parser.add_argument('--model_dir', required=True, metavar='DIR', help='a trained model')
  parser.add_argument('--out', required=True, metavar='DIR', help='the folder to make')
  parser.add_argument('--step', type=int, metavar='N', help='the checkpoint of this update, not the newest')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), help='of the weights (default as they were trained)')
  parser.add_argument('--max_shard_size', default='5GB', metavar='SIZE', help='of a file of weights (default 5GB)')
  options = flags.parse(parser, argv)
  saved = flags.saved_config(options.model_dir)
  with flags.quiet():
    from . import config, start
    from .exporting import hugging_face

    start.libraries()
  bindings = [*options.gin_bindings, f'MODEL_DIR = {options.model_dir!r}']
  config.load(['gin/runs/export.gin', *options.gin_file], bindings, options.gin_search_paths, saved)
  names = ('out', 'step', 'dtype', 'max_shard_size')
  print(config.call(hugging_face.export, **{name: getattr(options, name) for name in names}))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
