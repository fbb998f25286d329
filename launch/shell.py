"""What a shell that completes a line is offered: commands, flags, gin files and gin's macros; by argcomplete."""

import argparse
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

ASKED = '_ARGCOMPLETE'
"""Set by a shell that asks: how many words of the line come before the arguments."""

_GIN = pathlib.Path(__file__).resolve().parents[1] / 'gin'
_MACRO = re.compile(r'^([A-Z][A-Z_]+) =', re.MULTILINE)


def command(commands: Mapping[str, str]) -> list[str]:
  """The line's command as arguments, once it is whole; else its completions are offered, and the process ends."""
  before = os.environ['COMP_LINE'][: int(os.environ['COMP_POINT'])]
  words = before.split()[1:]
  if len(words) > 1 or (words and before[-1].isspace()):
    deeper = words[:1] == ['lexicon'] and len(words) > 1 and words[1] in ('build', 'show')
    given = words[: 2 if deeper else 1]
    if given[0] in commands:
      os.environ[ASKED] = str(int(os.environ[ASKED]) + len(given))
      return given
  parser = argparse.ArgumentParser(add_help=False)
  parser.add_argument('command', choices=tuple(commands))
  offer(parser)
  return []


def offer(parser: argparse.ArgumentParser) -> None:
  """Writes the completions of the line, and ends the process."""
  import argcomplete

  takes_gin = False
  for action in parser._actions:  # argparse has no public list of them
    if action.dest == 'gin_file':
      takes_gin = True
      action.completer = _gin_files  # type: ignore[attr-defined]
  for macro in sorted(_macros()) if takes_gin else ():
    parser.add_argument(f'--gin.{macro}', dest=macro)
  argcomplete.autocomplete(parser, always_complete_options='long')


def _gin_files(prefix: str, **_: object) -> Iterator[str]:
  """Those that ship, by the names that --gin_file knows them by, and those on disk, folder by folder."""
  yield from (f'gin/{path.relative_to(_GIN).as_posix()}' for path in sorted(_GIN.rglob('*.gin')))
  folder = os.path.dirname(prefix)
  for path in sorted(pathlib.Path(folder or '.').glob('*')):
    name = os.path.join(folder, path.name)
    if path.suffix == '.gin':
      yield name
    elif path.is_dir():
      yield f'{name}/'


def _macros() -> set[str]:
  return {name for path in _GIN.rglob('*.gin') for name in _MACRO.findall(path.read_text())}
