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
# Model, tokens of a row, rows of a batch, ids of the vocabulary, mesh, slices.
RUNS = [
  ('tiny', 128, 64, 8192, 'data=-1', ['v5e:1x1']),
  ('10M', 512, 64, 8192, 'data=-1', ['v5e:2x2']),
  ('125M', 1024, 64, 32768, 'data=-1', ['v5e:2x2']),
  ('350M', 2048, 64, 32768, 'fsdp=8', ['v5e:2x4']),
  ('1.3B', 2048, 128, 32768, 'fsdp=16', ['v5e:4x4']),
  ('1.3B', 2048, 512, 32768, 'fsdp=64', ['v5p:4x4x4']),
  ('7B', 2048, 512, 32768, 'fsdp=64', ['v5p:4x4x4']),
  ('7B', 2048, 1024, 32768, 'fsdp=256', ['v5e:16x16']),
]


def row(run: tuple, head: bool) -> str:
  """The lines of one run; what went wrong, if it did."""
  name, length, rows, ids, mesh, slices = run
  command = [sys.executable, '-m', 'unmask.launch.cli', 'precompile', f'--mesh={mesh}']
  command += ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/next_token.gin']
  command += [f'--gin_file=gin/models/{name}.gin', f'--gin.DecoderConfig.vocab_size={ids}', f'--gin.BATCH_SIZE={rows}']
  command += [f"--gin.TASK_FEATURE_LENGTHS={{'targets': {length}}}"]
  command += [f'--topology={one}' for one in slices] + ['--markdown' if head else '--markdown=rows']
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT.parent)} if ROOT.name == 'unmask' else dict(os.environ)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
  return (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()


def main(names: list[str]) -> None:
  """Prints all rows; rewrites the file if no names were given."""
  lines = []
  for run in RUNS:
    if not names or run[0] in names:
      lines.append(row(run, head=not lines))
      print(lines[-1], flush=True)
  if not names:
    path = ROOT / 'docs' / 'scaling.md'
    table = '\n'.join(['<!-- table -->', *lines, '<!-- end of table -->'])
    path.write_text(re.sub('<!-- table -->.*<!-- end of table -->', lambda _: table, path.read_text(), flags=re.DOTALL))


if __name__ == '__main__':
  main(sys.argv[1:])
