"""Real training processes for the tests of faults: quick to start, killed or signalled at will."""

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import virtual_devices
from etils import epath
from tiny_decoder import DECODER
from unmask.launch import checkpoints, meters, metrics

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = DECODER | {
  'BATCH_SIZE': 8,
  'EVAL_PERIOD': 0,
  'Evaluation.batches': 1,
  'TASK_FEATURE_LENGTHS': "{'targets': 64}",
  'VOCABULARY_SIZE': 1024,  # see conftest's tiny_task
  'DATA_DIR': str(ROOT / 'data'),
  'DOWNLOAD_DIR': str(ROOT / 'data' / 'downloads'),
  'train.log_period': 1,
}
PATIENCE = 240  # seconds for a run that should end


@dataclasses.dataclass
class Run:
  """A process that trains.

  Attributes:
    pid: its process id.
    log: what it prints.
  """

  zygote: 'Zygote'
  pid: int
  log: pathlib.Path

  def wait(self, seconds: float = PATIENCE) -> int:
    """Its exit status, negative for a signal; AssertionError with what it said if it does not end."""
    try:
      return self.zygote.ask({'wait': self.pid}, seconds)
    except TimeoutError as error:
      self.signal(signal.SIGKILL)
      self.zygote.answer(30)
      raise AssertionError(f'still there after {seconds} s:\n{self.said()[-3000:]}') from error

  def signal(self, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.pid, number)

  def said(self) -> str:
    return self.log.read_text(errors='replace') if self.log.exists() else ''

  def until(self, happens: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Waits until something happens while it runs; AssertionError if it does not."""
    end = time.monotonic() + seconds
    while not happens():
      assert time.monotonic() < end, f'it did not happen:\n{self.said()[-3000:]}'
      time.sleep(0.02)


class Zygote:
  """Starts runs; see `zygote.py`."""

  def __init__(self, folder: pathlib.Path, programs: pathlib.Path):
    """Logs go to `folder`; compiled programs are kept in `programs`: a run starts as on a machine that knows it."""
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_ENABLE_COMPILATION_CACHE': 'true',
      'JAX_COMPILATION_CACHE_DIR': str(programs),
    }
    self._logs = 0
    self._folder = folder
    with open(folder / 'zygote.log', 'w') as log:
      self._process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tests' / 'faults' / 'zygote.py')],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
      )

  def start(
    self,
    model_dir: pathlib.Path | str,
    objective: str = 'next_token',
    devices: int = 1,
    processes: tuple | None = None,
    files: tuple[str, ...] = (),
    slow: float = 0.0,
    environment: dict[str, str] | None = None,
    **bindings,
  ) -> Run:
    """Begins `unmask train` of the tiny decoder; `bindings` override those of TINY, `slow` is as in `zygote`."""
    given = TINY | {'MODEL_DIR': str(model_dir)} | bindings
    argv = ['train', '--gin_file=gin/runs/pretrain.gin', f'--gin_file=gin/objectives/{objective}.gin']
    argv += [f'--gin_file={file}' for file in files] + [f'--gin.{name}={value}' for name, value in given.items()]
    return self.command(argv, devices, processes, slow, environment)

  def command(
    self,
    argv: list[str],
    devices: int = 1,
    processes: tuple | None = None,
    slow: float = 0.0,
    environment: dict[str, str] | None = None,
  ) -> Run:
    """Begins any command; `environment` is added to this process's."""
    self._logs += 1
    log = self._folder / f'run-{self._logs}.log'
    environment = {'XLA_FLAGS': virtual_devices.many(devices)} | (environment or {})
    order = {'argv': argv, 'environment': environment, 'log': str(log), 'processes': processes, 'slow': slow}
    return Run(self, self.ask(order, 120), log)

  def train(self, model_dir: pathlib.Path | str, *arguments, expect: int = 0, **more) -> str:
    """A whole run; returns what it said."""
    run = self.start(model_dir, *arguments, **more)
    status = run.wait()
    assert status == expect, f'status {status}:\n{run.said()[-3000:]}'
    return run.said()

  def ask(self, order: dict, seconds: float) -> int:
    self._process.stdin.write(json.dumps(order).encode() + b'\n')
    self._process.stdin.flush()
    return self.answer(seconds)

  def answer(self, seconds: float) -> int:
    """TimeoutError if there is none in time."""
    if not select.select([self._process.stdout], [], [], seconds)[0]:
      raise TimeoutError
    return int(self._process.stdout.readline())

  def close(self) -> None:
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.kill()
    self._process.wait()


@contextlib.contextmanager
def zygote(folder: pathlib.Path, programs: pathlib.Path) -> Iterator[Zygote]:
  made = Zygote(folder, programs)
  try:
    yield made
  finally:
    made.close()


def free_address() -> str:
  """Where processes can meet."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{probe.getsockname()[1]}'


def steps(model_dir: pathlib.Path) -> list[int]:
  """Of the whole checkpoints there are."""
  return sorted(int(path.name) for path in (model_dir / 'checkpoints').glob('*') if path.name.isdigit())


def final(model_dir: pathlib.Path, step: int | None = None) -> tuple[int, dict, dict]:
  """Step, state as NumPy arrays by path, and position without its seconds, of a checkpoint: the newest sound one."""
  import orbax.checkpoint as ocp

  saved = checkpoints.Checkpoints(str(model_dir))
  items = ocp.args.Composite(state=ocp.args.StandardRestore(), position=ocp.args.JsonRestore())
  step, found = saved._newest(items) if step is None else (step, saved._manager.restore(step, args=items))
  saved.close()
  leaves = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(found.state)}
  return step, leaves, {name: value for name, value in found.position.items() if name != 'seconds'}


def arrays(state: pathlib.Path) -> dict[str, np.ndarray]:
  """A checkpoint's folder 'state' by path, put together from the parts of however many processes wrote it."""
  import orbax.checkpoint as ocp

  reader = ocp.PyTreeCheckpointHandler()
  tree = reader.metadata(epath.Path(state)).tree
  whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  found = reader.restore(epath.Path(state), args=ocp.args.PyTreeRestore(restore_args=whole))
  reader.close()
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}


def lines(model_dir: pathlib.Path) -> list[dict]:
  """The metrics of a run, without what depends on the machine and its day."""
  return [
    {name: value for name, value in row.items() if name not in meters.RATES} for row in metrics.read(str(model_dir))
  ]


def assert_same(one: pathlib.Path, other: pathlib.Path) -> None:
  """Two runs ended with the same bits, and tell the same story."""
  (step, state, position), (other_step, other_state, other_position) = final(one), final(other)
  assert (step, position) == (other_step, other_position)
  assert_same_arrays(state, other_state)
  assert lines(one) == lines(other)


def assert_same_arrays(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
  """To the bit, by name."""
  assert one.keys() == other.keys()
  for name, leaf in one.items():
    np.testing.assert_array_equal(leaf, other[name], err_msg=name)
