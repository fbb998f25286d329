"""The loss on the whole held-out split is one number, whatever the batches and the mesh."""

import functools

import jax
import numpy as np
import pytest
from objective_table import TABLE
from plain_text import source
from unmask import UserError
from unmask.launch import held_out, mesh, optimizers, program, state
from unmask.models.config import DecoderConfig
from unmask.objectives import base, mixture, stages

CONFIG = DecoderConfig(embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32, loss_chunk=16)
LENGTH = 32
TEXTS = [f'Line {number} of a text whose last batch is not full: {number * 7919} words.' for number in range(19)]
MESHES = {1: mesh.MeshConfig(), 2: mesh.MeshConfig(fsdp=2), 8: mesh.MeshConfig(data=2, fsdp=4)}


def _program(name: str | base.Objective, batch_size: int, devices: int, vocabulary: int) -> program.Program:
  return program.Program(
    model=CONFIG.with_vocabulary(vocabulary),
    objective=TABLE[name].make() if isinstance(name, str) else name,
    text_length=LENGTH,
    batch_size=batch_size,
    optimizer=optimizers.Optimizer().build(10),
    mesh=MESHES[devices].build(jax.devices()[:devices]),
  )


def _loss(
  name: str | base.Objective, batch_size: int, devices: int, texts=TEXTS, batches: int | None = None
) -> dict[str, float]:
  with source(texts, LENGTH) as opened:
    made = _program(name, batch_size, devices, opened.vocabulary.vocab_size)
    rows = held_out.Batches(made, opened, held_out.Evaluation(batches=batches))
  step = made.compile(held_out.lower_step(made))
  with made.context():
    params = state.create(made.decoder, made.optimizer, made.mesh, seed=0).params
    return rows.loss(step, params)


_whole = functools.cache(lambda name: _loss(name, 8, 1))


@pytest.mark.parametrize(
  ('name', 'batch_size', 'devices'),
  [(name, *sizes) for name in ('next_token', 'mlm') for sizes in ((16, 1), (24, 2), (128, 8))]
  + [('next_token', 8, 8), ('mlm', 16, 8)],
)
def test_the_whole_split_has_one_loss(name, batch_size, devices):
  """128 rows are more than there are: whole devices hold nothing but empty rows."""
  got = _loss(name, batch_size, devices)
  assert np.isfinite(got['loss'])
  assert got == pytest.approx(_whole(name), rel=1e-5)


def test_fewer_batches_are_another_loss():
  assert _loss('next_token', 8, 1, batches=1)['loss'] != pytest.approx(_whole('next_token')['loss'], rel=1e-5)


def test_each_stage_is_evaluated_as_its_objective_by_itself():
  """On the same rows, from the first evaluation on; the loss is that of the last stage."""
  parts = {name: TABLE[name].make() for name in ('next_token', 'mlm')}
  staged = stages.Stages(parts=parts, order=[('mlm', 1), ('next_token', 1), ('mlm', 2)], steps=8)
  found = _loss(staged, 8, 1)
  for name in parts:
    assert found[f'{name}/cross_entropy'] == pytest.approx(_whole(name)['cross_entropy'], rel=1e-4)
  assert found['loss'] == found['mlm/cross_entropy']
  assert set(found) == {'loss', 'mlm/cross_entropy', 'next_token/cross_entropy'}


def test_a_part_that_reads_no_held_out_row_has_no_mean():
  parts = {name: TABLE[name].make() for name in ('next_token', 'mlm')}
  found = _loss(mixture.Mixture(parts=parts, shares={'next_token': 1e9, 'mlm': 1}), 8, 1)
  assert set(found) == {'loss', 'next_token/cross_entropy'}
  assert found['loss'] == pytest.approx(_whole('next_token')['loss'], rel=1e-4)


def test_a_split_without_an_example_is_named():
  with pytest.raises(UserError, match='No row of the validation split holds an example of NextToken'):
    _loss('next_token', 8, 1, texts=[])


@pytest.mark.parametrize('given', [{'batches': 0}, {'batches': -3}, {'period': -1}])
def test_how_much_and_when_are_checked(given):
  ((name, value),) = given.items()
  with pytest.raises(UserError, match=rf'Evaluation.{name} is {value}'):
    held_out.Evaluation(**given)
