"""TensorBoard's event files. They are a view of what 'metrics.jsonl' holds: their failure ends no training."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from etils import epath

from . import files

COPY_SECONDS = 120
"""Time between copies to a bucket: an event file can only be copied whole."""


class Board:
  """Writes scalars and texts to 'tensorboard' in a folder; of a bucket, to a scratch folder that is copied there."""

  def __init__(self, folder: epath.Path):
    self._folder = folder / 'tensorboard'
    self._scratch = tempfile.mkdtemp(prefix='unmask-tensorboard-') if files.is_remote(folder) else None
    self._writer: Any = None
    self._warned, self._copied = False, time.monotonic()
    self._safely(lambda writer: None)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds scalars of a step."""
    self._safely(lambda writer: writer.write_scalars(step, values))
    if self._scratch and time.monotonic() - self._copied > COPY_SECONDS:
      self._copy()

  def text(self, name: str, value: str) -> None:
    """Adds a text."""
    self._safely(lambda writer: writer.write_texts(0, {name: value}))

  def close(self) -> None:
    """Nothing more comes."""
    if self._writer is not None:
      self._safely(lambda writer: (writer.flush(), writer.close()))
    if self._scratch:
      self._copy()
      shutil.rmtree(self._scratch, ignore_errors=True)

  def _safely(self, write: Callable[[Any], object]) -> None:
    try:
      if self._writer is None:
        from clu import metric_writers  # brings TensorFlow, which readers of metrics do not need

        self._writer = metric_writers.SummaryWriter(self._scratch or str(self._folder))
      write(self._writer)
    except Exception as error:  # TensorFlow's errors are no OSErrors
      # An event cut off in the middle hides what comes after it: what follows goes to a new file.
      self._writer = None
      self._warn(error)

  def _copy(self) -> None:
    """Copies this process's event files to the bucket."""
    try:
      if self._writer is not None:
        with contextlib.suppress(Exception):
          self._writer.flush()
      files.copy_tree(self._scratch or '', self._folder)
    except Exception as error:
      self._warn(error)
    self._copied = time.monotonic()

  def _warn(self, error: Exception) -> None:
    if not self._warned:
      place = f'{self._folder}: {files.reason(error)}'
      print(f'unmask: TensorBoard misses events of {place}; metrics.jsonl has them.', file=sys.stderr, flush=True)
    self._warned = True
