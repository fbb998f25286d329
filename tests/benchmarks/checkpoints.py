"""What an asynchronous checkpoint adds to the time of the updates beside it, as a ratio in one run.

    python tests/benchmarks/checkpoints.py [--period=100] [--turns=9] [--config=embed_dim=256,...] [--folder=PATH]

Windows of `period` updates with and without a checkpoint at their beginning take turns, so that a noisy neighbour slows
both; medians are printed, with the smallest and the largest. The record of digests is part of it.
"""

import argparse
import ast
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from unmask.launch import checkpoints, optimizers, saving
from unmask.launch import mesh as mesh_lib
from unmask.launch import state as state_lib
from unmask.launch.program import Program
from unmask.models.config import DecoderConfig
from unmask.objectives.next_token import NextToken

TINY = 'embed_dim=128,num_layers=4,num_heads=4,num_kv_heads=2,head_dim=32,mlp_dim=384,vocab_size=8192'


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--period', type=int, default=100, help='updates between checkpoints')
  flags.add_argument('--turns', type=int, default=9)
  flags.add_argument('--batch', type=int, default=16)
  flags.add_argument('--length', type=int, default=128)
  flags.add_argument('--config', default=TINY, help='fields of DecoderConfig')
  flags.add_argument('--folder', default=None, help='a folder on the disk to be measured')
  given = flags.parse_args()
  fields = dict(pair.split('=', 1) for pair in given.config.split(','))
  program = Program(
    model=DecoderConfig(**{name: ast.literal_eval(value) for name, value in fields.items()}),
    objective=NextToken(),
    text_length=given.length,
    batch_size=given.batch,
    optimizer=optimizers.Optimizer().build(10_000),
    mesh=mesh_lib.MeshConfig().build(),
  )
  update = program.compile()
  state = state_lib.create(program.decoder, program.optimizer, program.mesh, 0)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  print(f'{program.parameters():,} parameters, {size / 1e6:.1f} MB a checkpoint, {given.period} updates a window')
  batch = {name: np.ones(shape.shape, shape.dtype) for name, shape in program.batch_shapes().items()}
  batch = mesh_lib.put_batch(program.mesh, batch)
  sound = jax.device_put(np.bool_(True), mesh_lib.replicated(program.mesh))
  seconds: dict[bool, list[float]] = {True: [], False: []}
  with tempfile.TemporaryDirectory(dir=given.folder) as folder:
    saved = saving.Saver(folder, checkpoints.CheckpointPolicy(period=given.period))
    for turn in range(2 * given.turns + 2):
      saves, began = turn % 2 == 1, time.perf_counter()
      for number in range(given.period):
        state, metrics = update(state, batch, sound)
        float(metrics['loss'])
        saved.due(number, last=False)
        if saves and number == 0:
          saved.save(state, turn, {'batches': turn})
      if turn >= 2:  # the first two warm up
        seconds[saves].append(time.perf_counter() - began)
      saved.wait()  # what a window left is no other window's
      saved._record(None)
    bytes_on_disk = sum(path.stat().st_size for path in pathlib.Path(folder).rglob('*') if path.is_file())
    saved.close()
  ratios = sorted(one / other for one, other in zip(seconds[True], seconds[False], strict=True))
  step = statistics.median(seconds[False]) / given.period
  print(f'update {step * 1e3:.1f} ms; with a checkpoint every {given.period} updates')
  print(f'{statistics.median(ratios):.3f} of the time without ({ratios[0]:.3f} to {ratios[-1]:.3f})')
  print(f'{bytes_on_disk / 1e6 / 3:.1f} MB on disk a checkpoint')


if __name__ == '__main__':
  main()
