"""Writes docs/api.md from the docstrings of the public names:  python docs/make_api.py

A public name is one of HOMES in `unmask.objectives` or `unmask.tasks`; `HELPERS` are modules of graph functions that an
objective is written with. A test holds that the page is up to date.
"""

import dataclasses
import importlib
import inspect
import pathlib
import re
import typing

import unmask

PAGE = pathlib.Path(__file__).parent / 'api.md'
HELPERS = ('features', 'random', 'units')
HEAD = """# The public names

Made from the docstrings by `python docs/make_api.py`; do not edit.

**Stable** is every name below, with its arguments, fields and the shapes and dtypes that it states; the command line
(`unmask NAME` with its flags); gin's macros and the files of gin/; the files of a model directory that the
[README](../README.md) lists; and an objective's batches: a run with the same configuration, data and versions of
dependencies reads the same bits. Versions are semantic (semver.org): from 1.0 on only a new major version takes any
of this away or changes it, and [CHANGELOG.md](../CHANGELOG.md) says how to follow. Until 1.0 a new minor version may,
and says so there.

**Not stable** is all else: modules and functions that are not named here, `unmask.models`, `unmask.launch` as Python
(its commands are), names that begin with `_`, and the text of messages.

Importing `unmask` loads nothing heavy; each name is loaded when it is first used. `py.typed` is there: type checkers
read the annotations. A mistake of a user is `unmask.UserError`, a ValueError of one sentence that names the thing and
the mend.
"""


def page() -> str:
  """The page's text."""
  parts = [HEAD]
  for package in (unmask.objectives, unmask.tasks):
    parts.append(f'## {package.__name__}\n')
    parts += [_entry(f'{package.__name__}.{name}', getattr(package, name)) for name in package.HOMES]
  for helper in HELPERS:
    module = importlib.import_module(f'unmask.objectives.{helper}')
    parts.append(f'## {module.__name__}\n')
    parts.append(_text(inspect.getdoc(module)))
    own = [(name, one) for name, one in vars(module).items() if getattr(one, '__module__', '') == module.__name__]
    parts += [_entry(f'{helper}.{name}', one) for name, one in own if inspect.isfunction(one) and name[0] != '_']
  return '\n'.join(parts)


def _entry(name: str, one: typing.Any) -> str:
  """A heading with the call, the docstring, and what else is public of a class."""
  lines = [f'### {name}\n']
  if not callable(one) or typing.get_origin(one):  # a value, or the name of a type
    return '\n'.join([*lines, f'`{one!r}`\n'])
  lines.append(f'    {name.rpartition(".")[2]}{_signature(one)}\n')
  lines.append(_text(inspect.getdoc(one)))
  if inspect.isclass(one):
    for member, value in vars(one).items():
      function = value.fget if isinstance(value, property) else getattr(value, '__func__', value)
      if member[0] == '_' or not inspect.isfunction(function) or not function.__doc__:
        continue
      call = '' if isinstance(value, property) else _signature(function)
      lines.append(f'**`{member}{call}`** {_text(inspect.getdoc(function))}')
  return '\n'.join(lines)


def _signature(one: typing.Any) -> str:
  """Names and defaults; the annotations stand in the code, and the docstring says shapes."""
  if inspect.isclass(one) and (getattr(one, '_is_protocol', False) or inspect.isabstract(one)):
    return ''
  parameters = inspect.signature(one).parameters.values()
  shown = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
  if dataclasses.is_dataclass(one):  # all by name: the star and '<factory>' say nothing
    return f'({", ".join(map(_field, shown))})'
  return str(inspect.Signature([one for one in shown if one.name != 'self']))


def _field(parameter: inspect.Parameter) -> str:
  if parameter.default is inspect.Parameter.empty:
    return parameter.name
  return f'{parameter.name}={parameter.default!r}'


def _text(doc: str | None) -> str:
  """A docstring as Markdown: its lists of arguments become code blocks, which keep their lines."""
  text = re.sub(r'(?m)^(Args|Attributes|Returns|Raises|Yields):\n((?:(?:  .*)?\n?)+)', _listed, doc or '')
  return f'{text.strip()}\n'


def _listed(match: re.Match) -> str:
  body = '\n'.join(f'    {line[2:]}' if line.strip() else '' for line in match.group(2).rstrip().split('\n'))
  return f'{match.group(1)}:\n\n{body}\n\n'


if __name__ == '__main__':
  PAGE.write_text(page(), encoding='utf-8')
