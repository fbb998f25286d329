"""What gin says when it fails, as the one sentence that a user reads."""

import os
import re

_GIVEN_BY = {
  'OBJECTIVE': 'add a file of gin/objectives, such as --gin_file=gin/objectives/next_token.gin',
  'MODEL_DIR': 'name a folder for the run, such as --gin.MODEL_DIR=runs/mine',
  'TEXT_PATTERN': "name your files, such as --gin.TEXT_PATTERN='my/*.txt'",
  'SWEEP_DIR': 'name a folder for the sweep, such as --gin.SWEEP_DIR=runs/mine',
}


def unknown_name(message: str) -> tuple[str, str]:
  """(configurable, '') of a message about one that gin does not know, (configurable, parameter) of one about its
  parameter; ('', '') of another.
  """
  found = re.search(r"[Cc]onfigurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
  if found:
    return found.group(1), found.group(2)
  found = re.search(r"No configurable matching (?:reference )?'?@?([\w./]+)", message)
  return (found.group(1).rstrip('.'), '') if found else ('', '')


def one_line(text: str, where: str = '') -> str:
  """gin's message as a sentence: without its file traces and blank lines, and with `where` if it names no file."""
  lines = [line.strip() for line in text.split('\n') if line.strip()]
  message = re.sub(r'malformed node or string.*?<ast\.[^>]*> ', '', ' '.join(lines))
  message = re.sub(
    r"\('EOF in multi-line statement', \((\d+), \d+\)\)", r'A bracket or quote before line \1 is open.', message
  )
  missing = re.search(r'Unable to open file: (\S+)\.', message)
  if missing:
    where = 'in the --gin_search_paths, among the files of unmask and in installed packages'
    return f'There is no gin file {missing.group(1)!r}; looked {where}.'
  required = re.search(r'Required bindings for `?([\w.]+)`? not provided in config: (\[.*?\])', message)
  if required:
    return f'{required.group(1)} needs {required.group(2)}: bind it in a gin file or with --gin.NAME=VALUE.'
  macro = re.search(r"macro.*?scope.*?'([\w]+)'|`?([A-Z][A-Z_]+)/macro", message)
  if 'macro' in message and macro:
    name = macro.group(1) or macro.group(2)
    mend = _GIVEN_BY.get(name, f'set it with --gin.{name}=VALUE or a gin file that defines it')
    return f'{name} has no value: {mend}.'
  message = message.partition(' In call to configurable')[0]
  taken = re.match(r'Attempting to register duplicate provider: (\S+)(.*)', message)
  if taken:  # by seqio
    said = f'A seqio Task or Mixture named {taken.group(1)!r} is registered already: take another name'
    return placed(f'{said}, or register it once.{taken.group(2)}')
  absent = re.search(r'(\w+)\(\) missing \d+ required keyword-only arguments?: (.+)', message)
  if absent:
    return f'{absent.group(1)} needs {absent.group(2)}: bind them in a gin file or with --gin.NAME=VALUE.'
  named = not where or os.path.basename(where) in message or 'In bindings string' in message
  return f'gin: {placed(message[:600])}{"" if named else f" (in {where})"}'


def placed(message: str) -> str:
  """The message with gin's word of the import that failed in brackets at its end."""
  return re.sub(r'[.:]?\s+In file "(.+?)", line (\d+)\s+((?:import|from) .+)', r' (\1, line \2: \3).', message)
