"""A process that has imported everything and begun nothing: it forks a run in milliseconds. See `runs`.

It reads a line of JSON for each command and answers with one: {'argv', 'environment', 'log', 'processes', 'slow'}
starts a run, {'wait': pid} waits for its end. JAX and TensorFlow start threads when they are first used, so only the
copies use them.
"""

import json
import os
import sys
import time
import traceback

from unmask.launch import cli, loop, replaying, start, train  # noqa: F401  what runs need


def _run(order: dict) -> int:
  """The copy: never returns to the loop below."""
  log = os.open(order['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
  os.dup2(log, 1)
  os.dup2(log, 2)
  os.close(0)
  os.environ.update(order['environment'])
  if order['processes']:
    import jax

    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    # A process that a test stops sends no heartbeats: JAX would abort the others before our watchdog, or after it.
    jax.distributed.initialize(*order['processes'], heartbeat_timeout_seconds=600)
  if order['slow']:
    _make_slow(order['slow'])
  try:
    return cli.main(order['argv'])
  except BaseException:
    traceback.print_exc()
    return 1
  finally:
    sys.stdout.flush()
    sys.stderr.flush()


def _make_slow(seconds: float) -> None:
  """A disk on which it takes so long until a checkpoint that is written has its name."""
  rename = os.rename

  def slowly(source, target, **more) -> None:
    if 'checkpoint' in str(source):
      time.sleep(seconds)
    rename(source, target, **more)

  os.rename = slowly


def _serve() -> None:
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # whatever a library prints is no answer
  for line in sys.stdin:
    order = json.loads(line)
    if 'wait' in order:
      _, status = os.waitpid(order['wait'], 0)
      answer = os.waitstatus_to_exitcode(status)
    else:
      answer = os.fork()
      if answer == 0:
        status = _run(order)
        if order['processes']:
          sys.exit(status)  # JAX leaves the others in good order
        os._exit(status)
    answers.write(f'{answer}\n')
    answers.flush()


if __name__ == '__main__':
  _serve()
