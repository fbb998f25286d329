"""Flags, as t5x users know them, and the one place where a user's mistake becomes one line and exit status 2.

--gin_file=PATH            a gin file; repeat it, later files override earlier ones
--gin.NAME=VALUE           one binding, for example --gin.TRAIN_STEPS=100 or --gin.MaskedLM.rate=0.3
--gin_search_paths=A,B     where gin files are looked for, before the files that ship with unmask and
                           those in installed packages (their_team/run.gin)
"""

import argparse
import ast
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from .. import UserError
from . import exits, files, shell


class Parser(argparse.ArgumentParser):
  """An argument parser whose errors are one sentence, and which answers a shell that completes a line."""

  def parse_args(self, *given, **more):  # type: ignore[override]
    """Parsed flags; where a shell asks for completions it gets them, and the process ends."""
    if shell.ASKED in os.environ:
      shell.offer(self)
    return super().parse_args(*given, **more)

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message[0].upper()}{message[1:]}; {self.prog} --help lists the flags.')


def parser(command: str, description: str) -> Parser:
  """A parser with the gin flags."""
  result = Parser(
    prog=f'unmask {command}',
    description=description,
    allow_abbrev=False,
    epilog='--gin.NAME=VALUE sets one gin binding: --gin.TRAIN_STEPS=100 --gin.MODEL_DIR=runs/mine.',
  )
  result.add_argument('--gin_file', action='append', default=[], metavar='PATH', help='a gin file; may be repeated')
  result.add_argument('--gin_search_paths', default='.', metavar='A,B', help='folders to look for gin files in')
  return result


def parse(flags: Parser, argv: Sequence[str]) -> argparse.Namespace:
  """Parsed flags with `gin_bindings`, a list of 'NAME = VALUE'; UserError for an unknown flag."""
  plain, bindings = [], []
  pending = iter(argv)
  for argument in pending:
    if not argument.startswith('--gin.'):
      plain.append(argument)
      continue
    name, equals, value = argument[len('--gin.') :].partition('=')
    if not equals:
      value = next(pending, '')
      if value.startswith('--'):  # the next flag is nobody's value
        value = ''
    if not name or not value:
      raise UserError(f'{argument} has no value; write --gin.NAME=VALUE.')
    bindings.append(f'{name} = {_literal(value)}')
  options = flags.parse_args(plain)
  options.gin_bindings = bindings
  options.gin_search_paths = options.gin_search_paths.split(',')
  return options


def add_engine(flags: Parser) -> None:
  """Adds --engine."""
  flags.add_argument('--engine', choices=('local', 'beam'), default='local', help='local (default), or Apache Beam')


def parse_with_beam(flags: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """`parse` of a command that has --engine, and Apache Beam's flags, which stand behind "--"."""
  argv = list(argv)
  cut = argv.index('--') if '--' in argv else len(argv)
  options, beam_flags = parse(flags, argv[:cut]), argv[cut + 1 :]
  if beam_flags and options.engine != 'beam':
    raise UserError(f'{beam_flags[0]} behind "--" is for --engine=beam.')
  return options, beam_flags


def require_folder(flag: str, path: str) -> None:
  """UserError unless a file can be written at `path`."""
  folder = os.path.dirname(path) or '.'
  if not os.access(folder, os.W_OK) or os.path.isdir(path):
    raise UserError(
      f'{flag}={path} cannot be written: {folder} is no folder that can be written to, or it is a folder.'
    )


def saved_config(model_dir: str) -> str:
  """The path of a run's saved configuration; UserError if there is no run."""
  path = files.path(model_dir) / 'config.gin'
  try:
    found = path.exists()
  except Exception as error:  # of a bucket: gcsfs has errors of many kinds
    raise UserError(f'{model_dir!r} cannot be read: {files.reason(error)}.') from error
  if not found:
    raise UserError(f'{model_dir!r} is no trained model: it has no config.gin; mend --model_dir or train it first.')
  return os.fspath(path)


def _literal(value: str) -> str:
  """The value as gin reads it; plain text such as runs/mine needs no quotes of its own."""
  if value[0] in '@%':
    return value
  try:
    ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return value if value[0] in '[{(' else repr(value)
  return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps TensorFlow's greetings, which it writes while it is imported, off the terminal."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as greetings:
    os.dup2(greetings.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None) -> int:
  """Calls a command; prints a UserError as one line; returns the exit status, see `exits`."""
  try:
    return main(sys.argv[1:] if argv is None else argv) or 0
  except UserError as error:
    print(f'unmask: {error}', file=sys.stderr)
    return exits.MISTAKE
  except exits.Stopped as stopped:
    print(f'unmask: {stopped}', file=sys.stderr)
    return stopped.status
  except KeyboardInterrupt:
    print('unmask: interrupted.', file=sys.stderr)
    return exits.INTERRUPTED
