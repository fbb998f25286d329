"""Whether a value is of the type that a parameter asks for. gin binds anything to anything."""

import collections.abc
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Made:
  """Stands for a value that is made by calling a class."""

  of: type


UNKNOWN = object()  # stands for a value of which nothing is known


def hints(target: Callable) -> Mapping[str, Any]:
  """What the parameters of a function or a class are annotated with, where that can be known."""
  function = target.__init__ if isinstance(target, type) else target
  try:
    known = typing.get_type_hints(function)
  except (NameError, TypeError, AttributeError):
    return {}
  return {name: known[name] for name in inspect.signature(function).parameters if name in known}


def fits(value: Any, hint: Any) -> bool:
  """Whether a value, with `Made` and `UNKNOWN` in it, is of a type; True where that cannot be said.

  A whole number is a float, True is no number, numbers are finite, and text holds no null character.
  """
  if value is UNKNOWN or hint is Any:
    return True
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, argument) for argument in arguments)
  if origin is typing.Literal:
    return any(value == one and type(value) is type(one) for one in arguments)
  if hint is None or hint is type(None):
    return value is None
  if hint in (int, float):
    number = int if hint is int else (int, float)
    return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
  if hint is str:
    return isinstance(value, str) and '\0' not in value  # no path and no name holds one
  if origin is not None:
    return _fits_generic(value, origin, arguments)
  if not isinstance(hint, type):
    return True
  if isinstance(value, Made):
    return _is_a(value.of, hint)
  return isinstance(value, hint) if not getattr(hint, '_is_protocol', False) else False


def _fits_generic(value: Any, origin: type, arguments: tuple) -> bool:
  """The same for list[int], Mapping[str, int] and the like."""
  if origin is collections.abc.Callable:
    return callable(value) or isinstance(value, Made)
  if isinstance(value, Made):
    return _is_a(value.of, origin)
  if origin is tuple or issubclass(origin, collections.abc.Sequence):
    if not isinstance(value, list | tuple):
      return False
    if origin is tuple and arguments[-1:] != (...,):
      return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)
  if issubclass(origin, collections.abc.Mapping):
    pairs = value.items() if isinstance(value, Mapping) else [(UNKNOWN, None)]
    return isinstance(value, Mapping) and all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in pairs)
  return True


def _is_a(cls: type, hint: type) -> bool:
  if not getattr(hint, '_is_protocol', False):
    return issubclass(cls, hint)
  names = [name for name in dir(hint) if not name.startswith('_')]
  fields = getattr(cls, '__dataclass_fields__', {})
  return all(hasattr(cls, name) or name in fields for name in names)


def described(hint: Any) -> str:
  """A type in the words of a sentence."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(dict.fromkeys(map(described, arguments)))
  if origin is typing.Literal:
    return f'one of {", ".join(map(repr, arguments))}'
  plain = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text', type(None): 'None'}
  if hint in plain:
    return plain[hint]
  if isinstance(hint, type) and origin is None:
    return f'{"an" if hint.__name__[0] in "AEIOU" else "a"} {hint.__name__}'
  return str(hint).replace('collections.abc.', '').replace('typing.', '')
