"""`unmask` as a script that starts at once: a process that has imported everything forks a copy for each that asks.

To whoever starts the script, it is the command: its standard output, environment, folder, signals and status are the
copy's. The copies write down which files they write, in $HOME/writes.
"""

import contextlib
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator

import virtual_devices

SCRIPT = f"""#!{sys.executable} -S
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(os.environ['FORKS'])
order = {{'argv': sys.argv[1:], 'environment': dict(os.environ), 'folder': os.getcwd()}}
socket.send_fds(server, [json.dumps(order).encode()], [1, 2])
copy = int(server.recv(20))
signal.signal(signal.SIGTERM, lambda number, frame: os.kill(copy, number))
status = int(server.recv(20) or -9)
sys.exit(status if status >= 0 else 128 - status)
"""


@contextlib.contextmanager
def server(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """Inside, the script works where the variables that this gives are set; compiled programs are kept in `folder`."""
  address = str(folder / 'forks')
  cache = {'JAX_ENABLE_COMPILATION_CACHE': 'true', 'JAX_COMPILATION_CACHE_DIR': str(folder / 'xla')}
  own = cache | {'FORKS': address, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': virtual_devices.many(1)}
  command = [sys.executable, __file__, address]
  with open(folder / 'forks.log', 'w') as log:
    process = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, stderr=log)
  try:
    assert process.stdout.readline() == b'ready\n', (folder / 'forks.log').read_text()
    yield own
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def _serve(address: str) -> None:
  from unmask.launch import cli, loop, start, train  # noqa: F401  what runs need

  listener = socket.socket(socket.AF_UNIX)
  listener.bind(address)
  listener.listen()
  print('ready', flush=True)
  running: dict[int, socket.socket] = {}
  while True:
    ready, _, _ = select.select([listener, *running.values()], [], [], 0.05)
    if listener in ready:
      asker, _ = listener.accept()
      text, descriptors, _, _ = socket.recv_fds(asker, 1 << 20, 2)
      copy = os.fork()
      if copy == 0:
        _run(json.loads(text), descriptors, cli.main)
      for descriptor in descriptors:
        os.close(descriptor)
      running[copy] = asker
      asker.send(f'{copy}'.encode())
    for copy, asker in list(running.items()):
      if asker in ready:  # the script was killed: nothing else comes from it
        os.kill(copy, 9)
      ended, status = os.waitpid(copy, os.WNOHANG)
      if ended:
        with contextlib.suppress(OSError):
          asker.send(f'{os.waitstatus_to_exitcode(status)}'.encode())
        asker.close()
        del running[copy]


def _run(order: dict, descriptors: list[int], main) -> None:
  """The copy; never returns."""
  for target, descriptor in enumerate(descriptors, 1):
    os.dup2(descriptor, target)
  os.environ.clear()
  os.environ.update(order['environment'])
  os.chdir(order['folder'])
  writes = open(os.path.join(os.environ['HOME'], 'writes'), 'a', buffering=1)  # noqa: SIM115  for good

  def heard(event: str, arguments: tuple) -> None:
    if event == 'open' and isinstance(arguments[0], str | bytes) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
      writes.write(f'{os.fsdecode(arguments[0])}\n')

  sys.addaudithook(heard)
  status = 1
  try:
    status = main(order['argv'])
  except BaseException:
    traceback.print_exc()
  sys.stdout.flush()
  sys.exit(status)  # JAX leaves the others in good order


if __name__ == '__main__':
  _serve(sys.argv[1])
