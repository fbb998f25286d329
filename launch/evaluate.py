"""`unmask evaluate`: flags and a call a model."""

import sys
from collections.abc import Sequence

from . import distributed, flags


def _main(argv: Sequence[str]) -> None:
  parser = flags.parser('evaluate', 'Ask trained models the same questions, each through its own scorer.')
  parser.add_argument(
    '--model_dir', action='append', required=True, metavar='DIR', help='a trained model; may be repeated'
  )
  parser.add_argument('--step', type=int, metavar='N', help='judge the checkpoint of this update, not the newest')
  options = flags.parse(parser, argv)
  saved = [flags.saved_config(model_dir) for model_dir in options.model_dir]
  with flags.quiet():
    from . import config, start
    from .judging import judge, table

    start.libraries()
  failed, told = [], set()
  with distributed.together():
    for model_dir, path in zip(options.model_dir, saved, strict=True):
      files = ['gin/runs/evaluate.gin', *options.gin_file]
      config.load(files, [*options.gin_bindings, f'MODEL_DIR = {model_dir!r}'], options.gin_search_paths, path)
      try:
        result = config.call(judge.evaluate, step=options.step, say=lambda line: table.say_once(line, told))
      except flags.UserError as error:
        if len(options.model_dir) == 1:
          raise
        failed.append(f'{model_dir}: {error}')
        print(f'unmask: {failed[-1]}', file=sys.stderr, flush=True)
        continue
      table.show(model_dir, result)
  if failed:
    raise flags.UserError(f'{len(failed)} of {len(saved)} models could not be judged; why is said above.')


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return distributed.leave(flags.run(_main, argv))


if __name__ == '__main__':
  sys.exit(main())
