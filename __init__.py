"""unmask: one decoder, many masking objectives, one honest comparison.

The repository root is this package. `objectives` says what is corrupted, seen and scored; `models` is the decoder;
`tasks` turns text into rows; `launch` starts things. See README.md for the road from a gin file to a gradient.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from . import objectives as objectives
  from . import tasks as tasks

__version__ = '0.1.0'
__all__ = ['UserError', '__version__', 'objectives', 'tasks']


class UserError(ValueError):
  """A mistake a user can make and mend.

  The message is one sentence that names the thing and the mend. Commands print it alone, without a traceback, and exit
  with status 2.
  """


def __getattr__(name: str) -> Any:
  if name not in ('objectives', 'tasks'):
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(f'.{name}', __name__)
