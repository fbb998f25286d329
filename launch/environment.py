"""What a run was trained on: devices, processor, versions, date. Figures of speed mean nothing without it."""

import datetime
import importlib.metadata
import json
import platform
import re

import jax

from . import files

NAME = 'environment.json'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'tensorflow', 'seqio', 'numpy')


def record(model_dir: str) -> None:
  """Writes 'environment.json' where there is none: a run that goes on elsewhere keeps what it began on."""
  path = files.path(model_dir) / NAME
  if not path.exists():
    files.write_atomically(path, json.dumps(facts(), indent=2))


def facts() -> dict:
  """{'date' (UTC), 'devices', 'device', 'platform', 'processes', 'host', 'python', 'versions': {package: version}}."""
  return {
    'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
    'devices': jax.device_count(),
    'device': jax.devices()[0].device_kind,
    'platform': jax.default_backend(),
    'processes': jax.process_count(),
    'host': f'{_processor()}, {platform.system()}',
    'python': platform.python_version(),
    'versions': {name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def _processor() -> str:
  """The processor's name where the system says it, else its kind."""
  try:
    with open('/proc/cpuinfo') as file:
      found = re.search(r'model name\s*: (.+)', file.read())
  except OSError:
    found = None
  return found[1] if found else platform.machine()


def peak_bytes() -> int | None:
  """The most memory that a device of this process held at once, of those backends that count it."""
  peaks = [(device.memory_stats() or {}).get('peak_bytes_in_use') for device in jax.local_devices()]
  return max((peak for peak in peaks if peak is not None), default=None)
