"""The local engine: cells as processes of this machine, some at a time, each with its share of the devices.

A failed cell ends no other. A notice that the machine is taken away is handed on to all, which save.
"""

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from ... import UserError
from .. import exits, files
from .board import Board
from .plans import Plan
from .shares import Share

HUNG_AGAIN = 2
"""Times that a cell is started again after its watchdog ended it."""

_POLL = 0.2  # seconds
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclasses.dataclass
class _Running:
  plan: Plan
  process: subprocess.Popen
  share: Share
  log: str
  attempt: int


class _Heard:
  """Signals that came, for the loop to hand on: a handler may come at any moment."""

  def __init__(self):
    self.pending: list[int] = []
    self.first: int | None = None

  def __call__(self, number: int, frame: object) -> None:
    self.pending.append(number)
    self.first = self.first or number


@contextlib.contextmanager
def _listening() -> Iterator[_Heard]:
  heard = _Heard()
  before = {number: signal.signal(number, heard) for number in _SIGNALS}
  try:
    yield heard
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def run(plans: Sequence[Plan], shares: Sequence[Share], board: Board, begin: Callable[[Plan], None]) -> list[Plan]:
  """Trains every cell that is not trained; returns those that failed, of which the cell remembers why, and
  those that start from them.

  Args:
    plans: to run.
    shares: one for each cell that may run at a time.
    board: is told.
    begin: writes what a cell is into its directory, before it is started.

  Raises:
    UserError: a directory cannot be written, or a process not be started; all that ran have saved.
    exits.Preempted: the sweep, or one of its cells, was asked to stop; all that ran have saved.
  """
  waiting = [(one, 0) for one in plans if not one.cell.trained]
  free, running, failed = list(shares), [], []
  with _listening() as heard, board.showing(), _saved(running):
    while running or (_able(waiting) and not heard.first):
      while free and not heard.first and (able := _able(waiting)):
        waiting.remove(able[0])
        one, attempt = able[0]
        begin(one)
        running.append(_start(one, free.pop(0), attempt))
        board.to(one, 'running')
      while heard.pending:
        _hand_on(heard.pending.pop(0), running)
      for ended in [each for each in running if each.process.poll() is not None]:
        running.remove(ended)
        free.append(ended.share)
        status = ended.process.returncode
        if status in (exits.PREEMPTED, exits.INTERRUPTED):
          board.to(ended.plan, 'stopped')
          if not heard.first:  # the notice reached a cell before it reached the sweep
            heard(signal.SIGINT if status == exits.INTERRUPTED else signal.SIGTERM, None)
        elif status == exits.HUNG and ended.attempt < HUNG_AGAIN and not heard.first:
          board.to(ended.plan, 'hung, again')
          waiting.insert(0, (ended.plan, ended.attempt + 1))
        elif _finished(ended, bool(heard.first)):
          board.to(ended.plan, 'done')
        elif heard.first:
          board.to(ended.plan, 'stopped')
        else:
          failed.append(ended.plan)
          board.to(ended.plan, 'failed')
      board.refresh()
      time.sleep(_POLL)
  if heard.first:
    raise _stopped(heard.first, [row.plan for row in board.rows.values() if row.state == 'stopped'])
  for one, _ in waiting:  # what they start from failed
    board.to(one, 'cannot start')
  return failed + [one for one, _ in waiting]


def _able(waiting: Sequence[tuple[Plan, int]]) -> list[tuple[Plan, int]]:
  """Those for which all that they begin with is there."""
  return [each for each in waiting if each[0].cell.can_start]


@contextlib.contextmanager
def _saved(running: Sequence[_Running]) -> Iterator[None]:
  """If what is inside fails, whatever still runs is told to save, and waited for."""
  try:
    yield
  except BaseException:
    _hand_on(signal.SIGTERM, running)
    for each in running:
      each.process.wait()
    raise


def call(command: str, arguments: Sequence[str]) -> int:
  """Another command of unmask in a process of its own; returns its exit status, or that of the notice it got.

  Raises:
    exits.Preempted: asked to stop, and so was the command.
  """
  with (
    _listening() as heard,
    subprocess.Popen([sys.executable, '-m', f'unmask.launch.{command}', *arguments], start_new_session=True) as process,
  ):
    while process.poll() is None:
      while heard.pending:
        with contextlib.suppress(ProcessLookupError):
          process.send_signal(heard.pending.pop(0))
      time.sleep(_POLL)
  if heard.first:
    raise exits.Preempted(f'stopped during {command}. The same command goes on.', _status(heard.first))
  return process.returncode


def _start(plan: Plan, share: Share, attempt: int) -> _Running:
  """The run in a process of its own, so that a failure or its memory ends with it."""
  log = _log(plan)
  environment = {**os.environ, **share.environment}
  cores = os.sched_getaffinity(0) if share.cores is not None and hasattr(os, 'sched_setaffinity') else None
  try:
    with open(log, 'ab') as file:
      if cores is not None and share.cores is not None:
        os.sched_setaffinity(0, share.cores)  # of this thread, and so of the process that it starts
      process = subprocess.Popen(
        [sys.executable, '-m', 'unmask.launch.train', *plan.command],
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # a Ctrl-C comes through the sweep, once
      )
  except OSError as error:
    raise UserError(f'{plan.cell.name} cannot be started: {files.reason(error)}.') from error
  finally:
    if cores is not None:
      os.sched_setaffinity(0, cores)
  return _Running(plan, process, share, log, attempt)


def _log(plan: Plan) -> str:
  """Where the cell's output goes: its own train.log; for a bucket a file here, copied there at its end."""
  if not files.is_remote(plan.cell.model_dir):
    return os.path.join(plan.cell.model_dir, 'train.log')
  folder = os.path.join(tempfile.gettempdir(), 'unmask-sweep', re.sub(r'[^\w.-]+', '_', plan.cell.model_dir))
  os.makedirs(folder, exist_ok=True)
  return os.path.join(folder, 'train.log')


def _hand_on(number: int, running: Sequence[_Running]) -> None:
  """To every running cell; a lost terminal is as good as a notice."""
  if running:
    print('unmask: waiting for what runs to save.', file=sys.stderr, flush=True)
  for each in running:
    with contextlib.suppress(ProcessLookupError):
      each.process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def _finished(ended: _Running, stopping: bool) -> bool:
  """Whether a cell that ended is trained; if not, and nobody stopped it, it remembers why."""
  cell, status = ended.plan.cell, ended.process.returncode
  if files.is_remote(cell.model_dir):
    with contextlib.suppress(UserError), open(ended.log, 'rb') as file:
      files.write_atomically(files.path(cell.model_dir) / 'train.log', file.read())
  if status == 0 and cell.trained:
    return True
  if not stopping:
    cell.failed(status, why(status, last_line(ended.log)), ended.log)
  return False


def why(status: int, line: str) -> str:
  """What is said of a cell that ended with a status, after printing a line."""
  if status < 0:
    name = signal.Signals(-status).name
    hint = ' (out of memory?)' if name == 'SIGKILL' else ''
    return f'killed by {name}{hint}; it last printed: {line}'
  if status == exits.HUNG:
    return f'nothing moved in it, {HUNG_AGAIN + 1} times; it last printed: {line}'
  return line if status else f'it ended before its last update; it last printed: {line}'


def last_line(log: str) -> str:
  """The last line of a log that says something, of a progress bar its last state."""
  try:
    with open(log, 'rb') as file:
      file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
      lines = [line.strip() for line in re.split(r'[\r\n]+', file.read().decode(errors='replace'))]
  except OSError:
    return ''
  said = [line for line in lines if line]
  return said[-1].removeprefix('unmask: ') if said else 'nothing'


def _stopped(number: int, plans: Sequence[Plan]) -> exits.Preempted:
  names = ', '.join(one.cell.model_dir for one in plans)
  which = f'while {names} {"was" if len(plans) == 1 else "were"} trained, which is saved' if plans else 'between cells'
  return exits.Preempted(f'stopped {which}. The same command goes on.', _status(number))


def _status(number: int) -> int:
  return exits.INTERRUPTED if number == signal.SIGINT else exits.PREEMPTED
