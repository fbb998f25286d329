"""The heavy libraries, set up once and quietly, before a command uses them."""

import os

import jax
import tensorflow as tf


def libraries() -> None:
  """Keeps TensorFlow off accelerators, and JAX from starving virtual CPU devices."""
  tf.config.set_visible_devices([], 'GPU')  # TensorFlow only prepares rows
  tf.constant(0)  # it looks for devices now, while its greetings are kept off the terminal
  if 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', ''):
    # Virtual devices share the cores: two programs in flight can starve each other's collectives of threads.
    jax.config.update('jax_cpu_enable_async_dispatch', False)
