"""`unmask evaluate`: flags and a call a model."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('evaluate', 'Ask trained models the same held-out questions, each through its own scorer.')
  parser.add_argument(
    '--model_dir', action='append', required=True, metavar='DIR', help='a trained model; may be repeated'
  )
  options = flags.parse(parser, argv)
  saved = [flags.saved_config(model_dir) for model_dir in options.model_dir]
  with flags.quiet():
    from . import config, judge, start

    start.libraries()
  for model_dir, path in zip(options.model_dir, saved, strict=True):
    files = options.gin_file or ['gin/runs/evaluate.gin']
    config.load(files, [*options.gin_bindings, f'MODEL_DIR = {model_dir!r}'], options.gin_search_paths, path)
    result = config.call(judge.evaluate)
    print(f'{model_dir.rstrip("/")}, checkpoint {result["checkpoint"]}, sees {result["sees"]}')
    for name, test in result['tests'].items():
      print(
        f'  {name:14} loss {test["loss"]:.3f} +- {test["loss_se"]:.3f} nats/token (unigram {test["unigram_loss"]:.3f})'
        f'  exact {test["exact"]:6.1%}  tokens {test["token_top1"]:6.1%}'
      )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
