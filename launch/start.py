"""The heavy libraries, set up once and quietly, before a command uses them."""

import hashlib
import os
import platform

import jax
import tensorflow as tf
from jax.experimental.compilation_cache import compilation_cache


def libraries() -> None:
  """Keeps TensorFlow off accelerators, JAX from starving virtual CPU devices, and compiled programs for next time."""
  tf.config.set_visible_devices([], 'GPU')  # TensorFlow only prepares rows
  tf.constant(0)  # it looks for devices now, while its greetings are kept off the terminal
  if 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', ''):
    # Virtual devices share the cores: two programs in flight can starve each other's collectives of threads.
    jax.config.update('jax_cpu_enable_async_dispatch', False)
  cache()


def cache(folder: str | None = None) -> None:
  """Where compiled programs are kept, and found by the next process that needs the same.

  Programs of every size are kept. A folder that cannot be written is done without.

  Args:
    folder: '' keeps nothing; None is what JAX_COMPILATION_CACHE_DIR says, else 'unmask/xla' in the user's cache folder
      (XDG_CACHE_HOME, ~/.cache). In it each kind of processor has a folder of its own: code that XLA compiled for the
      host uses all the instructions it found there.
  """
  folder = place() if folder is None else folder
  if folder:
    try:
      os.makedirs(folder, exist_ok=True)
    except OSError:
      folder = ''
    if not os.access(folder, os.W_OK | os.X_OK):
      folder = ''
  if folder != (jax.config.values['jax_compilation_cache_dir'] or ''):
    compilation_cache.reset_cache()  # JAX would go on with the one it has opened
  jax.config.update('jax_compilation_cache_dir', folder or None)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  if 'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES' not in os.environ:
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def place() -> str:
  """Where compiled programs are kept unless something else is asked for; '' for nowhere."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return os.environ['JAX_COMPILATION_CACHE_DIR']
  home = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
  return os.path.join(home, 'unmask', 'xla', _processor())


def _processor() -> str:
  """A name for the host's instruction set, the same on processors that can run the same code."""
  features = ''
  try:
    with open('/proc/cpuinfo') as file:
      lines = (line.partition(':') for line in file)
      features = next(value for name, _, value in lines if name.strip() in ('flags', 'Features'))
  except (OSError, StopIteration):
    pass
  known = f'{platform.machine()} {platform.processor()} {" ".join(sorted(features.split()))}'
  return f'{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:12]}'
