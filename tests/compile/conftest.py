"""TPU's compiler leaves variables behind that tell later runs of the same process that they are on a TPU VM."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope='module', autouse=True)
def _environment_as_it_was() -> Iterator[None]:
  before = dict(os.environ)
  yield
  for name in ('TPU_WORKER_ID', 'TPU_WORKER_HOSTNAMES', 'TPU_ACCELERATOR_TYPE', *os.environ):
    if name not in before:
      os.environ.pop(name, None)
      os.unsetenv(name)  # libtpu sets some behind Python's back
  os.environ.update(before)
