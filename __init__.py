"""unmask: one decoder, many masking objectives, one honest comparison.

The repository root is this package. `objectives` says what is corrupted, seen and scored; `models` is the decoder;
`tasks` turns text into rows; `launch` starts things. See README.md for the road from a gin file to a gradient.
"""

__version__ = '0.1.0'


class UserError(ValueError):
  """A mistake a user can make and mend.

  The message is one sentence that names the thing and the mend. Commands print it alone, without a traceback, and exit
  with status 2.
  """
