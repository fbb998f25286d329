"""Steps a second of the decoder's training step on generated rows, several variants side by side.

    python tests/benchmarks/step.py [--size=small] [--batch=8] [--length=256] [VARIANT ...]

Needs jax, flax and optax alone: no TensorFlow, no text, no installed package. A VARIANT is what is scored, then fields
of DecoderConfig to change, comma-separated:

    causal                            next-token prediction: causal attention, every position scored
    bidirectional                     masked language modelling: attention to both sides, 15 % of positions scored
    causal,scan_unroll=4,remat=full   the first with other settings
    bidirectional,scored=1.0          another share of scored positions

Variants and a plain matrix product take turns, `--rounds` times, so that a noisy neighbour slows all of them. For each:
seconds a step (median of the turns), tokens/s, model TFLOP/s (`DecoderConfig.train_flops`), MFU against the device's
published bfloat16 peak where it is known, the share of the matrix product's rate in the same turn, CPU-seconds a step,
and its time over the first variant's in the same turn (median, smallest, largest) beside the ratio of their FLOPs.

`--size` is 'small' (256 wide, 4 layers, vocabulary 8,192 untied: the shape of maxtext_step.py) or a file of gin/models.
"""
# ruff: noqa: E402 (the package is found before it is imported)

import argparse
import ast
import dataclasses
import importlib.util
import os
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
if importlib.util.find_spec('unmask') is None:  # not installed: the checkout is the package, whatever its name
  spec = importlib.util.spec_from_file_location('unmask', ROOT / '__init__.py', submodule_search_locations=[str(ROOT)])
  sys.modules['unmask'] = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sys.modules['unmask'])

from unmask.launch import devices, optimizers, state, step
from unmask.launch import mesh as mesh_lib
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import loss
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, AttentionSpec

SMALL = DecoderConfig(
  vocab_size=8192, embed_dim=256, num_layers=4, num_heads=4, num_kv_heads=4, head_dim=64, mlp_dim=1024,
  tied_embeddings=False,
)  # fmt: skip
KINDS = {'causal': (CAUSAL, 1.0), 'bidirectional': (BIDIRECTIONAL, 0.15)}


@dataclasses.dataclass(frozen=True)
class Objective:
  """The parts of an objective that the step needs."""

  attention: AttentionSpec
  more_features: tuple[str, ...] = ()

  def loss(self, cross_entropy, weights, batch):
    del batch
    return loss.weighted_cross_entropy(cross_entropy, weights)

  def counts(self, batch):
    del batch
    return {}


@dataclasses.dataclass(frozen=True)
class Variant:
  """One decoder and what it is scored on."""

  name: str
  config: DecoderConfig
  attention: AttentionSpec
  scored_frac: float

  @classmethod
  def parse(cls, text: str, base: DecoderConfig) -> 'Variant':
    """A VARIANT of the command line."""
    kind, *fields = text.split(',')
    changes = {name: _literal(value) for name, value in (field.split('=') for field in fields)}
    attention, frac = KINDS[kind]
    return cls(text, dataclasses.replace(base, **{k: v for k, v in changes.items() if k != 'scored'}), attention,
               float(changes.get('scored', frac)))  # fmt: skip

  def scored(self, length: int) -> int:
    """Scored positions of a row, as MaskedLM.max_supervised counts them."""
    return max(1, round(length * self.scored_frac))

  def flops(self, batch: int, length: int) -> float:
    """Model FLOPs of one step."""
    visible = self.attention.visible_share(length)
    return batch * self.config.train_flops(length, self.scored(length), length, visible)

  def batch(self, batch: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tokens, one segment a row; each row's scored positions are drawn anew."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, self.config.vocab_size, (2, batch, length), np.int32)
    weights = random.random((batch, length)).argsort(axis=1) < self.scored(length)
    return {
      'decoder_input_tokens': tokens[0],
      'decoder_target_tokens': tokens[1],
      'decoder_loss_weights': weights.astype(np.float32),
      'decoder_segment_ids': np.ones((batch, length), np.int32),
      'decoder_positions': np.tile(np.arange(length, dtype=np.int32), (batch, 1)),
      'text_tokens': np.full(batch, length, np.int32),
    }


def _literal(text: str):
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def size(name: str) -> DecoderConfig:
  """'small', or the configuration in gin/models/NAME.gin with a vocabulary of 32,768 ids."""
  if name == 'small':
    return SMALL
  text = (ROOT / 'gin' / 'models' / f'{name}.gin').read_text()
  fields = re.findall(r'^config\.DecoderConfig\.(\w+) = (.+)$', text, re.MULTILINE)
  return DecoderConfig(**{'vocab_size': 32_768} | {name: ast.literal_eval(value) for name, value in fields})


class Trainer:
  """A variant's compiled step and its state."""

  def __init__(self, variant: Variant, batch: int, length: int, microbatches: int):
    device_mesh = mesh_lib.MeshConfig().build()
    self._context = lambda: mesh_lib.context(device_mesh)
    transform = optimizers.Optimizer().build(10_000)
    decoder = Decoder(variant.config)
    scoring = step.Scoring(Objective(variant.attention), variant.scored(length))
    with self._context():
      self._state = state.create(decoder, transform, device_mesh, seed=0)
      self._batch = mesh_lib.put_batch(device_mesh, variant.batch(batch, length))
      update = jax.jit(step.make_train_step(decoder, scoring, transform, microbatches), donate_argnums=0)
      began = time.perf_counter()
      self._update = update.lower(self._state, self._batch, True).compile()
      self.compile_secs = time.perf_counter() - began
    memory = self._update.memory_analysis()
    self.peak_bytes = memory.argument_size_in_bytes + memory.temp_size_in_bytes

  def run(self, steps: int, each: Callable[[int, float, float], None] = lambda n, secs, value: None) -> float:
    """Trains `steps` steps, reading each step's loss while the next one runs, as training does; the last loss."""
    pending, began = None, time.perf_counter()
    for n in range(steps):
      self._state, metrics = self._update(self._state, self._batch, True)
      if pending is not None:
        value, now = float(pending), time.perf_counter()
        each(n - 1, now - began, value)
        began = now
      pending = metrics['loss']
    value = float(pending)
    jax.block_until_ready(self._state)
    each(steps - 1, time.perf_counter() - began, value)
    return value


def matmul(width: int, dtype: str) -> Callable[[int], None]:
  """A function that multiplies two square matrices a given number of times."""
  a = jax.random.normal(jax.random.key(0), (width, width), dtype)
  product = jax.jit(lambda x: x @ a)

  def run(times: int) -> None:
    x = a
    for _ in range(times):
      x = product(x)
    x.block_until_ready()

  run(2)
  return run


def timed(run: Callable[[], object]) -> tuple[float, float]:
  """Wall and CPU seconds of a call."""
  wall, cpu = time.perf_counter(), time.process_time()
  run()
  return time.perf_counter() - wall, time.process_time() - cpu


def spread(values: list[float]) -> str:
  return f'{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})'


def report(variants: list[Variant], trainers: list[Trainer], turns: list[dict], options: argparse.Namespace) -> None:
  """Prints one row a variant."""
  device, chip = jax.devices()[0], devices.chip(jax.devices()[0])
  products = 2 * options.matmul**3 * options.products
  dtypes = {variant.config.dtype for variant in variants}
  peaks = {dtype: [products / turn['matmul', dtype][0] for turn in turns] for dtype in dtypes}
  print(f'{device.device_kind} x {jax.device_count()}, jax {jax.__version__}, Python {sys.version.split()[0]}')
  print(f'batch {options.batch} x {options.length}, {options.steps} steps a turn, {len(turns)} turns')
  for dtype, values in peaks.items():
    print(f'matrix product {options.matmul}^3 {dtype}: {spread([value / 1e12 for value in values])} TFLOP/s')
  head = 'variant | ms/step | steps/s | tokens/s | TFLOP/s | MFU | of product | CPU-s/step | GiB | compile s'
  print(f'| {head} | time / first | FLOPs / first |\n|{"---|" * 12}')
  for number, (variant, trainer) in enumerate(zip(variants, trainers, strict=True)):
    secs = [turn[number][0] / options.steps for turn in turns]
    cpu = statistics.median(turn[number][1] / options.steps for turn in turns)
    flops, middle = variant.flops(options.batch, options.length), statistics.median(secs)
    published = chip.peak_flops if chip and variant.config.dtype == 'bfloat16' else None
    mfu = f'{flops / middle / published / jax.device_count():.3f}' if published else ''
    share = [flops / s / peak for s, peak in zip(secs, peaks[variant.config.dtype], strict=True)]
    ratio = [turn[number][0] / turn[0][0] for turn in turns]
    cells = (
      variant.name, f'{middle * 1e3:.1f}', f'{1 / middle:.3f}', f'{options.batch * options.length / middle:,.0f}',
      f'{flops / middle / 1e12:.4g}', mfu,
      spread(share), f'{cpu:.3f}', f'{trainer.peak_bytes / 2**30:.2f}', f'{trainer.compile_secs:.1f}', spread(ratio),
      f'{flops / variants[0].flops(options.batch, options.length):.3f}',
    )  # fmt: skip
    print(f'| {" | ".join(cells)} |')


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('variants', nargs='*', default=['causal', 'bidirectional'])
  flags.add_argument('--size', default='small')
  flags.add_argument('--batch', type=int, default=8)
  flags.add_argument('--length', type=int, default=256)
  flags.add_argument('--microbatches', type=int, default=1)
  flags.add_argument('--steps', type=int, default=3, help='steps a turn')
  flags.add_argument('--rounds', type=int, default=5, help='turns')
  flags.add_argument('--matmul', type=int, default=2048, help='width of the matrix product; 8192 on an accelerator')
  flags.add_argument('--products', type=int, default=5, help='matrix products a turn')
  flags.add_argument('--each', action='store_true', help='print every step of the first variant, and nothing else')
  options = flags.parse_args()
  variants = [Variant.parse(text, size(options.size)) for text in options.variants]
  if options.each:
    trainer = Trainer(variants[0], options.batch, options.length, options.microbatches)
    show = lambda n, secs, value: print(f'completed step: {n}, seconds: {secs:.4f}, loss: {value:.4f}', flush=True)
    trainer.run(options.steps, show)
    return
  trainers = [Trainer(variant, options.batch, options.length, options.microbatches) for variant in variants]
  runs = {number: lambda trainer=trainer: trainer.run(options.steps) for number, trainer in enumerate(trainers)}
  for dtype in sorted({variant.config.dtype for variant in variants}):
    product = matmul(options.matmul, dtype)
    runs['matmul', dtype] = lambda product=product: product(options.products)
  for run in runs.values():
    run()
  turns = [{key: timed(run) for key, run in runs.items()} for _ in range(options.rounds)]
  report(variants, trainers, turns, options)


if __name__ == '__main__':
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  main()
