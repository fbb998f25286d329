"""What the output head costs: no logits of a whole batch are ever alive, and unscored positions are not paid for."""

import dataclasses
import re

import pytest
from unmask.launch import mesh, optimizers, program
from unmask.models.config import DecoderConfig
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.next_token import NextToken

ROWS, LENGTH, VOCABULARY = 8, 256, 16384
LOGITS = ROWS * LENGTH * VOCABULARY  # positions of one device times vocabulary
MODEL = DecoderConfig(
  vocab_size=VOCABULARY, embed_dim=32, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=32, mlp_dim=64, loss_chunk=16
)


def _program(objective=NextToken(), devices: int = 1, **changes) -> program.Program:
  import jax

  return program.Program(
    model=dataclasses.replace(MODEL, **changes),
    objective=objective,
    text_length=LENGTH,
    batch_size=ROWS * devices,
    optimizer=optimizers.Optimizer().build(10),
    mesh=mesh.MeshConfig(data=1, fsdp=devices).build(jax.devices()[:devices]),
  )


def _largest(text: str) -> int:
  """Elements of the largest array that a program's text names."""
  shapes = re.findall(r'\b(?:f32|bf16|f16|s32|u32|pred)\[([\d,]+)\]', text)
  sizes = [1]
  for shape in shapes:
    size = 1
    for dimension in shape.split(','):
      size *= int(dimension)
    sizes.append(size)
  return max(sizes)


@pytest.mark.parametrize('devices', [1, 4])
def test_no_logits_of_all_positions_are_alive(devices):
  compiled = _program(devices=devices).compile()
  assert _largest(compiled.as_text()) < LOGITS / 2
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * LOGITS / 2
  whole = _program(devices=devices, loss_chunk=LENGTH).compile()  # what it would be otherwise
  assert _largest(whole.as_text()) >= LOGITS
  assert whole.memory_analysis().temp_size_in_bytes > 4 * LOGITS


def test_masked_lm_pays_for_the_positions_it_scores():
  flops = lambda objective: _program(objective, loss_chunk=LENGTH).lower().cost_analysis()['flops']
  all_scored, masked = flops(NextToken()), flops(MaskedLM())
  head = 6 * ROWS * MODEL.embed_dim * VOCABULARY  # a position of each row: forward, and two products backward
  unpaid = LENGTH - MaskedLM().max_supervised(LENGTH)
  assert unpaid > 0.8 * LENGTH
  assert all_scored - masked > 0.95 * head * unpaid
