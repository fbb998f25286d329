"""What the time before the first update went into. Imports nothing heavy: it is there before the heavy imports."""

import os
import time


def process_age() -> float:
  """Seconds since this process was started, by Linux's /proc; 0 where there is none."""
  try:
    with open('/proc/self/stat') as stat, open('/proc/uptime') as uptime:
      fields = stat.read().rpartition(')')[2].split()  # the name before the bracket may hold spaces
      started = int(fields[19]) / os.sysconf('SC_CLK_TCK')  # field 22 of proc(5): clock ticks after boot
      return max(0.0, float(uptime.read().split()[0]) - started)
  except (OSError, ValueError, IndexError):
    return 0.0


class Startup:
  """Divides the time since the process began into named parts; every second belongs to one.

  Attributes:
    parts: seconds by name, in the order of their first mention.
  """

  def __init__(self, age: float = 0.0, clock=time.monotonic):
    """`age` is how long the process had run already."""
    self._clock = clock
    self._last = clock() - age
    self.parts: dict[str, float] = {}

  def mark(self, part: str) -> None:
    """Counts the time since the last mark as `part`'s."""
    now = self._clock()
    self.parts[part] = self.parts.get(part, 0.0) + now - self._last
    self._last = now

  def line(self) -> str:
    """For the reader: 'first step after 21.3 s: imports 8.1, data 3.0, compile 9.9, step 0.3'."""
    parts = ', '.join(f'{name} {seconds:.1f}' for name, seconds in self.parts.items())
    return f'first step after {sum(self.parts.values()):.1f} s: {parts}'
