"""Random numbers as a hash of (run seed, epoch, example, stream, position): TensorFlow graph functions.

Stateless by construction, so a row's corruption does not depend on the batch it travels in, on how many calls run in
parallel, or on what ran before a restart. The mixer is a 32-bit finaliser with two multiply-xorshift rounds
(constants of C. Wellons' "lowbias32", found by search for low avalanche bias).
"""

import tensorflow as tf

_GOLDEN = 0x9E3779B9  # 2**32 / golden ratio: spreads consecutive counters apart before mixing


def _u32(value: int) -> tf.Tensor:
  return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def _xorshift(x: tf.Tensor, bits: int) -> tf.Tensor:
  return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _u32(bits)))


def mix(x: tf.Tensor) -> tf.Tensor:
  """A bijection of uint32 with good avalanche; any shape."""
  x = _xorshift(x, 16) * _u32(0x7FEB352D)
  x = _xorshift(x, 15) * _u32(0x846CA68B)
  return _xorshift(x, 16)


def row_seeds(seed: int, epoch: tf.Tensor, example_id: tf.Tensor) -> tf.Tensor:
  """One 64-bit seed a row.

  Args:
    seed: the run's seed, any Python int.
    epoch: int64 [batch], how often the corpus was read before.
    example_id: int64 [batch], the row's number in the corpus.

  Returns:
    uint32 [batch, 2].
  """
  low = tf.cast(tf.bitwise.bitwise_and(example_id, 0xFFFFFFFF), tf.uint32)
  high = tf.cast(tf.bitwise.right_shift(example_id, tf.constant(32, example_id.dtype)), tf.uint32)
  epoch = tf.cast(epoch, tf.uint32)
  lanes = []
  for lane in (0x243F6A88, 0x85A308D3):  # two unrelated constants (digits of pi): the lanes do not collide together
    # The seed is mixed before it meets the row's number: else row i of one seed would be row i ^ 1 of the next.
    x = mix(low ^ mix(_u32(seed ^ lane)))
    x = mix(x + mix(high ^ mix(_u32((seed >> 32) + lane))))
    lanes.append(mix(x + mix(epoch * _u32(_GOLDEN) + _u32(lane))))
  return tf.stack(lanes, axis=-1)


def bits(seeds: tf.Tensor, stream: int, counters: tf.Tensor | int) -> tf.Tensor:
  """Random bits, a pure function of (seed, stream, counter).

  Args:
    seeds: uint32 [batch, 2].
    stream: which use the numbers are for; unequal streams are independent.
    counters: int32 [n], or an int n that stands for 0..n - 1.

  Returns:
    uint32 [batch, n].
  """
  if isinstance(counters, int) or counters.shape.rank == 0:
    counters = tf.range(counters)
  x = tf.cast(counters, tf.uint32) * _u32(_GOLDEN) + _u32(stream * 0x632BE59B + 1)
  return mix(mix(seeds[:, :1] ^ x[tf.newaxis]) + seeds[:, 1:])


def uniform(seeds: tf.Tensor, stream: int, counters: tf.Tensor | int) -> tf.Tensor:
  """Uniform float32 in [0, 1), [batch, n], on a grid of 2**-24; arguments as `bits`."""
  return tf.cast(tf.bitwise.right_shift(bits(seeds, stream, counters), _u32(8)), tf.float32) * 2.0**-24


def integers(
  seeds: tf.Tensor, stream: int, counters: tf.Tensor | int, low: tf.Tensor | int, high: tf.Tensor | int
) -> tf.Tensor:
  """Uniform int32 in [low, high), [batch, n]; the bias of the multiply-shift is below (high - low) / 2**32.

  `low` and `high` may be int32 tensors, such as a row's length.
  """
  wide = tf.cast(bits(seeds, stream, counters), tf.int64) * tf.cast(high - low, tf.int64)
  return tf.cast(tf.bitwise.right_shift(wide, tf.constant(32, tf.int64)), tf.int32) + low


def shared(seed: tf.Tensor, number: tf.Tensor, stream: int) -> tf.Tensor:
  """A number in [0, 1) that all rows of one seed and one epoch, or step, share.

  Args:
    seed: int64 [batch], the run's.
    number: int64 [batch], of the epoch or the step.
    stream: as for `bits`.

  Returns:
    float64 [batch], on a grid of 2**-24.
  """
  return tf.cast(uniform(row_seeds(0, seed, number), stream, 1)[:, 0], tf.float64)
