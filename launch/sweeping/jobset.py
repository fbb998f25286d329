"""Kubernetes JobSet (jobset.x-k8s.io/v1alpha2) for TPU slices of GKE: one JobSet a cell, one child job a slice.

Node selectors and the chips of a host: cloud.google.com/kubernetes-engine/docs/how-to/tpus. The failure policy:
jobset.sigs.k8s.io/docs/tasks/failure_policy.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ... import UserError
from .. import exits, slices
from . import engines
from .plans import Plan

_SELECTORS = {
  'v4': 'tpu-v4-podslice',
  'v5e': 'tpu-v5-lite-podslice',
  'v5p': 'tpu-v5p-slice',
  'v6e': 'tpu-v6e-slice',
}
_ONE_HOST = {(1, 1): 1, (2, 2): 4, (2, 4): 8}  # chips of the one host of a small v5e or v6e slice
_CHIPS_PER_HOST = 4  # of every other slice
_CONTAINER = 'train'
_GRACE_SECONDS = 60
_CRASHED = 1  # a traceback: it would only come again


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSet:
  """Writes JobSets.

  Attributes:
    folder: where they go.
    accelerator: a slice, 'v5e:4x4', or several, '2xv5e:4x4'.
    image: of the container, in which `unmask` is installed.
    spot: whether on nodes that may be taken away.
    service_account: of Kubernetes, that may write to the bucket; None for the namespace's own.
    most_restarts: after which a cell is given up.
  """

  SUBMIT: ClassVar[str] = 'kubectl apply --server-side -f FILE'

  folder: str
  accelerator: str
  image: str
  spot: bool = True
  service_account: str | None = None
  most_restarts: int = 100

  def check(self, place: str) -> None:
    """See `engines.Engine`."""
    engines.check_shared(place)
    self.hosts()

  @property
  def topology(self) -> slices.Topology:
    """The slices."""
    return slices.parse(self.accelerator, '--accelerator')

  def hosts(self) -> tuple[int, int]:
    """Of a slice: how many, and the chips of each; UserError for a slice that GKE has not."""
    sizes = self.topology.sizes
    chips = math.prod(sizes)
    if len(sizes) == 2 and chips <= 8:
      if sizes not in _ONE_HOST:
        raise UserError(f'--accelerator={self.accelerator}: small slices are 1x1, 2x2 and 2x4.')
      return 1, _ONE_HOST[sizes]
    if chips % _CHIPS_PER_HOST:
      raise UserError(
        f'--accelerator={self.accelerator}: {chips} chips are no whole number of hosts of {_CHIPS_PER_HOST}.'
      )
    return chips // _CHIPS_PER_HOST, _CHIPS_PER_HOST

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    """See `engines.Engine`."""
    hosts, chips = self.hosts()
    notes = [
      f'Each JobSet takes {self.topology.name}, {hosts} hosts of {chips} chips a slice: the cluster needs JobSet, and',
      'a node pool of that topology for each slice.',
      f'The image {self.image} must have `unmask` and the gin files that the commands name.',
    ]
    engines.write_files(self.folder, sweep, plans, self.document, self.SUBMIT, tuning, notes)

  def document(self, title: str, command: Sequence[str], model_dir: str) -> dict[str, Any]:
    """A JobSet."""
    return {
      'apiVersion': 'jobset.x-k8s.io/v1alpha2',
      'kind': 'JobSet',
      'metadata': {
        'name': title,
        'labels': {'app.kubernetes.io/name': 'unmask'},
        # One slice is one node pool: no child job may be spread over two.
        'annotations': {
          'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool',
          'unmask/model-dir': model_dir,
        },
      },
      'spec': {
        # Every host finds the others by name; GKE fills in TPU_WORKER_HOSTNAMES and TPU_WORKER_ID by this service.
        'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
        'failurePolicy': {
          'maxRestarts': self.most_restarts,
          'rules': [{'name': 'mend', 'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
        },
        'replicatedJobs': [
          {'name': 'slice', 'replicas': self.topology.slices, 'template': {'spec': self._job(command)}}
        ],
      },
    }

  def _job(self, command: Sequence[str]) -> dict[str, Any]:
    """A slice's job, a pod a host. What fails in one pod ends all, and the JobSet starts all again."""
    hosts, _ = self.hosts()
    mend = {'containerName': _CONTAINER, 'operator': 'In', 'values': [_CRASHED, exits.MISTAKE]}
    return {
      'parallelism': hosts,
      'completions': hosts,
      'completionMode': 'Indexed',
      'backoffLimit': 0,
      'podFailurePolicy': {'rules': [{'action': 'FailJob', 'onExitCodes': mend}]},
      'template': {'spec': self._pod(command)},
    }

  def _pod(self, command: Sequence[str]) -> dict[str, Any]:
    topology, (_, chips) = self.topology, self.hosts()
    selector = {
      'cloud.google.com/gke-tpu-accelerator': _SELECTORS[topology.kind],
      'cloud.google.com/gke-tpu-topology': 'x'.join(map(str, topology.sizes)),
    }
    container = {
      'name': _CONTAINER,
      'image': self.image,
      'command': ['unmask', 'train'],
      'args': list(command),
      'env': [{'name': 'PYTHONUNBUFFERED', 'value': '1'}],
      'resources': {'requests': {'google.com/tpu': chips}, 'limits': {'google.com/tpu': chips}},
    }
    account = {'serviceAccountName': self.service_account} if self.service_account else {}
    return account | {
      'restartPolicy': 'Never',
      'terminationGracePeriodSeconds': _GRACE_SECONDS,
      'nodeSelector': selector | ({'cloud.google.com/gke-spot': 'true'} if self.spot else {}),
      'containers': [container],
    }
