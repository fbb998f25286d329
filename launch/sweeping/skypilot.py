"""SkyPilot: a managed job a cell, for TPUs and GPUs of any cloud (docs.skypilot.co, managed jobs)."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from ... import UserError
from .. import slices
from . import engines
from .plans import Plan

# By kind of TPU: SkyPilot's name, how many of what it counts a chip has: v4 and v5p go by cores (cloud.google.com/tpu).
_TPU = re.compile(r'(\d+x)?v\d')
_GPUS = re.compile(r'[A-Za-z][\w.-]*(:[1-9]\d*)?')
_TPUS = {'v4': ('tpu-v4', 2), 'v5e': ('tpu-v5litepod', 1), 'v5p': ('tpu-v5p', 2), 'v6e': ('tpu-v6e', 1)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkyPilot:
  """Writes SkyPilot's task files.

  Attributes:
    folder: where they go.
    accelerator: a TPU slice such as 'v5e:4x4', or GPUs as SkyPilot names them, 'H100:8'.
    infra: where, as SkyPilot says it: 'gcp/us-west4', 'kubernetes'; None leaves it to SkyPilot.
    spot: whether on machines that may be taken away.
  """

  SUBMIT: ClassVar[str] = 'sky jobs launch --yes FILE'

  folder: str
  accelerator: str
  infra: str | None = None
  spot: bool = True

  def check(self, place: str) -> None:
    """See `engines.Engine`."""
    engines.check_shared(place)
    self.accelerators()

  def accelerators(self) -> str:
    """As SkyPilot names them."""
    if not _TPU.match(self.accelerator):
      if not _GPUS.fullmatch(self.accelerator):
        raise UserError(
          f'--accelerator={self.accelerator} is neither a TPU slice, such as v5e:4x4, nor GPUs as SkyPilot names them, '
          'such as H100:8.'
        )
      return self.accelerator
    topology = slices.parse(self.accelerator, '--accelerator')
    if topology.slices > 1:
      raise UserError(f'--accelerator={self.accelerator}: SkyPilot has no job of several slices; use --engine=jobset.')
    kind, cores = _TPUS[topology.kind]
    return f'{kind}-{topology.chips * cores}:1'

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    """See `engines.Engine`."""
    notes = [
      'A controller starts a job again whose machine is taken away (`sky jobs queue`, `sky jobs logs`). The present',
      'folder goes along as `workdir`: call `sky` from where `unmask sweep` was called. Credentials for the bucket are',
      'those of the machines.',
    ]
    engines.write_files(self.folder, sweep, plans, self.document, self.SUBMIT, tuning, notes)

  def document(self, title: str, command: Sequence[str], model_dir: str) -> dict[str, Any]:
    """A SkyPilot task."""
    del model_dir  # the command has it
    gpu = not self.accelerators().startswith('tpu-')
    extra = "'jax[cuda12]'" if gpu else '-r requirements-tpu-compile.txt'
    infra = {'infra': self.infra} if self.infra else {}
    resources = infra | {
      'accelerators': self.accelerators(),
      'use_spot': self.spot,
      'job_recovery': {
        'strategy': 'EAGER_NEXT_REGION',
        'max_restarts_on_errors': 0,
        'recover_on_exit_codes': list(engines.AGAIN),
      },
    }
    return {
      'name': title,
      'workdir': '.',
      'resources': resources,
      'setup': engines.Block(
        'pip install uv\n'
        'test -d .venv-job || uv venv --seed --python 3.12 .venv-job\n'
        f'.venv-job/bin/pip install -c constraints.txt -r requirements.txt -r requirements-gcs.txt {extra}\n'
        '.venv-job/bin/pip install --no-deps -e .\n'
      ),
      'run': engines.shell('.venv-job/bin/unmask train', command),
    }
