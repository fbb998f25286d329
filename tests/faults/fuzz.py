"""Any number of cases by hand, on eight virtual devices; a case that fails is run again by its number.

    python tests/faults/fuzz.py --cases=1000 --seed=1 [--first=0]

A thousand take some 15 minutes on a core. Prints each case, and for one that went wrong all that is known of it.
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8'.strip()
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

if __name__ == '__main__':
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--cases', type=int, default=1000)
  flags.add_argument('--seed', type=int, default=1)
  flags.add_argument('--first', type=int, default=0)
  options = flags.parse_args()
  import fuzzing

  with tempfile.TemporaryDirectory() as place:
    numbers = range(options.first, options.first + options.cases)
    try:
      print(fuzzing.run_all(pathlib.Path(place) / 'fuzz', options.seed, numbers, lambda line: print(line, flush=True)))
    except AssertionError as error:
      sys.exit(str(error).split('\n')[0])
