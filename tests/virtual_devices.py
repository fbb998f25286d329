"""XLA's flags for tests: so many CPU devices, and code that is quick to make rather than quick to run.

Tests compile far longer than they compute. Without LLVM's optimisations the sharding tests take 157 CPU-seconds in
place of 358; partitioning, fusion and what is counted in the compiled text happen before LLVM and stay as they are.
"""

_DEVICES = '--xla_force_host_platform_device_count'


def many(devices: int) -> str:
  """What XLA_FLAGS is to say to a process that runs hundreds of updates: level 1 compiles faster, and runs as fast."""
  return f'{_DEVICES}={devices} --xla_backend_optimization_level=1'


def flags(devices: int) -> str:
  """What XLA_FLAGS is to say to a process that mostly compiles."""
  return f'{_DEVICES}={devices} --xla_backend_optimization_level=0'
