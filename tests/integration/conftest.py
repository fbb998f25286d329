"""Compiled programs are kept for the session, as users' are: many runs here are of one tiny decoder."""

from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(scope='module', autouse=True)
def _compiled(kept_programs) -> Iterator[None]:
  jax.config.update('jax_enable_compilation_cache', True)
  with pytest.MonkeyPatch.context() as patch:  # for the processes that tests start
    patch.setenv('JAX_ENABLE_COMPILATION_CACHE', 'true')
    patch.setenv('JAX_COMPILATION_CACHE_DIR', str(kept_programs))
    yield
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()  # JAX asks only once whether there is one
