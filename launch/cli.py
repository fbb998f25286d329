"""The `unmask` command: one word chooses the program; nothing heavy is imported to choose it or to answer --help."""

import difflib
import importlib
import os
import select
import sys

from .. import __version__
from . import shell

COMMANDS = {
  'train': 'pretrain a decoder under one objective',
  'evaluate': 'judge trained models, each through its own scorer',
  'probe': 'fine-tune trained models on small tasks',
  'replay': 'run one update of a run again and look into it',
  'inspect': 'show what an objective does to real rows',
  'infill': 'fill the gap in a sentence',
  'export': 'write a model as a folder that Hugging Face transformers loads',
  'import': "begin a run with somebody else's weights",
  'convert-vocab': "give somebody else's vocabulary the reserved ids",
  'precompile': 'compile the step for TPU slices nobody holds: memory, FLOPs, bounds',
  'prepare': 'make the vocabulary, the units and the cache of a corpus',
  'lexicon': 'find the collocations of a corpus, or show them',
  'job': 'write the file of one run for SkyPilot or for JobSet on GKE',
  'sweep': 'train and judge many cells, then report',
  'report': 'compare judged models on one page',
  'doctor': 'look at this machine: what is missing, and what mends it',
  'completion': 'print what a shell needs to complete unmask',
}

_NOBODY_READS = 141  # as a shell says of a command that SIGPIPE ended: `unmask report ... | head`


def main(argv: list[str] | None = None) -> int:
  """Runs one command; returns its exit status."""
  try:
    status = _run(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    return status
  except BrokenPipeError:
    if _is_read():  # it is another pipe that broke
      raise
    with open(os.devnull, 'w') as nowhere:  # for what is left to be printed when Python ends
      os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return _NOBODY_READS


def _is_read() -> bool:
  """Whether somebody still reads what is printed."""
  output = select.poll()
  output.register(sys.stdout.fileno(), 0)
  return not any(event & select.POLLERR for _, event in output.poll(0))


def _run(argv: list[str]) -> int:
  if shell.ASKED in os.environ:
    argv = shell.command(COMMANDS)
  if argv and argv[0] in COMMANDS:
    return importlib.import_module(f'.{argv[0].replace("-", "_")}', __package__).main(argv[1:])
  width = max(map(len, COMMANDS))
  lines = [f'  {name:{width}}  {text}' for name, text in COMMANDS.items()]
  usage = '\n'.join(
    ['usage: unmask COMMAND [flags]', '', *lines, '', 'unmask COMMAND --help lists the flags of a command.']
  )
  if not argv or argv[0] in ('-h', '--help', 'help'):
    print(usage)
    return 0
  if argv[0] == '--version':
    print(f'unmask {__version__}')
    return 0
  close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
  guess = f' Did you mean {close[0]}?' if close else ''
  print(f'unmask: there is no command {argv[0]!r}.{guess}\n\n{usage}', file=sys.stderr)
  return 2


if __name__ == '__main__':
  sys.exit(main())
