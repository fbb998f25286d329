"""`unmask probe`: flags and a call a model."""

import sys
from collections.abc import Sequence

from . import flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('probe', 'Fine-tune trained models on small tasks: a classification and a span extraction.')
  parser.add_argument(
    '--model_dir', action='append', required=True, metavar='DIR', help='a trained model; may be repeated'
  )
  options = flags.parse(parser, argv)
  saved = [flags.saved_config(model_dir) for model_dir in options.model_dir]
  with flags.quiet():
    from . import config, start
    from .probing import probe

    start.libraries()
  for model_dir, path in zip(options.model_dir, saved, strict=True):
    files = options.gin_file or ['gin/runs/probe.gin']
    config.load(files, [*options.gin_bindings, f'MODEL_DIR = {model_dir!r}'], options.gin_search_paths, path)
    for name, entry in config.call(probe.probe).items():
      print(f'{model_dir.rstrip("/")}, checkpoint {entry["checkpoint"]}, {name}: {entry["title"]}')
      figure, baseline = entry['primary']['figure'], entry['primary']
      print(f'  {"baseline":24} {figure} {baseline["baseline"]:6.1%}  ({baseline["baseline_is"]})')
      rows = entry['groups']['attention'] | {
        label: figures for label, figures in entry['groups']['start'].items() if label != 'pretrained'
      }
      for label, figures in rows.items():
        print(
          f'  {label:24} {figure} {figures[figure]:6.1%} +- {figures[f"{figure}_se"]:.1%}'
          f'  learning rate {figures["learning_rate"]:g}'
        )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
