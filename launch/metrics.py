"""Where a run's numbers go: 'metrics.jsonl' and TensorBoard, both in the model directory."""

import json
import os
from typing import Protocol

import jax


class Writer(Protocol):
  """Takes a run's scalars and texts."""

  def write(self, step: int, values: dict[str, float]) -> None:
    """Scalars of a step."""

  def text(self, name: str, value: str) -> None:
    """A text of the run."""

  def close(self) -> None:
    """Nothing more comes."""


def writer(model_dir: str, first_step: int) -> Writer:
  """A `MetricsWriter` in the first process of a run; the others write nothing."""
  return NoWriter() if jax.process_index() > 0 else MetricsWriter(model_dir, first_step)


class MetricsWriter:
  """Writes scalars by step. A resumed run takes back what it had written beyond the step it resumes from."""

  def __init__(self, model_dir: str, first_step: int):
    self._path = os.path.join(model_dir, 'metrics.jsonl')
    kept = [row for row in read(model_dir) if row['step'] <= first_step]
    scratch = self._path + '.tmp'
    with open(scratch, 'w') as file:
      file.writelines(json.dumps(row) + '\n' for row in kept)
    os.replace(scratch, self._path)
    self._file = open(self._path, 'a')  # noqa: SIM115  closed in close()
    from clu import metric_writers  # brings TensorFlow, which readers of metrics do not need

    self._board = metric_writers.SummaryWriter(os.path.join(model_dir, 'tensorboard'))

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds one line, 'step' and the values, and the same scalars to TensorBoard."""
    self._file.write(json.dumps({'step': step, **values}) + '\n')
    self._file.flush()
    self._board.write_scalars(step, values)

  def text(self, name: str, value: str) -> None:
    """Adds a text to TensorBoard."""
    self._board.write_texts(0, {name: value})

  def close(self) -> None:
    self._file.close()
    self._board.flush()
    self._board.close()


class NoWriter:
  """Stands for a `MetricsWriter` in every process of a run but the first."""

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes nothing."""

  def text(self, name: str, value: str) -> None:
    """Writes nothing."""

  def close(self) -> None:
    """There is nothing to close."""


def read(model_dir: str) -> list[dict]:
  """All lines of a run's metrics, in order; a last line cut off by a crash is left out."""
  try:
    with open(os.path.join(model_dir, 'metrics.jsonl')) as file:
      lines = file.read().split('\n')[:-1]
  except FileNotFoundError:
    return []
  return [json.loads(line) for line in lines]
