"""The compiled program of a run: one update for one mesh. What `train` runs is what `precompile` studies.

The step is compiled ahead, from shapes and shardings alone. A compiled program takes exactly these: whatever would have
made JAX compile again after the first step is an error instead.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from .. import UserError
from ..models.config import DecoderConfig
from ..models.decoder import Decoder
from ..objectives.base import MODEL_FEATURES, Objective
from . import mesh as mesh_lib
from . import networks
from . import state as state_lib
from . import step as step_lib

CompilerOptions = Mapping[str, str | int | float | bool]
# On v5e 4x4 the compiler's own choice, products that travel a ring, takes nearly twice as long by its own estimate.
NO_COLLECTIVE_MATMUL: CompilerOptions = {'xla_jf_spmd_threshold_for_windowed_einsum_mib': 1_000_000}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """One update of a run.

  Attributes:
    model: with its vocabulary's size.
    objective: gives attention, loss, and how many positions are scored.
    text_length: tokens of a row of text.
    batch_size: rows of a global batch.
    optimizer: the update rule.
    mesh: the devices, real ones or those of a topology nobody holds.
    microbatches: parts that a batch's gradient is summed over.
    z_loss: coefficient of log(Z)^2.
    tpu_compiler_options: of XLA, where the mesh is of TPUs; other devices' compilers refuse what they do not know.
  """

  model: DecoderConfig
  objective: Objective
  text_length: int
  batch_size: int
  optimizer: optax.GradientTransformation
  mesh: Mesh
  microbatches: int = 1
  z_loss: float = 0.0
  tpu_compiler_options: CompilerOptions = dataclasses.field(default_factory=lambda: NO_COLLECTIVE_MATMUL)

  @property
  def length(self) -> int:
    """Positions of a row that the decoder reads."""
    return self.objective.model_length(self.text_length)

  @property
  def causal(self) -> bool:
    """Whether one causal kernel serves every layer and token, so that half of its products are not made."""
    return self.objective.attention.kind == 'causal'

  @property
  def decoder(self) -> Decoder:
    return Decoder(self.model)

  @property
  def beside(self) -> networks.Beside:
    """The objective's networks beside the decoder, as modules."""
    return networks.beside(self.objective, self.model)

  @property
  def scoring(self) -> step_lib.Scoring:
    return step_lib.Scoring(self.objective, self.objective.max_supervised(self.text_length), self.z_loss)

  def check(self) -> None:
    """Raises UserError unless batch, model and length divide over the mesh, and the objective can use the rows."""
    mesh_lib.check(self.mesh, self.model, self.length, self.batch_size, self.microbatches)
    for name, module in self.beside:
      mesh_lib.check_model(self.mesh.shape, module.config, self.length, of=f'{name}: ')
    if self.z_loss and not self.objective.predicts_tokens:
      raise UserError(
        f'z_loss={self.z_loss} is of the output head over tokens, which {type(self.objective).__name__} does not train '
        'the decoder by; leave it out.'
      )
    self.objective.check(self.text_length)

  def parameters(self) -> int:
    """How many the model has, networks beside the decoder included."""
    return sum(math.prod(shape.shape) for shape in jax.tree.leaves(self.state_shapes().params))

  def train_flops(self) -> float:
    """Model FLOPs of one update, all devices together; see `DecoderConfig.train_flops`."""
    return update_flops(self.model, self.objective, self.text_length, self.batch_size)

  def useful_flops(self, metrics: Mapping[str, float]) -> float:
    """Model FLOPs of an update by its metrics, see `step.make_train_step`.

    Nothing is counted for padding, nor for slots of the output head where nothing is scored; else as `train_flops`.
    """
    real = round(self.batch_size * self.length * (1 - metrics['padding']))
    readers = self.objective.readers(metrics)
    visible = sum(share * part.attention.visible_share(self.length) for share, part in readers)
    return _flops(self.model, self.objective, real, round(metrics['scored']), self.length, visible)

  def state_shapes(self) -> state_lib.TrainState:
    """The training state as shapes with shardings; nothing is allocated."""
    return self._state_shapes

  @functools.cached_property
  def _state_shapes(self) -> state_lib.TrainState:
    return state_lib.shapes(self.decoder, self.optimizer, self.mesh, self.beside)

  def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch as shapes with shardings: the features of `objectives.base`, and 'text_tokens'."""
    rows = (self.batch_size, self.length)
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
      name: (rows, 'float32' if name == 'decoder_loss_weights' else 'int32') for name in MODEL_FEATURES
    }
    shapes |= dict.fromkeys(self.objective.more_features, (rows, 'int32'))
    shapes['text_tokens'] = ((self.batch_size,), 'int32')
    return {
      name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=mesh_lib.batch_sharding(self.mesh, len(shape)))
      for name, (shape, dtype) in shapes.items()
    }

  def lower(self) -> jax.stages.Lowered:
    """The update before compilation, see `step.make_train_step`; the state's memory is given on to the next."""
    update = step_lib.make_train_step(self.decoder, self.scoring, self.optimizer, self.microbatches)
    state, batch, whole = self.state_shapes(), self.batch_shapes(), mesh_lib.replicated(self.mesh)
    out_shardings = jax.tree.map(lambda leaf: leaf.sharding, state), whole
    jitted = jax.jit(update, donate_argnums=0, out_shardings=out_shardings)
    with self.context():  # around nothing else: what JAX runs at once would run on this mesh, which may not be here
      return jitted.lower(state, batch, jax.ShapeDtypeStruct((), bool, sharding=whole))

  def compile(self, lowered: jax.stages.Lowered | None = None) -> jax.stages.Compiled:
    """The compiled update, or another program for this mesh, with what its devices' compiler is told."""
    tpu = self.mesh.devices.flat[0].platform == 'tpu'
    options: dict[str, Any] | None = dict(self.tpu_compiler_options) if tpu else None
    return (lowered or self.lower()).compile(compiler_options=options)

  def context(self) -> contextlib.AbstractContextManager[None]:
    """See `mesh.context`."""
    return mesh_lib.context(self.mesh)


def update_flops(model: DecoderConfig, objective: Objective, text_length: int, batch_size: int) -> float:
  """Model FLOPs of one update on rows of `text_length` tokens; the model has its vocabulary's size.

  Of a mixture and of stages it is the mean over the rows of the whole run, each counted as its part alone counts it.
  """
  total = 0.0
  for share, part in objective.readers():
    length, scored = part.model_length(text_length), part.max_supervised(text_length)
    total += share * _flops(model, part, length, scored, length, part.attention.visible_share(length))
  return batch_size * total


def token_flops(model: DecoderConfig, objective: Objective, text_length: int) -> float:
  """Training FLOPs per token: model FLOPs of an update, over the tokens of text that it reads; see `update_flops`."""
  return update_flops(model, objective, text_length, 1) / text_length


def _flops(
  model: DecoderConfig, objective: Objective, positions: int, scored: int, length: int, visible: float
) -> float:
  """Of the decoder, which reads so many positions and scores tokens at some, and of what is beside it."""
  head = (scored if objective.predicts_tokens else 0) + round(objective.head_uses * positions)
  own = model.train_flops(positions, head, length, visible)
  return own + networks.train_flops(objective, model, positions, length, visible)
