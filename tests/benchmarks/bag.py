"""What DupMAE's bag of words costs beside the output head's own loss over the same positions, with their gradients.

    python tests/benchmarks/bag.py [--rows=16] [--length=128] [--rounds=9]

Both take turns in one process, so that a noisy neighbour slows both; the bag pools the same logits by passages and
computes them twice. Printed: milliseconds of each (median) and their ratio in the same turn (median, smallest,
largest).
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from unmask.launch import state
from unmask.models import bag, head
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, default in (('rows', 16), ('length', 128), ('rounds', 9)):
    flags.add_argument(f'--{name}', type=int, default=default)
  how = flags.parse_args()
  config, rng, shape = DecoderConfig(vocab_size=8192, embed_dim=128), np.random.default_rng(0), (how.rows, how.length)
  params = state.unboxed(state.init_params(Decoder(config), jax.random.key(0)))
  hidden = jnp.asarray(rng.normal(size=(*shape, config.embed_dim)), jnp.float32)
  segments = jnp.asarray(np.sort(rng.integers(1, 4, shape), axis=1), jnp.int32)
  targets = jnp.asarray(rng.integers(0, config.vocab_size, shape), jnp.int32)
  weights = jnp.asarray(rng.random(shape), jnp.float32)
  pooled = jnp.ones(shape, bool)
  losses = {
    'head': lambda hidden, params: (head.score(hidden, targets, params, config).cross_entropy * weights).sum(),
    'bag': lambda hidden, params: (
      bag.cross_entropy(hidden, pooled, segments, targets, params, config) * weights
    ).sum(),
  }
  steps = {name: jax.jit(jax.grad(loss, argnums=(0, 1))) for name, loss in losses.items()}
  seconds: dict[str, list[float]] = {name: [] for name in steps}
  for turn in range(how.rounds + 1):
    for name, step in steps.items():
      start = time.perf_counter()
      jax.block_until_ready(step(hidden, params))
      if turn:  # the first one compiles
        seconds[name].append(time.perf_counter() - start)
  ratios = [bag / head for bag, head in zip(seconds['bag'], seconds['head'], strict=True)]
  for name, found in seconds.items():
    print(f'{name:5} {1e3 * statistics.median(found):8.1f} ms')
  print(f'ratio {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})')


if __name__ == '__main__':
  main()
