"""One run as a scheduler's file: read ahead as the run will read it, so that a misspelt binding is told here."""

import argparse
import os

from . import config, loop, opening
from .sweeping import engines, plans


def write(engine: engines.Engine, options: argparse.Namespace) -> str:
  """Writes the file; returns its path.

  Args:
    engine: the scheduler's.
    options: of `flags.parse`, with `name`.

  Raises:
    UserError: the bindings are no run, or its MODEL_DIR is not one that all machines have. Nothing has been written.
  """
  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  bound = loop.bound()
  opening.check_numbers(TRAIN_STEPS=bound['train_steps'], BATCH_SIZE=bound['batch_size'])
  bound['objective'].check(bound['pipeline'].text_length)
  model_dir = str(bound['model_dir'])
  engine.check(model_dir)
  searched = [f'--gin_search_paths={",".join(options.gin_search_paths)}'] if options.gin_search_paths != ['.'] else []
  command = [*searched, *(f'--gin_file={file}' for file in options.gin_file), *plans.as_flags(options.gin_bindings)]
  name = options.name or os.path.basename(os.path.normpath(model_dir))
  return engines.write_one(engine.folder, name, command, model_dir, engine.document, engine.SUBMIT)
