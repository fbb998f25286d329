"""TensorBoard's event files. They are a view of what 'metrics.jsonl' holds: their failure ends no training."""

import errno
import io
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time
from typing import BinaryIO

from etils import epath
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer import record_writer

from . import files

COPY_SECONDS = 120
"""Time between copies to a bucket: an event file can only be copied whole."""


class Board:
  """Writes scalars and texts to 'tensorboard' in a folder; of a bucket, to a scratch folder that is copied there."""

  def __init__(self, folder: epath.Path):
    self._folder = folder / 'tensorboard'
    self._scratch = tempfile.mkdtemp(prefix='unmask-tensorboard-') if files.is_remote(folder) else None
    self._file: BinaryIO | None = None
    self._warned, self._copied = False, time.monotonic()
    self._add(event_pb2.Event(wall_time=time.time(), step=0))

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds scalars of a step."""
    found = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    self._add(event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=found)))
    if self._scratch and time.monotonic() - self._copied > COPY_SECONDS:
      self._copy()

  def text(self, name: str, value: str) -> None:
    """Adds a text."""
    self._add(event_pb2.Event(wall_time=time.time(), step=0, summary=text_pb(name, value)))

  def close(self) -> None:
    """Nothing more comes."""
    if self._file is not None:
      self._file.close()
    if self._scratch:
      self._copy()
      shutil.rmtree(self._scratch, ignore_errors=True)

  def _add(self, event: event_pb2.Event) -> None:
    """Writes an event at once; an event cut off in the middle hides what follows, which goes to a new file."""
    try:
      if self._file is None:
        folder = pathlib.Path(self._scratch or self._folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f'events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}'
        self._file = open(folder / name, 'wb', buffering=0)  # noqa: SIM115  closed in close()
        self._write(event_pb2.Event(wall_time=time.time(), file_version='brain.Event:2'))
      self._write(event)
    except OSError as error:
      if self._file is not None:
        self._file.close()
      self._file = None
      self._warn(error)

  def _write(self, event: event_pb2.Event) -> None:
    record = io.BytesIO()
    record_writer.RecordWriter(record).write(event.SerializeToString())
    if self._file is not None and self._file.write(record.getvalue()) < len(record.getvalue()):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  def _copy(self) -> None:
    """Copies this process's event files to the bucket."""
    try:
      files.copy_tree(self._scratch or '', self._folder)
    except Exception as error:
      self._warn(error)
    self._copied = time.monotonic()

  def _warn(self, error: Exception) -> None:
    if not self._warned:
      place = f'{self._folder}: {files.reason(error)}'
      print(f'unmask: TensorBoard misses events of {place}; metrics.jsonl has them.', file=sys.stderr, flush=True)
    self._warned = True
