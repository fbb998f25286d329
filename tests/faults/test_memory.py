"""A step that does not fit is refused before it runs, with what takes how much and what would fit; so is what fails."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unmask import UserError
from unmask.launch import memory, optimizers, state, study
from unmask.launch.mesh import MeshConfig
from unmask.models.config import DecoderConfig
from unmask.objectives.masked_lm import MaskedLM

CONFIG = DecoderConfig(vocab_size=512, embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=64)
LENGTH = 4096
SCORES = CONFIG.num_heads * LENGTH**2 * 4  # bytes of a row's attention scores
HUGE = {'DecoderConfig.mlp_dim': 500_000_000}


def _settings(batch_size: int, devices: int = 1, **more) -> study.Settings:
  given = {'model': CONFIG, 'text_length': LENGTH, 'mesh': MeshConfig(data=devices), **more}
  return study.Settings(
    objective=MaskedLM(), batch_size=batch_size, train_steps=10, optimizer=optimizers.Optimizer(), **given
  )


def _guard(settings: study.Settings, devices: int = 1) -> tuple[memory.Guard, study.Program]:
  program = settings.program(memory.slices.Held(tuple(jax.devices()[:devices])))
  return memory.Guard(program, settings), program


def test_too_large_a_batch_is_refused_with_one_that_fits():
  """What is advised fits, and twice as much does not."""
  room = memory.room(jax.devices()[0])
  batch = 2 ** math.ceil(math.log2(room / 4 / SCORES))
  settings = _settings(batch)
  guard, program = _guard(settings)
  step = program.compile()
  with pytest.raises(UserError, match='An update does not fit') as refused:
    guard.require(step)
  said = str(refused.value)
  assert f'which has {room / 2**30:,.2f} GiB' in said
  assert f',{LENGTH},{LENGTH}] {batch * SCORES / 2**30:,.2f} GiB' in said
  assert 'attention/' in said
  advised = int(said.partition('BATCH_SIZE=')[2].rstrip('.').partition(',')[0])
  taken = [memory.taken(_guard(_settings(rows))[1].compile(), jax.devices()[0]) for rows in (advised, 2 * advised)]
  assert taken[0] <= room < taken[1]


def test_too_large_a_model_is_refused_before_any_of_it_is_made():
  model = dataclasses.replace(CONFIG, mlp_dim=HUGE['DecoderConfig.mlp_dim'])
  guard, _ = _guard(_settings(8, model=model, text_length=64))
  with pytest.raises(UserError, match='parameters blocks/mlp/gate_up float32') as refused:
    guard.require_state()
  assert 'Neither remat, batch nor mesh alone would do' in str(refused.value)


def test_what_is_kept_is_what_lies_there():
  """Also where parameters are split over devices and the batch over all of them."""
  settings = _settings(16, devices=8, text_length=32, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
  guard, program = _guard(settings, devices=8)
  guard.require_state()  # it fits
  with program.context():
    made = state.create(program.decoder, program.optimizer, program.mesh, seed=0)
  bytes_of = lambda tree: sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))
  kept = memory.kept(program)
  assert kept['parameters'] == bytes_of(made.params)
  assert kept['optimizer state'] == bytes_of(made.opt_state)
  assert memory.leaves(program)[0].size == max(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(made))


def test_an_allocation_that_fails_is_explained():
  guard, _ = _guard(_settings(8, text_length=64))
  with pytest.raises(UserError, match=r'optimizer state .* MiB.*: RESOURCE_EXHAUSTED') as said, guard.explained():
    jnp.zeros(int(memory.room(jax.devices()[0])) * 100, jnp.float32).block_until_ready()
  assert 'something else holds the rest' in str(said.value)  # the update itself would fit
  with pytest.raises(UserError, match='Unable to allocate'), guard.explained():
    np.zeros(2**60, np.int8)


def test_other_errors_stay_what_they_are():
  guard, _ = _guard(_settings(8, text_length=64))
  broken = jax.errors.JaxRuntimeError('INTERNAL: a kernel failed')
  with pytest.raises(jax.errors.JaxRuntimeError, match='a kernel failed'), guard.explained():
    raise broken


def test_the_command_says_it_and_the_directory_is_free_for_the_mend(zygote, tmp_path):
  said = zygote.train(tmp_path / 'run', 'mlm', expect=2, TRAIN_STEPS=2, **HUGE)
  assert said.count('unmask: An update does not fit') == 1
  assert 'Traceback' not in said
  zygote.train(tmp_path / 'run', 'mlm', TRAIN_STEPS=2, CHECKPOINT_PERIOD=2)
  assert 'holds another run' in zygote.train(tmp_path / 'run', 'mlm', expect=2, TRAIN_STEPS=2, **HUGE)


def test_what_a_compiler_says_that_ran_out(monkeypatch):
  """The words are libtpu 0.0.52's; the room is a v5e's."""
  said = (
    'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO '
    'temporaries (16.06G) exceeds available HBM (15.75G). HLO module: jit_train_step.'
  )
  monkeypatch.setattr(memory, 'room', lambda device: 15.75 * 2**30)
  guard, _ = _guard(_settings(8, text_length=64))
  told = r'does not fit: it takes at least 16.06 GiB .* 15.75 GiB .* It would fit with'
  with pytest.raises(UserError, match=told), guard.explained():
    raise jax.errors.JaxRuntimeError(said)
