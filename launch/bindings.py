"""Two operative configurations, compared binding by binding: what a person changed, by the name they know it by."""

import re

_NAME = re.compile(r'^([A-Za-z_][\w./]*) =')
_PLACES = re.compile(r'(^|[._])(dir|folder|period|profile_steps|stop_at|keep\w*|compilation_cache)$', re.IGNORECASE)


def differences(there: str, here: str) -> dict[str, tuple[str, str]]:
  """What both bind, and to different values, by name: (there, here).

  What says where things lie, or how often something is done that changes no result, is left out.
  """
  before, now = values(there), values(here)
  changed = (name for name in before if name in now and before[name] != now[name])
  return {name: (before[name], now[name]) for name in changed if not _PLACES.search(name)}


def values(text: str) -> dict[str, str]:
  """The bindings of a configuration as gin prints it, by name; a value that takes several lines becomes one."""
  found: dict[str, str] = {}
  name = None
  for line in re.sub(r'\\\n\s*', '', text).split('\n'):
    if match := _NAME.match(line):
      name = match.group(1)
      found[name] = line[match.end() :].strip()
    elif name and line.startswith(' '):
      found[name] += ' ' + line.strip()
    else:
      name = None
  return found
