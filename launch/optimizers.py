"""Learning-rate schedules and optimizers, from optax."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from .. import UserError
from ..objectives.checks import refuse_idle


def _require(settings: Any, names: Sequence[str], low: float, high: float = math.inf) -> None:
  """Raises UserError naming the first setting outside [low, high]."""
  for name in names:
    value = getattr(settings, name)
    if not low <= value <= high:
      most = '' if high == math.inf else f' and {high:g} at most'
      raise UserError(f'{type(settings).__name__}.{name} is {value}; it is {low:g} at least{most}.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """Linear warm-up, then a decay.

  Attributes:
    peak: learning rate at the end of the warm-up.
    warmup_steps: updates over which the rate rises from 0.
    decay: 'cosine', 'linear', 'constant', 'rsqrt' (peak * sqrt(warmup / step), T5's), or 'wsd' (constant, then linear
      over the last `cooldown_frac` of the updates).
    final_frac: the last rate as a share of the peak, for cosine, linear and wsd.
    cooldown_frac: share of the updates that wsd's linear decay takes; 2,000 of 42,000 in arXiv 2507.00994, more for
      short runs.
  """

  peak: float = 3e-3
  warmup_steps: int = 50
  decay: Literal['cosine', 'linear', 'constant', 'rsqrt', 'wsd'] = 'cosine'
  final_frac: float = 0.1
  cooldown_frac: float = 0.2

  def __post_init__(self) -> None:
    _require(self, ('peak', 'warmup_steps'), 0)
    _require(self, ('final_frac', 'cooldown_frac'), 0, 1)
    if self.decay != 'wsd':
      refuse_idle(self, ('cooldown_frac',), "decay='wsd'")
    if self.decay in ('constant', 'rsqrt'):
      refuse_idle(self, ('final_frac',), "a decay of 'cosine', 'linear' or 'wsd'")

  def build(self, steps: int) -> optax.Schedule:
    """The rate as a function of the number of updates applied before; UserError for an unknown decay."""
    if not 0 < steps < 2**31:
      raise UserError(f'TRAIN_STEPS={steps} cannot be counted; give 1 or more, below 2**31.')
    warmup = min(self.warmup_steps, steps)
    rest = max(1, steps - warmup)
    if self.decay == 'cosine':
      after = optax.cosine_decay_schedule(self.peak, rest, alpha=self.final_frac)
    elif self.decay == 'linear':
      after = optax.linear_schedule(self.peak, self.peak * self.final_frac, rest)
    elif self.decay == 'constant':
      after = optax.constant_schedule(self.peak)
    elif self.decay == 'rsqrt':
      after = lambda count: self.peak * (max(1, warmup) / (jnp.maximum(count, 0) + max(1, warmup))) ** 0.5
    elif self.decay == 'wsd':
      cooldown = max(1, int(steps * self.cooldown_frac))
      after = optax.linear_schedule(self.peak, self.peak * self.final_frac, cooldown, max(0, rest - cooldown))
    else:
      raise UserError(f'Schedule.decay is {self.decay!r}; choose cosine, linear, constant, rsqrt or wsd.')
    # Update k of the warm-up runs at k / warmup of the peak: no update is wasted on a rate of 0.
    return optax.join_schedules(
      [optax.linear_schedule(self.peak / max(1, warmup), self.peak, max(1, warmup - 1)), after], [warmup]
    )


# Which optimizers read which settings; the others are read by all.
_READERS = {
  'b1': ('adamw', 'lion', 'muon'),
  'b2': ('adamw', 'lion', 'muon'),
  'eps': ('adamw', 'muon'),
  'weight_decay': ('adamw', 'lion', 'muon'),
  'momentum': ('muon',),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """An optax chain: clip by global norm, then the named optimizer.

  Attributes:
    name: 'adamw' (arXiv 1711.05101), 'adafactor' (1804.04235), 'lion' (2302.06675), or 'muon' (blocks' matrices by
      Muon, the rest by optax's Adam with Nesterov's momentum and no decay; updates scaled to AdamW's size as in arXiv
      2502.16982 section 2.2, so that its learning rates serve).
    schedule: the learning rate.
    b1, b2, eps, weight_decay: AdamW's; (0.9, 0.95) and 0.1 as in MEAP and most recent decoders. Lion takes b1, b2 and
      the decay (its paper has 0.9, 0.99 and three to ten times AdamW's decay at a rate as much lower), Muon all of
      them. Norm scales are not decayed.
    momentum: Muon's; 0.95 as in its reference.
    clip_norm: largest global gradient norm; 0 does not clip.
    moment_dtype: 'float32' or 'bfloat16', of what the optimizer keeps for each parameter between updates, which are
      computed in float32 either way. bfloat16 halves that memory and rounds each moment to 8 bits of precision.
  """

  name: Literal['adamw', 'adafactor', 'lion', 'muon'] = 'adamw'
  schedule: Schedule = Schedule()
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  weight_decay: float = 0.1
  momentum: float = 0.95
  clip_norm: float = 1.0
  moment_dtype: Literal['float32', 'bfloat16'] = 'float32'

  def __post_init__(self) -> None:
    _require(self, ('b1', 'b2', 'momentum'), 0, 1)
    _require(self, ('eps', 'weight_decay', 'clip_norm'), 0)
    for field, readers in _READERS.items():
      if self.name not in readers:
        refuse_idle(self, (field,), ' or '.join(f'name={name!r}' for name in readers))

  def build(self, steps: int) -> optax.GradientTransformation:
    """The transformation for a run of `steps` updates; UserError for an unknown name or dtype."""
    if self.moment_dtype not in ('float32', 'bfloat16'):
      raise UserError(f'Optimizer.moment_dtype is {self.moment_dtype!r}; choose float32 or bfloat16.')
    core = self._core(self.schedule.build(steps))
    if self.moment_dtype != 'float32':
      core = stored_in(core, jnp.dtype(self.moment_dtype))
    clip = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()
    return optax.chain(clip, core)

  def _core(self, rate: optax.Schedule) -> optax.GradientTransformation:
    if self.name == 'adamw':
      return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay, mask=_is_matrix)
    if self.name == 'adafactor':
      return optax.adafactor(rate, multiply_by_parameter_scale=True, clipping_threshold=1.0)
    if self.name == 'lion':
      return optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay, mask=_is_matrix)
    if self.name == 'muon':
      return optax.contrib.muon(
        rate,
        beta=self.momentum,
        eps=self.eps,
        weight_decay=self.weight_decay,
        adam_b1=self.b1,
        adam_b2=self.b2,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_as_matrices,
      )
    raise UserError(f'Optimizer.name is {self.name!r}; choose adamw, adafactor, lion or muon.')


def stored_in(core: optax.GradientTransformation, dtype: jnp.dtype) -> optax.GradientTransformation:
  """`core`, whose float32 arrays are kept in `dtype` between updates; counts and scalars stay as they are."""

  def cast(state: optax.OptState, before: jnp.dtype, after: jnp.dtype) -> optax.OptState:
    wanted = lambda x: getattr(x, 'dtype', None) == before and x.ndim > 0
    return jax.tree.map(lambda x: x.astype(after) if wanted(x) else x, state)

  def init(params: optax.Params) -> optax.OptState:
    return cast(core.init(params), jnp.dtype('float32'), dtype)

  def update(updates, state, params=None):
    updates, state = core.update(updates, cast(state, dtype, jnp.dtype('float32')), params)
    return updates, cast(state, jnp.dtype('float32'), dtype)

  return optax.GradientTransformation(init, update)


def _is_matrix(params: optax.Params) -> optax.Params:
  """True for everything but norm scales, which a scan stacks to [layers, D]."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != 'scale', params)


# Which axes of a block's stacked parameter a matrix's inputs and outputs are; the others count matrices.
_MATRICES = {
  **dict.fromkeys(('query', 'key', 'value'), optax.contrib.MuonDimensionNumbers(1, (2, 3))),
  'out': optax.contrib.MuonDimensionNumbers((1, 2), 3),
  'gate_up': optax.contrib.MuonDimensionNumbers(1, 3),
  'down': optax.contrib.MuonDimensionNumbers(1, 2),
}


def _as_matrices(params: optax.Params) -> optax.Params:
  """Muon's view of the blocks' parameters; None leaves embeddings, output head and norms to AdamW."""
  return jax.tree_util.tree_map_with_path(lambda path, _: _MATRICES.get(path[-1].key), params)
