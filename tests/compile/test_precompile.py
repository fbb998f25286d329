"""`unmask precompile` with TPU's real compiler, on slices of four chips."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from unmask.launch import config, flags, hlo, loop, mesh, optimizers, precompile, searching, slices, step, study
from unmask.models.config import DecoderConfig
from unmask.objectives.next_token import NextToken

WIDTH, HEADS, HEAD, MLP, VOCABULARY, LAYERS, LENGTH, ROWS = 256, 2, 128, 512, 1024, 3, 256, 16
LAYER = WIDTH * HEAD * 4 * HEADS + 3 * WIDTH * MLP  # parameters of a block, without norms
MODEL = {
  'vocab_size': VOCABULARY,
  'embed_dim': WIDTH,
  'num_layers': LAYERS,
  'num_heads': HEADS,
  'num_kv_heads': HEADS,
  'head_dim': HEAD,
  'mlp_dim': MLP,
  'tied_embeddings': False,
  'dtype': 'bfloat16',
  'remat': 'full',
  'loss_chunk': LENGTH,
  'scan_unroll': 1,
}
NO_COLLECTIVE_MATMUL = searching.FLAGS['no collective matmul']


def _settings(mesh_config: mesh.MeshConfig, **changes) -> study.Settings:
  return study.Settings(
    model=DecoderConfig(**(MODEL | changes)),
    objective=NextToken(),
    text_length=LENGTH,
    batch_size=ROWS,
    train_steps=100,
    optimizer=optimizers.Optimizer(),
    mesh=mesh_config,
    tpu_compiler_options=NO_COLLECTIVE_MATMUL,
  )


def _arguments(*more: str, **changes) -> list[str]:
  model = MODEL | changes
  return [
    '--gin_file=gin/runs/pretrain.gin',
    '--gin_file=gin/objectives/next_token.gin',
    *(f'--gin.config.DecoderConfig.{name}={value}' for name, value in model.items()),
    f"--gin.TASK_FEATURE_LENGTHS={{'targets': {LENGTH}}}",
    f'--gin.BATCH_SIZE={ROWS}',
    *more,
  ]


def test_the_command_on_two_slices(tmp_path):
  """As a user types it: no environment of ours, a table, JSON, nothing on stderr."""
  kept = ('PATH', 'HOME', 'PYTHONPATH', 'TPU_LIBRARY_PATH')
  clean = {name: os.environ[name] for name in kept if name in os.environ}
  topologies = ['--topology=v5e:2x2', '--topology=v5p:2x2x1', '--mesh=fsdp=4']
  command = [sys.executable, '-m', 'unmask.launch.cli', 'precompile', *_arguments(*topologies)]
  done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
  assert (done.returncode, done.stderr) == (0, '')
  for said in ('v5e:2x2', 'v5p:2x2x1', 'memory: peak', 'MFU is at most', 'cycles / clock', 'all-gather'):
    assert said in done.stdout
  first, second = json.loads((tmp_path / 'precompile.json').read_text())['studies']
  parameters = LAYERS * (LAYER + 2 * WIDTH) + 2 * WIDTH * VOCABULARY + WIDTH
  state = 3 * 4 * parameters / 4  # parameters and AdamW's two moments, float32, split four ways
  for one in (first, second):
    assert one['parameters'] == parameters
    assert one['memory']['arguments'] == pytest.approx(state, rel=0.1)
    assert one['memory']['arguments'] < one['memory']['peak'] < one['memory']['chip']
    assert one['cycles'] > 0
    assert one['unknown_loops'] == 0
    calls = {name.split('_')[2]: figures['calls'] for name, figures in one['kernels'].items()}
    assert calls == {'fwd': 2 * LAYERS, 'dq': LAYERS, 'dkv': LAYERS}  # the forward pass twice: remat
    assert 0 < one['bound']['mfu'] < 1
  assert first['bound']['compiled_flops'] == second['bound']['compiled_flops']


@pytest.fixture(scope='module')
def split_four_ways() -> hlo.Cost:
  settings = _settings(mesh.MeshConfig(data=1, fsdp=4))
  with flags.quiet():
    return hlo.cost(settings.program(slices.parse('v5e:2x2')).compile().as_text())


def test_what_fsdp_gathers_and_scatters_is_its_parameters(split_four_ways):
  """By hand: a block's parameters come in bfloat16 forward and backward, and its gradient leaves once."""
  cost = split_four_ways
  of_blocks = {
    kind: sum(one.payload * one.times for one in cost.collectives if one.kind == kind and one.times == LAYERS)
    for kind in hlo.KINDS
  }
  assert of_blocks['all-gather'] == 2 * LAYERS * LAYER * 2
  assert of_blocks['reduce-scatter'] == LAYERS * LAYER * 2


def test_products_are_counted_exactly():
  """By hand: libtpu writes products as convolutions over padding, and their transposes too; here in a loop of three."""
  rows, length, width, heads, head = 4, 256, 256, 2, 128

  def layers(x, weights):
    def layer(x, weight):
      y = jnp.einsum('bld,dhe->blhe', x, weight)
      return jnp.einsum('blhe,dhe->bld', jnp.tanh(y), weight), None

    return jax.lax.scan(layer, x, weights)[0].sum()

  where = jax.sharding.SingleDeviceSharding(slices.parse('v5e:1x1').devices()[0])
  shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.bfloat16, sharding=where)
  with flags.quiet():
    text = (
      jax.jit(jax.grad(layers, argnums=(0, 1)))
      .lower(shape(rows, length, width), shape(3, width, heads, head))
      .compile()
      .as_text()
    )
  assert hlo.cost(text).flops == 3 * 2 * 3 * 2 * rows * length * width * heads * head


def test_compiled_products_are_those_of_the_model(split_four_ways):
  """By hand: three products a parameter and position, the forward ones again by remat but for a block's last; head."""
  cost = split_four_ways
  positions = ROWS * LENGTH / 4
  blocks = 2 * positions * LAYERS * (4 * LAYER - WIDTH * MLP)
  head = 3 * 2 * positions * WIDTH * VOCABULARY
  assert blocks + head <= cost.flops <= 1.08 * (blocks + head)  # rotations by products are a little more
  assert cost.unknown_loops == 0


def test_a_scan_costs_what_its_layers_cost_unrolled():
  """Cycles of a loop are those of its body times its trips: the same layers without a loop come to the same.

  The loss alone, and of a large batch: a scan also converts and cuts its stacked weights, and backward it moves what it
  keeps; those cycles are its own.
  """
  topology = slices.parse('v5e:1x1')
  large = {'embed_dim': 1024, 'num_heads': 8, 'num_kv_heads': 8, 'mlp_dim': 4096, 'vocab_size': 512, 'num_layers': 4}

  def measured(unroll: int) -> hlo.Cost:
    settings = _settings(mesh.MeshConfig(), scan_unroll=unroll, remat='none', **large)
    program = dataclasses.replace(settings, batch_size=512).program(topology)
    loss = step.make_eval_step(program.decoder, program.scoring)
    with flags.quiet(), program.context():
      compiled = jax.jit(loss).lower(program.state_shapes().params, program.batch_shapes()).compile()
    return hlo.cost(compiled.as_text())

  scanned, unrolled = measured(1), measured(4)
  assert scanned.flops == unrolled.flops
  assert scanned.cycles == pytest.approx(unrolled.cycles, rel=0.04)
  assert sum(scanned.kernel_calls().values()) == sum(unrolled.kernel_calls().values()) == 4


def test_two_slices_meet_over_the_network():
  with flags.quiet():
    found = study.compile_and_study(_settings(mesh.MeshConfig(data=2, fsdp=4)), slices.parse('2xv5e:2x2'))
  assert found.chips == 8
  # Each chip's quarter of the gradient crosses: the blocks' in bfloat16, embedding and head.
  assert found.collectives['between slices: all-reduce'] >= LAYERS * LAYER * 2 / 4
  assert found.bound.between_slices > 0


@pytest.mark.parametrize(
  ('name', 'chips', 'kind'),
  [('v4:2x2x1', 4, 'TPU v4'), ('v6e:2x4', 8, 'TPU v6 lite'), ('v5p:4x4x4', 64, 'TPU v5'), ('2xv4:2x2x1', 8, 'TPU v4')],
)
def test_every_kind_of_chip_is_one_device(name, chips, kind):
  with flags.quiet():
    found = slices.parse(name).devices()
  assert (len(found), found[0].device_kind) == (chips, kind)


def test_what_does_not_fit_says_by_how_much_and_what_would(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  big = _arguments('--topology=v5e:2x2', '--gin.MeshConfig.fsdp=4', '--gin.BATCH_SIZE=8192', remat='none')
  assert precompile.main(big) == 2
  error = capsys.readouterr().err.strip()
  assert error.startswith('unmask: On v5e:2x2 a step needs ')
  assert '15.75' in error
  assert "it would fit with remat='" in error
  assert 'BATCH_SIZE=' in error
  assert '\n' not in error


def test_a_search_writes_what_train_reads(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  tried = [f'--search_batches={ROWS},1048576', '--search_remat=full', '--search_mesh=data=1,fsdp=4']
  assert precompile.main(_arguments('--topology=v5e:2x2', '--search', *tried)) == 0
  said = capsys.readouterr().out
  assert '4 combinations for v5e:2x2' in said
  assert said.count('does not fit') == 2
  written = (tmp_path / 'precompiled.gin').read_text()
  assert f'BATCH_SIZE = {ROWS}' in written
  assert "config.DecoderConfig.remat = 'full'" in written
  assert 'mesh.MeshConfig.fsdp = 4' in written
  assert 'loop.train.tpu_compiler_options = {' in written
  assert len(json.loads((tmp_path / 'precompile.json').read_text())['failed']) == 2
  files = ['gin/runs/pretrain.gin', 'gin/objectives/next_token.gin', str(tmp_path / 'precompiled.gin')]
  config.load(files, ["MODEL_DIR = ''"])
  bound = config.bound(loop.train)
  config.refuse_unused()
  assert bound['mesh'] == mesh.MeshConfig(data=1, fsdp=4)
  assert (bound['batch_size'], bound['model'].remat) == (ROWS, 'full')
  assert isinstance(bound['tpu_compiler_options'], dict)
