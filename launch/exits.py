"""What a process's exit status says, for a person and for the supervisor that starts it again. Imports nothing."""

MISTAKE = 2
"""Something must be mended first: a flag, a file, a disk, a run whose loss is not finite. Starting again is no use."""

HUNG = 74
"""The watchdog stopped a process in which nothing moved; EX_IOERR of sysexits.h. Start it again."""

PREEMPTED = 75
"""Asked to stop, and saved; EX_TEMPFAIL of sysexits.h. The same command goes on."""

INTERRUPTED = 130
"""Stopped from the keyboard."""


class Preempted(BaseException):  # nothing that mends exceptions may keep a machine that is taken away
  """The run was asked to stop. The message says what was saved."""

  def __init__(self, message: str, status: int = PREEMPTED):
    super().__init__(message)
    self.status = status
