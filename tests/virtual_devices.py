"""XLA's flags for tests: so many CPU devices, and code that is quick to make rather than quick to run.

Tests compile far longer than they compute. Without LLVM's optimisations the sharding tests take 157 CPU-seconds in
place of 358; partitioning, fusion and what is counted in the compiled text happen before LLVM and stay as they are.
"""


def many(devices: int) -> str:
  """What XLA_FLAGS is to say to a process that runs long, or finds its programs compiled."""
  return f'--xla_force_host_platform_device_count={devices}'


def flags(devices: int) -> str:
  """What XLA_FLAGS is to say to a process that compiles."""
  return f'{many(devices)} --xla_backend_optimization_level=0'
