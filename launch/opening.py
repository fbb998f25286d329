"""From what was bound to what can be run: checked numbers, the program, the text whose vocabulary settles it."""

import dataclasses
from typing import Any

import jax

from .. import UserError
from ..models.config import DecoderConfig
from ..objectives.base import Objective
from ..tasks.pipeline import Pipeline, Source
from . import files, frozen, identity, initial, leaks
from . import mesh as mesh_lib
from .optimizers import Optimizer
from .program import CompilerOptions, Program


def check_numbers(**numbers: Any) -> None:
  """Raises UserError naming the first that is no whole number of at least 1."""
  for name, value in numbers.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise UserError(f'{name}={value!r} must be a whole number of at least 1.')


def make_program(
  *,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  train_steps: int,
  batch_size: int,
  optimizer: Optimizer,
  microbatches: int,
  z_loss: float,
  mesh: mesh_lib.MeshConfig,
  tpu_compiler_options: CompilerOptions,
  model_dir: str | None = None,
  **_: Any,
) -> Program:
  """The program of a run by `train`'s arguments, of which it needs these; checked, but for its vocabulary."""
  program = Program(
    model=model,
    objective=frozen.settled(objective, model_dir),
    text_length=pipeline.text_length,
    batch_size=batch_size,
    optimizer=optimizer.build(train_steps),
    mesh=mesh.build(),
    microbatches=microbatches,
    z_loss=z_loss,
    tpu_compiler_options=tpu_compiler_options,
  )
  program.check()
  return program


def opened(
  model_dir: str, pipeline: Pipeline, program: Program, training: dict, save: bool = True
) -> tuple[Source, Program]:
  """The text, and the program for its vocabulary; UserError if the model directory is another run's.

  Args:
    training: `identity.of_training`.
    save: whether the directory is from now on this run's.
  """
  facts = identity.facts(program.model, program.objective, pipeline) | training | frozen.facts(program.objective)
  identity.check(model_dir, facts)
  source = pipeline.open()
  program.objective.check_vocabulary(source.special)
  model = program.model.with_vocabulary(source.vocabulary.vocab_size)
  if save and not (files.path(model_dir) / 'checkpoints').exists():  # a mistake must leave no trace in the directory
    initial.given(training['initial_weights'], model, source, say=lambda line: None)
    frozen.check(program.objective, source)
    leaks.check(program.objective, source)
  facts |= identity.of_source(source, model) | identity.of_reading(program.objective, source)
  identity.check(model_dir, facts, save=save and jax.process_index() == 0)
  program = dataclasses.replace(program, model=model)
  program.check()  # the vocabulary's size is known only now
  return source, program
