"""Learning-rate schedules and optimizers, from optax."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from .. import UserError


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

  def build(self, steps: int) -> optax.Schedule:
    """The rate as a function of the number of updates applied before; UserError for an unknown decay."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """An optax chain: clip by global norm, then the named optimizer.

  Attributes:
    name: 'adamw' or 'adafactor'.
    schedule: the learning rate.
    b1, b2, eps, weight_decay: AdamW's; (0.9, 0.95) and 0.1 as in MEAP and most recent decoders. Norm scales are not
      decayed.
    clip_norm: largest global gradient norm; 0 does not clip.
  """

  name: Literal['adamw', 'adafactor'] = 'adamw'
  schedule: Schedule = Schedule()
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  weight_decay: float = 0.1
  clip_norm: float = 1.0

  def build(self, steps: int) -> optax.GradientTransformation:
    """The transformation for a run of `steps` updates; UserError for an unknown name."""
    rate = self.schedule.build(steps)
    if self.name == 'adamw':
      core = optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay, mask=_is_matrix)
    elif self.name == 'adafactor':
      core = optax.adafactor(rate, multiply_by_parameter_scale=True, clipping_threshold=1.0)
    else:
      raise UserError(f'Optimizer.name is {self.name!r}; choose adamw or adafactor.')
    clip = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()
    return optax.chain(clip, core)


def _is_matrix(params: optax.Params) -> optax.Params:
  """True for everything but norm scales, which a scan stacks to [layers, D]."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != 'scale', params)
