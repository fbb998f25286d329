"""Values as data, for pipes and files between the processes of one build.

JSON of plain values, NumPy arrays and dataclasses, each dataclass as its name and its fields. Whoever reads says which
names may be made, so what is read cannot choose what runs.
"""

import base64
import dataclasses
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_KIND = '='  # key of an object that is no dictionary

Find = Callable[[str], Any]


def dump(value: Any) -> bytes:
  """One line of bytes; TypeError for what is no data, or has a type that no name leads to."""
  return json.dumps(_described(value)).encode()


def load(line: bytes, find: Find) -> Any:
  """What `dump` was given.

  Args:
    line: its bytes.
    find: gives the dataclass or function of a name; see `among` and `anywhere`.

  Raises:
    ValueError: the bytes are not of `dump`, or name what `find` does not give.
  """
  try:
    return json.loads(line, object_hook=lambda value: _made(value, find))
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'no value of ours: {error}') from error


def among(*known: Any) -> Find:
  """Finds these dataclasses alone: for what lies in a file."""
  names = {_name(one): one for one in known}
  return names.__getitem__


def anywhere(name: str) -> Any:
  """Finds every dataclass and function that can be imported: for what the process that started this one says."""
  module, _, path = name.partition(':')
  found: Any = importlib.import_module(module)
  for part in path.split('.'):
    found = getattr(found, part)
  if not (inspect.isfunction(found) or dataclasses.is_dataclass(found)):
    raise TypeError(f'{name} is no dataclass or function')
  return found


def _name(known: Any) -> str:
  return f'{known.__module__}:{known.__qualname__}'


def _described(value: Any) -> Any:
  """The value in the terms of JSON."""
  match value:
    case None | bool() | int() | float() | str():
      return value
    case list():
      return [_described(item) for item in value]
    case tuple():
      return {_KIND: 'tuple', 'items': [_described(item) for item in value]}
    case frozenset():
      return {_KIND: 'frozenset', 'items': [_described(item) for item in sorted(value)]}
    case Mapping() if all(isinstance(key, str) and key != _KIND for key in value):
      return {key: _described(item) for key, item in value.items()}
    case np.generic():
      return value.item()
    case np.ndarray() if value.dtype.kind in 'biuf':
      data = base64.b64encode(value.tobytes()).decode()
      return {_KIND: 'array', 'dtype': value.dtype.str, 'shape': list(value.shape), 'data': data}
  if inspect.isfunction(value):
    return {_KIND: 'function', 'name': _findable(value)}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {field.name: _described(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {_KIND: 'dataclass', 'name': _findable(type(value)), 'fields': fields}
  raise TypeError(f'{type(value).__name__} is no data')


def _findable(known: Any) -> str:
  """Its name; TypeError where another process would not find it."""
  name = _name(known)
  try:
    if known.__module__ != '__main__' and anywhere(name) is known:
      return name
  except (ImportError, AttributeError):
    pass
  raise TypeError(f'{name} cannot be found by its name')


def _made(value: dict[str, Any], find: Find) -> Any:
  match value.get(_KIND):
    case None:
      return value
    case 'tuple':
      return tuple(value['items'])
    case 'frozenset':
      return frozenset(value['items'])
    case 'array':
      data = np.frombuffer(base64.b64decode(value['data']), np.dtype(value['dtype']))
      return data.reshape(value['shape']).copy()
    case 'function':
      return find(value['name'])
    case 'dataclass':
      return find(value['name'])(**value['fields'])
  raise ValueError(f'{value[_KIND]!r} is no kind of value')
