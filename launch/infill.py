"""`unmask infill`: flags and a call."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('infill', 'Fill the [MASK] in a text with ranked completions.')
  parser.add_argument('--model_dir', required=True, metavar='DIR', help='a trained model')
  parser.add_argument('--text', required=True, help='a text with one [MASK]')
  options = flags.parse(parser, argv)
  if '[MASK]' not in options.text:
    raise flags.UserError('--text must hold one [MASK], where the completion goes.')
  saved = flags.saved_config(options.model_dir)
  with flags.quiet():
    from . import config, infilling, start

    start.libraries()
  files = options.gin_file or ['gin/runs/infill.gin']
  bindings = [*options.gin_bindings, f'MODEL_DIR = {options.model_dir!r}', f'TEXT = {options.text!r}']
  config.load(files, bindings, options.gin_search_paths, saved)
  for rank, completion in enumerate(config.call(infilling.infill), 1):
    print(f'{rank:2}  {completion.score:8.3f}  {options.text.replace("[MASK]", f"[{completion.text}]")}')


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
