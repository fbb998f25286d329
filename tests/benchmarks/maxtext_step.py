"""Our training step beside MaxText's trainer, on one jax, in turns.

    python tests/benchmarks/maxtext_step.py --maxtext_python=VENV/bin/python [--pairs=5] [--steps=6]

Two processes of that Python: MaxText's own `train.py` on synthetic data, and `step.py --each`. Both are started and
compiled, then one runs while the other is stopped (SIGSTOP), `--steps` counted steps a turn, so that a noisy neighbour
slows both. Same shape (256 wide, 4 heads of 64, 4 layers, gated MLP of 1,024, vocabulary 8,192 untied, 256 tokens,
batch 8, float32), AdamW, clip 1.0, dot-product attention, no checkpoints. Each reads a step's loss while the next runs.

MaxText 0.2.5 needs Python 3.12: `pip install --no-deps maxtext==0.2.5`, then jax 0.11.1, flax, optax, orbax-checkpoint,
grain, qwix, tokamax, transformers, jinja2, sympy, pathwaysutils, omegaconf, aqtp, drjax, pillow, tiktoken,
sentencepiece, ml-collections.

Printed: for every pair and as median (smallest-largest), wall seconds a step by each program's own lines (the median of
a turn's steps), their ratio (above 1: ours is faster), and CPU-seconds a step by the system's account of the process.
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import tempfile

SKIP = (
  3  # lines of a turn that are not counted: they may hold compilation, or the time in which the process was stopped
)
MANY = 1_000_000  # more steps than are wanted: the processes are ended
LINE = re.compile(r'completed step: (\d+), seconds: ([\d.]+)')
HERE = pathlib.Path(__file__).resolve().parent


class Process:
  """A trainer that runs only in its turns."""

  def __init__(self, command: list[str], env: dict[str, str], folder: str):
    self._command = command
    self._process = subprocess.Popen(
      command, env=env, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

  def turn(self, steps: int) -> tuple[float, float]:
    """Wall seconds (median) and CPU seconds (mean) of `steps` steps, after `SKIP` that are not counted."""
    self._process.send_signal(signal.SIGCONT)
    for _ in range(SKIP):
      self._seconds()
    before = self._cpu_secs()
    secs = [self._seconds() for _ in range(steps)]
    cpu = self._cpu_secs() - before
    self._process.send_signal(signal.SIGSTOP)
    return statistics.median(secs), cpu / steps

  def close(self) -> None:
    self._process.kill()
    self._process.wait()

  def _seconds(self) -> float:
    """What the next line of a step says."""
    tail = []
    for line in self._process.stdout:
      if found := LINE.search(line):
        return float(found[2])
      tail = [*tail[-20:], line]
    raise SystemExit(f'{self._command[:3]} ended:\n{"".join(tail)}')

  def _cpu_secs(self) -> float:
    """User and system seconds so far (Linux)."""
    fields = pathlib.Path(f'/proc/{self._process.pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def maxtext_command(python: str, output: str, extra: list[str]) -> list[str]:
  """MaxText's trainer on the small shape."""
  where = subprocess.run(
    [python, '-c', 'import importlib.util; print(importlib.util.find_spec("maxtext").submodule_search_locations[0])'],
    check=True, text=True, capture_output=True,
  ).stdout.strip()  # fmt: skip
  settings = {
    'run_name': 'small', 'base_output_directory': output, 'hardware': 'cpu', 'skip_jax_distributed_system': 'true',
    'base_emb_dim': 256, 'base_num_query_heads': 4, 'base_num_kv_heads': 4, 'head_dim': 64,
    'base_num_decoder_layers': 4, 'base_mlp_dim': 1024, 'vocab_size': 8192, 'max_target_length': 256,
    'per_device_batch_size': 8, 'dtype': 'float32', 'weight_dtype': 'float32', 'dataset_type': 'synthetic',
    'attention': 'dot_product', 'enable_checkpointing': 'false', 'opt_type': 'adamw',
    'gradient_clipping_threshold': 1.0, 'enable_goodput_recording': 'false', 'steps': MANY,
  }  # fmt: skip
  named = [f'{name}={value}' for name, value in settings.items()]
  return [python, '-m', 'maxtext.trainers.pre_train.train', f'{where}/configs/base.yml', *named, *extra]


def spread(values: list[float]) -> str:
  return f'{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})'


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--maxtext_python', required=True, help='of an environment that holds MaxText')
  flags.add_argument('--ours_python', help='another Python for our side; default: the same')
  flags.add_argument('--variant', default='causal', help='of step.py')
  flags.add_argument('--maxtext', nargs='*', default=[], help='further settings of MaxText, as name=value')
  flags.add_argument('--pairs', type=int, default=5)
  flags.add_argument('--steps', type=int, default=6)
  options = flags.parse_args()
  env = os.environ | {'DECOUPLE_GCLOUD': 'TRUE', 'JAX_PLATFORMS': 'cpu'}
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    python = options.ours_python or options.maxtext_python
    commands = (
      maxtext_command(options.maxtext_python, folder, options.maxtext),
      [python, str(HERE / 'step.py'), '--each', f'--steps={MANY}', options.variant],
    )
    processes = []
    for command in commands:
      processes.append(Process(command, env, folder))
      stack.callback(processes[-1].close)
      processes[-1].turn(1)
    pairs = []
    for number in range(options.pairs):
      pairs.append([process.turn(options.steps) for process in processes])
      (secs, cpu), (our_secs, our_cpu) = pairs[-1]
      print(
        f'pair {number}: MaxText {secs:.3f} s/step {cpu:.3f} CPU-s, ours {our_secs:.3f} s/step {our_cpu:.3f} CPU-s, '
        f'MaxText / ours {secs / our_secs:.3f}', flush=True,
      )  # fmt: skip
  for name, pick in {'wall': 0, 'CPU': 1}.items():
    both = [(a[pick], b[pick]) for a, b in pairs]
    print(
      f'{name} seconds a step: MaxText {spread([a for a, _ in both])}, ours {spread([b for _, b in both])}, '
      f'MaxText / ours {spread([a / b for a, b in both])}'
    )


if __name__ == '__main__':
  main()
