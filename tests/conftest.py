"""Eight virtual CPU devices, and corpora that tests share."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
from collections.abc import Iterator

import virtual_devices

os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {virtual_devices.flags(8)}'.strip()
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'  # nothing that is tested comes from an earlier run

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
# Eight devices share two cores: two programs in flight can starve each other's collectives of threads.
jax.config.update('jax_cpu_enable_async_dispatch', False)

ROOT = pathlib.Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
  """One process at a time: workers share what is built under data/."""
  (ROOT / 'data').mkdir(exist_ok=True)
  with open(ROOT / 'data' / f'.{name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


@pytest.fixture(scope='session')
def kept_programs(tmp_path_factory) -> pathlib.Path:
  """A folder of compiled programs that all workers of a session fill: many runs are of one tiny decoder."""
  session = tmp_path_factory.getbasetemp()
  folder = (session.parent if 'PYTEST_XDIST_WORKER' in os.environ else session) / 'xla'
  folder.mkdir(exist_ok=True)
  return folder


@pytest.fixture(scope='session')
def default_task():
  """The default corpus, prepared under data/ as `make ablation` does it."""
  from unmask.tasks import default_text, text_task

  corpus = default_text.DefaultText(download_dir=str(ROOT / 'data' / 'downloads'))
  task = text_task.TextTask(name='default_text', corpus=corpus, data_dir=str(ROOT / 'data'))
  with _alone('default_text'):
    task.prepare(say=lambda line: None)
  return task


@pytest.fixture(scope='session')
def tiny_task(default_task):
  """The same corpus with 1,024 ids, prepared as `runs.TINY` wants it: an update takes a quarter of the time."""
  task = dataclasses.replace(default_task, vocabulary_size=1024)
  with _alone('default_text'):
    task.prepare(say=lambda line: None)
  return task


@pytest.fixture(scope='session')
def default_source(default_task):
  """Rows of 64 tokens of the default corpus."""
  from unmask.tasks import pipeline

  return pipeline.Pipeline(
    mixture_or_task_name='default_text', task_feature_lengths={'targets': 64}, task=default_task
  ).open(say=lambda line: None)


@pytest.fixture(scope='session')
def small_text(default_task, tmp_path_factory) -> str:
  """A glob of text files: 300 documents of the default corpus, one a file."""
  folder = tmp_path_factory.mktemp('small_text')
  for number, document in zip(range(300), default_task.corpus.documents(), strict=False):
    (folder / f'{number:03d}.txt').write_text(document['text'], encoding='utf-8')
  return str(folder / '*.txt')


@pytest.fixture(scope='session')
def transformers(tmp_path_factory):
  """Hugging Face's libraries, in a process of their own."""
  import hugging_face

  with hugging_face.transformers(tmp_path_factory.mktemp('hugging_face')) as side:
    yield side


@pytest.fixture(scope='session')
def zygote(default_task, tiny_task, kept_programs, tmp_path_factory):
  """Starts training processes in milliseconds: `tests/faults/runs.py`."""
  import runs

  with runs.zygote(tmp_path_factory.mktemp('zygote'), kept_programs) as made:
    yield made


@pytest.fixture
def seqio_registry() -> Iterator[None]:
  """Leaves seqio's registry and cache folders as they were."""
  import seqio

  before, folders = set(seqio.TaskRegistry.names()), list(seqio.utils.get_global_cache_dirs())
  yield
  for name in set(seqio.TaskRegistry.names()) - before:
    seqio.TaskRegistry.remove(name)
  seqio.utils.set_global_cache_dirs(folders)
