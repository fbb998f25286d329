"""The judge's bar: how much of the suite is done, what is asked now, time left; a line every ten seconds where there is
no terminal.
"""

import os
import sys

import tqdm


class Progress:
  """A bar over the positions that a model will read. A context manager."""

  def __init__(self, label: str, positions: int):
    terminal = sys.stderr.isatty()
    self._bar = tqdm.tqdm(
      total=positions,
      desc=os.path.basename(os.path.normpath(label)),
      mininterval=0.3 if terminal else 10.0,
      dynamic_ncols=terminal,
      leave=False,
      bar_format='{desc} {percentage:3.0f}%|{bar:20}| [{elapsed}<{remaining}] {postfix}',
    )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exception: object) -> None:
    self._bar.close()

  def begin(self, title: str) -> None:
    """Another test is asked."""
    self._bar.set_postfix_str(title, refresh=False)

  def tick(self, positions: int) -> None:
    """So many more were read."""
    self._bar.update(positions)
