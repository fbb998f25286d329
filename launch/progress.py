"""The training bar: step, loss, rates, time left; a line every ten seconds where there is no terminal."""

import sys

import tqdm


class Progress:
  """A bar over `total` steps that starts at `first`."""

  def __init__(self, name: str, first: int, total: int, hidden: bool = False):
    """`hidden` shows nothing: of several processes, one shows it."""
    terminal = sys.stderr.isatty()
    self._bar = tqdm.tqdm(
      initial=first,
      total=total,
      desc=name,
      unit='step',
      disable=hidden,
      mininterval=0.3 if terminal else 10.0,
      dynamic_ncols=terminal,
      bar_format='{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}',
    )

  def report(self, loss: float, rates: str) -> None:
    """One step is done."""
    self._bar.set_postfix_str(', '.join([f'loss {loss:.3f}', *([rates] if rates else [])]), refresh=False)
    self._bar.update(1)

  def say(self, line: str) -> None:
    """Prints a line that stays, above the bar."""
    self._bar.write(line)

  def close(self) -> None:
    self._bar.close()
