"""gin: parse, refuse what is unused, save. The only module that imports gin.

A run is one gin configurable, called with everything it needs. When it starts, all that the files bind has been used,
so whatever was given and not used by then is a mistake: gin itself accepts a misspelt macro.
"""

import contextlib
import difflib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin

from .. import UserError
from . import files as files_lib
from . import gin_messages, typed

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_INCLUDE = re.compile(r"""^include\s+['"](.+?)['"]""", re.MULTILINE)
_NAME = re.compile(r'^([A-Za-z_][\w./]*) =', re.MULTILINE)
_given: set[str] = set()  # names that the user's own files and flags bind; those of files that ship are not the user's
_shipped: list[set[str]] = []  # names of each file given that ships, without those that a later file binds anew
_made: set[str] = set()  # names whose values `bound` gave out


def load(
  files: Sequence[str], bindings: Sequence[str], search_paths: Sequence[str] = ('.',), saved: str | None = None
) -> None:
  """Replaces gin's configuration; UserError with the file and the reason if something does not parse.

  Args:
    files: gin files, later ones override earlier ones; found in `search_paths`, then among the files shipped with
      unmask, then in installed packages, as PACKAGE/FILE.
    bindings: 'NAME = VALUE' lines, applied last.
    search_paths: folders.
    saved: a 'config.gin' that a run saved, parsed before the files.
  """
  gin.clear_config()
  gin.config._LOCATION_PREFIXES[:] = ['']  # gin has no public way to forget search paths
  for path in [*search_paths, _ROOT]:
    gin.add_config_file_search_path(path)
  paths = [find(path) for path in files]
  _given.clear()
  _made.clear()
  _shipped.clear()
  for path in paths:
    names = _names_in(path)
    for earlier in _shipped:
      earlier -= names
    if _ships(path):
      _shipped.append(names)
    else:
      _given.update(names)
  _given.update(_names('\n'.join(bindings)))
  if saved is not None:
    _parse([saved], [])
  _parse(paths, bindings)


def search_paths() -> list[str]:
  """The folders that gin files are looked for in, as given."""
  return [path for path in gin.config._LOCATION_PREFIXES if path not in ('', _ROOT)]


def _names_in(path: str) -> set[str]:
  """What a file binds itself, and what it includes from elsewhere than the files that ship with unmask."""
  try:
    with open(path, encoding='utf-8') as file:
      text = file.read()
  except (OSError, ValueError) as error:
    raise UserError(f'The gin file {path} cannot be read: {getattr(error, "strerror", "") or error}.') from error
  names = _names(text)
  for included in _INCLUDE.findall(text):
    place = find(included)
    if not _ships(place):
      names |= _names_in(place)
  return names


def _ships(path: str) -> bool:
  return os.path.realpath(path).startswith(os.path.join(os.path.realpath(_ROOT), 'gin'))  # by whatever links


def find(path: str) -> str:
  """Where gin finds a file; UserError if nowhere, with the names beside it that come closest."""
  for prefix in [*gin.config._LOCATION_PREFIXES, *_around_package(path)]:
    candidate = os.path.join(prefix, path)
    if os.path.exists(candidate):
      return candidate
  folder, name = os.path.split(os.path.join(_ROOT, path))
  if not os.path.isdir(folder):
    raise UserError(
      f'There is no gin file {path!r}, nor its folder in the --gin_search_paths, among those of unmask or as an '
      'installed package.'
    )
  names = sorted(os.listdir(folder))
  close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
  raise UserError(f'There is no gin file {path!r}; {os.path.dirname(path) or "the folder"} has {", ".join(close)}.')


def _around_package(path: str) -> list[str]:
  """The folders that hold the package a path begins with, where Python finds one; gin looks there for itself."""
  name, slash, _ = path.partition('/')
  if not slash or not name.isidentifier():
    return []
  try:
    spec = importlib.util.find_spec(name)
  except (ImportError, ValueError):  # a broken package, or one that is being run
    return []
  places = (spec.submodule_search_locations if spec else None) or []
  return [os.path.dirname(place) for place in places]


def _is_in_bucket(path: str) -> bool:
  return files_lib.is_remote(path) and files_lib.path(path).exists()


gin.config.register_file_reader(lambda path: files_lib.path(path).open(), _is_in_bucket)


def _parse(files: Sequence[str], bindings: Sequence[str]) -> None:
  logging.disable(logging.ERROR)  # gin logs every place where an included file is not
  try:
    for path in files:
      with _explained(lambda error: True, path):
        gin.parse_config_file(path)
    with _explained(lambda error: True, 'the --gin flags'):
      gin.parse_config(list(bindings))
  finally:
    logging.disable(logging.NOTSET)
  _refuse_other_types()


def _refuse_other_types() -> None:
  """Raises UserError naming the first binding whose value is not of the type that its parameter asks for."""
  for (_, selector), bindings in gin.config._CONFIG.items():  # gin lists bindings nowhere else but as text
    target = gin.config._REGISTRY[selector].wrapped
    hints = typed.hints(target)
    for name, value in bindings.items():
      if name in hints and not typed.fits(_known(value), hints[name]):
        raise UserError(f'{target.__name__}.{name} is {_shown(value)}; it must be {typed.described(hints[name])}.')


def _known(value: Any, depth: int = 0) -> Any:
  """What is known of a bound value before anything is called: macros looked up, `typed.Made` for what a class makes."""
  if isinstance(value, list | tuple):
    return type(value)(_known(item, depth) for item in value)
  if isinstance(value, dict):
    return {name: _known(item, depth) for name, item in value.items()}
  if not isinstance(value, gin.config.ConfigurableReference):
    return value
  target: Any = getattr(value.configurable, 'wrapped', None)
  if target is gin.config.macro and depth < 10:  # more is a circle
    bound = gin.config._CONFIG.get(value.config_key, {})
    return _known(bound.get('value', typed.UNKNOWN), depth + 1)
  if not value.evaluate:
    return typed.Made(type(target))
  return typed.Made(target) if isinstance(target, type) else typed.UNKNOWN


def _shown(value: Any) -> str:
  """A bound value, with what it stands for if it is a macro."""
  text = repr(value)
  if text.startswith('%') and (known := _known(value)) is not typed.UNKNOWN:
    text = f'{text[1:]}={f"a {known.of.__name__}" if isinstance(known, typed.Made) else repr(known)}'
  return text if len(text) < 200 else f'{text[:200]}...'


def call(configurable: Callable, **arguments) -> Any:
  """Calls the configurable with its gin bindings and `arguments`; UserError if a binding it needs is missing."""
  wrapped = _configured(configurable)
  if not isinstance(configurable, type):  # gin does not find the classes that it has wrapped
    with _explained(lambda error: True):  # all that gin makes is made once ahead, so that its errors are the user's
      gin.get_bindings(wrapped)
  with _explained(_is_about_gin):
    return wrapped(**arguments)


def bound(configurable: Callable) -> dict[str, Any]:
  """The arguments that `call` would give a configurable, made from its gin bindings; it is not called.

  Afterwards `refuse_unused` takes all of them for used.

  Raises:
    UserError: as `call`.
  """
  wrapped = _configured(configurable)
  with _explained(lambda error: True):  # nothing runs but gin, and what it makes values of
    values = gin.get_bindings(wrapped)
  _made.update(f'{configurable.__module__}.{configurable.__name__}.{argument}' for argument in values)
  return values


@contextlib.contextmanager
def _explained(is_gins: Callable[[BaseException], bool], where: str = '') -> Iterator[None]:
  """Makes a UserError of what gin raises inside, and takes gin's account of where it was from every UserError.

  Args:
    is_gins: whether an exception is gin's: OSError, ValueError, SyntaxError, ImportError, RecursionError, ...
    where: what is read; named if gin does not.
  """
  try:
    yield
  except Exception as error:
    message = str(error).split('\n  In call to configurable')[0].strip()  # gin adds where it was called from
    if isinstance(error, UserError):  # raised by a module that a gin file imports, or by what gin makes
      raise UserError(gin_messages.placed(message)) from error
    if is_gins(error):
      raise UserError(_with_guess(gin_messages.one_line(str(error), where))) from error
    raise


def _with_guess(message: str) -> str:
  """The message; where it is of a name that gin does not know, with the one that comes closest."""
  unknown, parameter = gin_messages.unknown_name(message)
  if not unknown:
    return message
  if parameter:
    found = gin.config._REGISTRY.get_match(unknown)
    names, meant = list(typed.hints(found.wrapped)) if found else [], parameter
  else:
    names, meant = [name.rpartition('.')[2] for name in gin.config._REGISTRY._selector_map], unknown.rpartition('.')[2]
  return _guessed(message.rstrip('.'), meant, sorted({*names}), 0.6) or message


def _guessed(text: str, name: str, names: Sequence[str], cutoff: float) -> str | None:
  """The text with that of `names` which comes closest to `name`; None if none is as close as `cutoff`."""
  close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
  return f'{text} (did you mean {close[0]}?)' if close else None


def _configured(configurable: Callable) -> Callable:
  try:
    return gin.get_configurable(configurable)
  except Exception as error:
    raise UserError(
      f'No gin file binds {configurable.__name__}; add one of gin/runs or '
      'gin/sweeps, such as --gin_file=gin/runs/pretrain.gin.'
    ) from error


def _is_about_gin(error: BaseException) -> bool:
  """Whether gin, not the code it called, raised the error: a missing binding or macro."""
  if not isinstance(error, RuntimeError | TypeError | ValueError | AttributeError):
    return False
  text = str(error)
  missing = 'Required bindings for' in text or 'No values supplied' in text or 'macro' in text
  return missing or ('required keyword-only argument' in text and 'In call to configurable' in text)


def refuse_unused(more: str = '') -> None:
  """Raises UserError naming every binding that was given and that nothing used so far; `more` is said behind.

  A file that ships is given as a whole: it is of use if one of its names is, of those that no later file binds anew.
  """
  used = _names(gin.operative_config_str()) | _made
  idle = [names for names in _shipped if names and not any(_matches(name, used) for name in names)]
  unused = sorted(name for name in _given.union(*idle) if not _matches(name, used))
  if not unused:
    return
  known = sorted(used - _given) + sorted(used & _given)
  hints = [_guessed(name, name, known, 0.75) or name for name in unused]
  raise UserError(f'Nothing uses {", ".join(hints)}: mend the spelling or leave it out.{more and f" {more}"}')


def _names(text: str) -> set[str]:
  return set(_NAME.findall(text))


def _matches(name: str, used: set[str]) -> bool:
  """Whether a binding is among the used ones; the two listings may qualify a module differently."""
  if name in used:
    return True
  tail = '.'.join(name.rsplit('.', 2)[-2:])
  return '.' in name and any(other.endswith('.' + tail) or other == tail for other in used)


def save(folder: str) -> None:
  """Writes 'config.gin' (what was given, enough to start again) and 'operative_config.gin' (what was used, with
  defaults).
  """
  for name, text in (('config.gin', gin.config_str()), ('operative_config.gin', gin.operative_config_str())):
    files_lib.write_atomically(files_lib.path(folder) / name, text)


def operative() -> str:
  """What was used, with defaults, as gin text."""
  return gin.operative_config_str()
