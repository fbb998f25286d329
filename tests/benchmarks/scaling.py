"""Writes the table of docs/scaling.md: every shipped model size on a sensible slice, by `unmask precompile`.

python tests/benchmarks/scaling.py [NAME ...]     only these models' rows are printed, and no file is changed
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests'))
import shipped  # noqa: E402


def row(run: shipped.Fits, head: bool) -> str:
  """The lines of one run; what went wrong, if it did."""
  command = [sys.executable, '-m', 'unmask.launch.cli', 'precompile', f'--mesh={run.mesh}']
  command += ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/next_token.gin']
  command += [f'--gin_file=gin/models/{run.model}.gin', *(f'--gin.{line}' for line in run.bindings())]
  command += [f'--topology={run.topology}', '--markdown' if head else '--markdown=rows']
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT.parent)} if ROOT.name == 'unmask' else dict(os.environ)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
  return (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()


def main(names: list[str]) -> None:
  """Prints all rows; rewrites the file if no names were given."""
  lines = []
  for run in shipped.fits():
    if not names or run.model in names:
      lines.append(row(run, head=not lines))
      print(lines[-1], flush=True)
  if not names:
    path = ROOT / 'docs' / 'scaling.md'
    table = '\n'.join(['<!-- table -->', *lines, '<!-- end of table -->'])
    path.write_text(re.sub('<!-- table -->.*<!-- end of table -->', lambda _: table, path.read_text(), flags=re.DOTALL))


if __name__ == '__main__':
  main(sys.argv[1:])
