"""Our training step beside MaxText's, both compiled for TPU slices that nobody holds, by the same compiler.

    python tests/benchmarks/maxtext_aot.py --maxtext_python=VENV/bin/python [--cases=v5e_full,v5p_full] [--out=FOLDER]

The model is MaxText's 1.3B dense decoder: 2,048 wide, 24 layers, 16 heads of 128, gated MLP of 5,504, vocabulary
32,768 untied, 2,048 tokens with segment ids, bfloat16 activations, float32 parameters and moments, AdamW, clip 1.0, all
chips on fsdp. Both are compiled in MaxText's Python, so by one jax and one libtpu (that of TPU_LIBRARY_PATH, or the
installed one): MaxText's own `train_compile` builds its step (maxtext_step.py says what to install), `program.Program`
ours, as train does. A compilation takes one to three minutes on two cores; MaxText's are kept in --out.

Printed for each case: the compiler's cycles over the clock (fused computations with their loops' trip counts; neither
Pallas kernels nor collectives are in it), peak memory of a chip, payload of the collectives, calls of Pallas kernels,
and ours over MaxText's.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import step  # beside this file; finds the package where it is not installed
from unmask.launch import hlo, mesh, optimizers, program, slices
from unmask.models.config import DecoderConfig

MODEL = DecoderConfig(
  vocab_size=32_768,
  embed_dim=2048,
  num_layers=24,
  num_heads=16,
  num_kv_heads=16,
  head_dim=128,
  mlp_dim=5504,
  tied_embeddings=False,
  dtype='bfloat16',
  loss_chunk=256,
)
NO_COLLECTIVE_MATMUL = program.NO_COLLECTIVE_MATMUL
# Name: topology, MaxText's name of it, rows a chip, remat policy (the two have the same names), compiler options.
CASES = {
  'v5e_full': ('v5e:4x4', 'v5e-16', 8, 'full', NO_COLLECTIVE_MATMUL),
  'v5e_qkv': ('v5e:4x4', 'v5e-16', 8, 'save_qkv_proj', NO_COLLECTIVE_MATMUL),
  'v5e_min_b4': ('v5e:4x4', 'v5e-16', 4, 'minimal_with_context', NO_COLLECTIVE_MATMUL),
  'v5p_full': ('v5p:4x4x4', 'v5p-128', 8, 'full', NO_COLLECTIVE_MATMUL),
  'v5e_full_cm': ('v5e:4x4', 'v5e-16', 8, 'full', {}),
}
ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',
  'DECOUPLE_GCLOUD': 'TRUE',
}
# Runs in MaxText's Python: its own command, with a copy kept of the largest program that it compiles.
DRIVER = """
import json, os, sys
import jax
import maxtext
from maxtext.trainers.pre_train import train_compile
out, arguments = sys.argv[1], sys.argv[2:]
compile_ = jax.stages.Lowered.compile
def kept(self, *args, **kwargs):
  compiled = compile_(self, *args, **kwargs)
  text = compiled.as_text()
  if len(text) > 200_000:
    with open(out + '.hlo', 'w') as file:
      file.write(text)
    with open(out + '.json', 'w') as file:
      json.dump({'peak': compiled.memory_analysis().peak_memory_in_bytes, 'jax': jax.__version__}, file)
  return compiled
jax.stages.Lowered.compile = kept
base = os.path.join(os.path.dirname(maxtext.__file__), 'configs', 'base.yml')
train_compile.main(['train_compile', base, *arguments])
"""


@dataclasses.dataclass(frozen=True)
class Figures:
  """Of one compiled step and chip: seconds of the compiler's cycles, GiB of peak memory and of collectives, kernels."""

  seconds: float
  peak: float
  collectives: float
  kernels: str


def figures(text: str, peak: float, clock: float) -> Figures:
  """From optimised HLO, bytes of peak memory, and Hz."""
  cost = hlo.cost(text)
  calls = ' '.join(f'{name}:{count:.0f}' for name, count in sorted(cost.kernel_calls().items()))
  return Figures(cost.cycles / clock, peak / 2**30, sum(cost.bytes_by_kind().values()) / 2**30, calls)


class AllScored(step.Objective):
  """Next-token prediction, without the part that makes rows, which needs TensorFlow."""

  def model_length(self, text_length: int) -> int:
    return text_length

  def max_supervised(self, text_length: int) -> int:
    return text_length


def compile_ours(out: pathlib.Path, name: str) -> None:
  """Writes our optimised HLO and peak memory, as DRIVER does MaxText's; runs in MaxText's Python."""
  where, _, rows, remat, options = CASES[name]
  devices = slices.parse(where).devices()
  compiled = program.Program(
    model=dataclasses.replace(MODEL, remat=remat),
    objective=AllScored(step.CAUSAL),
    text_length=2048,
    batch_size=rows * len(devices),
    optimizer=optimizers.Optimizer().build(1000),
    mesh=mesh.MeshConfig(data=1, fsdp=len(devices)).build(devices),
    tpu_compiler_options=options,
  ).compile()
  (out / f'{name}.ours.hlo').write_text(compiled.as_text())
  peak = compiled.memory_analysis().peak_memory_in_bytes
  (out / f'{name}.ours.json').write_text(json.dumps({'peak': peak}))


def kept(stem: pathlib.Path, clock: float) -> Figures:
  """The figures of a kept compilation."""
  peak = json.loads(stem.with_name(f'{stem.name}.json').read_text())['peak']
  return figures(stem.with_name(f'{stem.name}.hlo').read_text(), peak, clock)


def compile_maxtexts(python: str, out: pathlib.Path, name: str) -> None:
  """Writes MaxText's optimised HLO and peak memory, unless `out` holds them."""
  _, topology, rows, remat, options = CASES[name]
  if not (out / f'{name}.json').exists():
    settings = {
      'compile_topology': topology,
      'compile_topology_num_slices': 1,
      'per_device_batch_size': rows,
      'remat_policy': remat,
      'run_name': 'aot',
      'base_output_directory': out / 'runs',
      'dataset_type': 'synthetic',
      'packing': True,
      'attention': 'flash',
      'steps': 1000,
      'base_emb_dim': MODEL.embed_dim,
      'base_num_decoder_layers': MODEL.num_layers,
      'base_num_query_heads': MODEL.num_heads,
      'base_num_kv_heads': MODEL.num_kv_heads,
      'head_dim': MODEL.head_dim,
      'base_mlp_dim': MODEL.mlp_dim,
      'vocab_size': MODEL.vocab_size,
      'max_target_length': 2048,
      'mlp_activations': "['silu','linear']",
      'logits_via_embedding': False,
      'decoder_block': 'llama2',
      'dtype': 'bfloat16',
      'weight_dtype': 'float32',
      'mu_dtype': 'float32',
      'opt_type': 'adamw',
      'gradient_clipping_threshold': 1.0,
      'scan_layers': True,
      'ici_fsdp_parallelism': -1,
      'enable_checkpointing': False,
      'enable_goodput_recording': False,
    }
    flags = ' '.join(f'--{key}={value}' for key, value in options.items())
    arguments = [
      f'{key}={value}' for key, value in (settings | ({'compile_xla_flags': flags} if flags else {})).items()
    ]
    command = [python, '-c', DRIVER, str(out / name), *arguments]
    subprocess.run(command, env=os.environ | ENVIRONMENT, check=True, capture_output=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--maxtext_python', required=True)
  parser.add_argument('--cases', default=','.join(CASES))
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('maxtext_aot'))
  parser.add_argument('--only_ours', help=argparse.SUPPRESS)  # what this program asks of itself in MaxText's Python
  options = parser.parse_args()
  out = options.out.resolve()
  if options.only_ours:
    return compile_ours(out, options.only_ours)
  out.mkdir(parents=True, exist_ok=True)
  print('| case | whose | cycles, s | peak, GiB | collectives, GiB | Pallas calls |\n|---|---|---|---|---|---|')
  for name in options.cases.split(','):
    compile_maxtexts(options.maxtext_python, out, name)
    command = [options.maxtext_python, __file__, '--maxtext_python=', f'--out={out}', f'--only_ours={name}']
    subprocess.run(command, env=os.environ | ENVIRONMENT, check=True, capture_output=True)
    clock = slices.parse(CASES[name][0]).chip.clock
    mine, theirs = kept(out / f'{name}.ours', clock), kept(out / name, clock)
    for whose, found in (('unmask', mine), ('MaxText', theirs)):
      print(
        f'| {name} | {whose} | {found.seconds:.4f} | {found.peak:.3f} | {found.collectives:.4f} | {found.kernels} |'
      )
    ratio = [getattr(mine, part) / getattr(theirs, part) for part in ('seconds', 'peak', 'collectives')]
    print(f'| {name} | ratio | {ratio[0]:.3f} | {ratio[1]:.3f} | {ratio[2]:.4f} | |', flush=True)
  return None


if __name__ == '__main__':
  sys.exit(main())
