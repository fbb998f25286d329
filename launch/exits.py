"""What a process's exit status says, for a person and for the supervisor that starts it again. Imports nothing."""

MISTAKE = 2
"""Something must be mended first: a flag, a file, a disk, a run whose loss is not finite. Starting again is no use."""

HUNG = 74
"""The watchdog stopped a process in which nothing moved; EX_IOERR of sysexits.h. Start it again."""

PREEMPTED = 75
"""Asked to stop, and saved; EX_TEMPFAIL of sysexits.h. The same command goes on."""

LOST = 76
"""Another process of the run is gone, or did not come; EX_PROTOCOL of sysexits.h. Start all of them again."""

INTERRUPTED = 130
"""Stopped from the keyboard."""

ABORTED = 128 + 6
"""As a shell says it: JAX's runtime has aborted the process, as it does when the first process of a run is lost."""


class Stopped(BaseException):  # nothing that mends exceptions may keep a machine that is taken away
  """The run ends here, and the same command goes on. The message says what was saved."""

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


class Preempted(Stopped):
  """The run was asked to stop."""

  def __init__(self, message: str, status: int = PREEMPTED):
    super().__init__(message, status)


class PeerLost(Stopped):
  """Another of the run's processes is gone, or did not come."""

  def __init__(self, message: str):
    super().__init__(message, LOST)
