"""TensorFlow, started once and quietly, for the commands that read text."""

import tensorflow as tf


def tensorflow_on_cpu() -> None:
  """Keeps TensorFlow, which only prepares rows, off accelerators; call it before anything else uses TensorFlow."""
  tf.config.set_visible_devices([], 'GPU')
  tf.constant(0)  # TensorFlow looks for devices now, while its greetings are kept off the terminal
