"""What the tests of faults share."""

from collections.abc import Iterator

import pytest
import runs


@pytest.fixture(scope='session')
def zygote(default_task, tmp_path_factory) -> Iterator[runs.Zygote]:
  with runs.zygote(tmp_path_factory.mktemp('zygote')) as made:
    yield made
