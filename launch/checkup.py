"""What unmask needs of a machine, looked at one by one, each with the command that mends it."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import packaging.requirements
import rich.console
import rich.markup
import rich.table

from . import exits

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_GIB = 2**30
_LOW_DISK = 2 * _GIB  # the default corpus, its cache and a few tiny runs take less than 1 GiB
# What is there for one purpose each: module, what it is for, the extra of the package that brings it.
_OPTIONAL = (
  ('libtpu', 'unmask precompile for TPU slices', 'precompile'),
  ('tokenizers', "vocabularies of Hugging Face's kind", 'hf'),
  ('gcsfs', 'runs in a bucket, gs://', 'gcs'),
  ('spacy', 'salient spans by a trained tagger', 'spacy'),
  ('apache_beam', 'corpora and lexicons on a cluster', 'beam'),
  ('wandb', 'Weights & Biases', 'wandb'),
)


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was looked at.

  Attributes:
    name: of the thing.
    state: 'ok'; 'note', which some would mend; 'missing', an optional part; 'broken', without which nothing works.
    said: what was found.
    mend: a command, or what to do; '' if nothing.
  """

  name: str
  state: Literal['ok', 'note', 'missing', 'broken']
  said: str
  mend: str = ''


def examine(data_dir: str, runs_dir: str) -> list[Finding]:
  """Looks at everything; an examination that fails is itself a finding."""
  found: list[Finding] = []
  looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
    ('Python', _python),
    ('packages', _packages),
    ('imports', _imports),
    ('devices', _devices),
    ('folders', lambda: _folders(data_dir, runs_dir)),
    ('optional parts', _optional),
  ]
  for name, look in looks:
    try:
      found += look()
    except Exception as error:  # whatever is wrong with a machine is what this is for
      found.append(Finding(name, 'broken', f'{type(error).__name__}: {error}'[:300], install()))
  return found


def show(found: list[Finding]) -> int:
  """Prints a table and a verdict; the exit status."""
  console = rich.console.Console(width=None if sys.stdout.isatty() else 160, highlight=False)
  table = rich.table.Table(box=None, pad_edge=False, show_header=False)
  colours = {'ok': 'green', 'note': 'yellow', 'missing': 'cyan', 'broken': 'bold red'}
  for one in found:
    mend = f'\n[bold]-> {rich.markup.escape(one.mend)}[/]' if one.mend else ''
    table.add_row(f'[{colours[one.state]}]{one.state}[/]', one.name, rich.markup.escape(one.said) + mend)
  with console.capture() as captured:
    console.print(table)
  print('\n'.join(line.rstrip() for line in captured.get().split('\n')), end='')
  broken = [one.name for one in found if one.state == 'broken']
  if broken:
    console.print(f'\n[bold red]Mend first:[/] {", ".join(broken)}.')
    return exits.MISTAKE
  more = '--gin_file=gin/objectives/mlm.gin --gin.MODEL_DIR=runs/mlm'
  console.print(f'\nReady: unmask train --gin_file=gin/runs/pretrain.gin {more}')
  return 0


def install(extra: str = '') -> str:
  """The command that installs what unmask, or one of its optional parts, runs on: of a checkout or of the package."""
  name = {'precompile': 'tpu-compile', 'hf': 'tokenizers'}.get(extra, extra)
  file = _ROOT / (f'requirements-{name}.txt' if extra else 'requirements.txt')
  if file.exists() and (_ROOT / 'constraints.txt').exists():
    return f'{sys.executable} -m pip install -c {_ROOT / "constraints.txt"} -r {file}'
  return f"{sys.executable} -m pip install 'unmask{f'[{extra}]' if extra else ''}'"


def _python() -> Iterator[Finding]:
  version = platform.python_version()
  if (3, 11) <= sys.version_info[:2] < (3, 13):
    yield Finding('Python', 'ok', f'{version}, {sys.executable}')
  else:
    yield Finding('Python', 'broken', f'{version}; 3.11 and 3.12 are supported', 'make PYTHON=python3.11 .venv/.run')


def _packages() -> Iterator[Finding]:
  """Each requirement of the installed package against what is there."""
  for line in importlib.metadata.requires('unmask') or ():
    wanted = packaging.requirements.Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate({'extra': ''}):
      continue
    try:
      version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
      yield Finding(wanted.name, 'broken', f'not installed; {wanted.specifier or "any version"} is needed', install())
      continue
    if wanted.specifier.contains(version, prereleases=True):
      yield Finding(wanted.name, 'ok', version)
    else:
      yield Finding(wanted.name, 'broken', f'{version} is installed, {wanted.specifier} is needed', install())


def _imports() -> Iterator[Finding]:
  """Libraries that are known to be installed and yet not to work together."""
  gin = importlib.import_module('gin')  # looked at, not used
  if not hasattr(gin, 'parse_config'):
    mend = f'{sys.executable} -m pip uninstall -y gin && {install()}'
    yield Finding('gin', 'broken', f'{gin.__file__} is another project than gin-config', mend)
  for name in ('seqio', 'tensorflow_text', 'flax', 'optax', 'orbax.checkpoint'):
    try:
      importlib.import_module(name)
    except Exception as error:
      yield Finding(f'import {name}', 'broken', f'{type(error).__name__}: {error}'[:300], install())
  with contextlib.suppress(importlib.metadata.PackageNotFoundError):
    cpu = importlib.metadata.version('tensorflow-cpu')
    mend = f'{sys.executable} -m pip uninstall -y tensorflow-cpu tensorflow && {install()}'
    yield Finding(
      'tensorflow-cpu', 'note', f'{cpu} lies over tensorflow in one folder; tensorflow alone is needed', mend
    )


def _devices() -> Iterator[Finding]:
  """What JAX sees, and an accelerator that it does not."""
  import jax

  from . import devices, memory

  found = jax.devices()
  room, peak = memory.room(found[0]), devices.peak_of(found)
  has = f', {room / _GIB:,.1f} GiB each' if room else ''
  rate = f', peak {peak / 1e12:,.3g} TFLOP/s' if peak else ', of an unknown peak: no MFU is told'
  yield Finding('devices', 'ok', f'{len(found)} x {found[0].device_kind} ({jax.default_backend()}){has}{rate}')
  if jax.default_backend() == 'cpu':
    version = jax.__version__
    asked = os.environ.get('JAX_PLATFORMS')
    if pathlib.Path('/dev/nvidia0').exists() or pathlib.Path('/dev/dxg').exists():
      mend = 'unset JAX_PLATFORMS' if asked else f"{sys.executable} -m pip install 'jax[cuda12]=={version}'"
      yield Finding('GPU', 'note', 'there is one, and JAX does not use it', mend)
    if any(pathlib.Path('/dev').glob('accel[0-9]*')):
      mend = 'unset JAX_PLATFORMS' if asked else f"{sys.executable} -m pip install 'jax[tpu]=={version}'"
      yield Finding('TPU', 'note', 'there is one, and JAX does not use it', mend)


def _folders(data_dir: str, runs_dir: str) -> Iterator[Finding]:
  """Whether they can be written, and have room; a folder that is not there yet counts as its parent."""
  from . import start

  cache = start.place()
  for name, folder in (('corpora', data_dir), ('runs', runs_dir), ('compiled programs', cache)):
    if not folder:
      yield Finding(name, 'note', 'none are kept: each start compiles anew', 'unset JAX_COMPILATION_CACHE_DIR')
      continue
    there = pathlib.Path(folder).absolute()
    while not there.exists():
      there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
      state = 'note' if folder == cache else 'broken'
      yield Finding(name, state, f'{folder}: {there} cannot be written', f'chmod u+rwx {there}, or name another folder')
      continue
    free = shutil.disk_usage(there).free
    low = free < _LOW_DISK
    mend = 'make room, or name another folder' if low else ''
    yield Finding(name, 'note' if low else 'ok', f'{folder}, {free / _GIB:,.1f} GiB free', mend)
  count = len(list((_ROOT / 'gin').rglob('*.gin')))
  if count:
    yield Finding('gin files', 'ok', f'{count} in {_ROOT / "gin"}')
  else:
    yield Finding('gin files', 'broken', f'none in {_ROOT / "gin"}: the installation is not whole', install())


def _optional() -> Iterator[Finding]:
  for module, purpose, extra in _OPTIONAL:
    if importlib.util.find_spec(module):
      yield Finding(module, 'ok', purpose)
    else:
      yield Finding(module, 'missing', f'for {purpose}', install(extra))
