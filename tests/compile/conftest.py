"""The variables of `unmask precompile`. TPU's compiler leaves others behind, which tell later runs of a TPU VM."""

import os
from collections.abc import Iterator

import pytest
from unmask.launch import precompile


@pytest.fixture(scope='module', autouse=True)
def _environment() -> Iterator[None]:
  before = dict(os.environ)
  os.environ.update(precompile.ENVIRONMENT)
  yield
  for name in ('TPU_WORKER_ID', 'TPU_WORKER_HOSTNAMES', 'TPU_ACCELERATOR_TYPE', *os.environ):
    if name not in before:
      os.environ.pop(name, None)
      os.unsetenv(name)  # libtpu sets some behind Python's back
  os.environ.update(before)
