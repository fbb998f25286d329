"""What a TPU VM's metadata server says of its slice, and whether somebody listens at an address. Imports nothing heavy.

The attributes are those that JAX reads (jax/_src/clusters/cloud_tpu_cluster.py): 'worker-network-endpoints',
'agent-worker-number', 'tpu-env'.
"""

import os
import socket
import time
import urllib.error
import urllib.request

_TRIES = 3
_SECONDS = 5.0


def attribute(key: str) -> str | None:
  """An attribute of this machine; None if it has none of that name, or no metadata server."""
  server = os.environ.get('GCE_METADATA_HOST') or os.environ.get('GCE_METADATA_IP') or 'metadata.google.internal'
  address = f'http://{server}/computeMetadata/v1/instance/attributes/{key}'
  request = urllib.request.Request(address, headers={'Metadata-Flavor': 'Google'})
  direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine
  for number in range(_TRIES):
    try:
      with direct.open(request, timeout=_SECONDS) as answer:
        return answer.read().decode()
    except urllib.error.HTTPError as error:
      if error.code == 404:
        return None
    except OSError:
      pass
    if number + 1 < _TRIES:
      time.sleep(0.5 * 2**number)
  return None


def addresses(endpoints: str) -> list[str]:
  """Those of 'worker-network-endpoints': 'HOST,HOST' or, as older machines say it, 'NAME:ID:IP,...'."""
  parts = [endpoint.strip().split(':') for endpoint in endpoints.split(',') if endpoint.strip()]
  return [part[2] if len(part) == 3 else part[0] for part in parts]


def variables(text: str) -> dict[str, str]:
  """Those of 'tpu-env': a line each, NAME: 'VALUE'."""
  pairs = [line.partition(':') for line in text.split('\n') if ':' in line]
  return {name.strip(): value.strip().strip("'") for name, _, value in pairs}


def answers(address: str, seconds: float) -> bool:
  """Whether somebody accepts connections at 'HOST:PORT', within so many seconds."""
  host, _, port = address.rpartition(':')
  end = time.monotonic() + seconds
  while True:
    try:
      with socket.create_connection((host.strip('[]'), int(port)), timeout=_SECONDS):
        return True
    except OSError:
      if time.monotonic() > end:
        return False
      time.sleep(0.2)
