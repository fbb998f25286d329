"""What is known of a model that is exported."""

import dataclasses

from ...models.config import DecoderConfig
from ...objectives.attention import AttentionSpec
from ...objectives.base import Objective
from ...objectives.scoring import Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """What is exported.

  Attributes:
    name: of the model directory.
    step: of the checkpoint.
    model: with its vocabulary's size.
    objective: as it was trained.
    scorer: of the objective.
    length: positions it was trained on.
    dtype: of the weights that are written.
  """

  name: str
  step: int
  model: DecoderConfig
  objective: Objective
  scorer: Scorer
  length: int
  dtype: str

  @property
  def is_rounded(self) -> bool:
    """Whether the weights are not those of training."""
    return self.dtype != self.model.param_dtype

  @property
  def attention(self) -> AttentionSpec:
    """The rule under which the model answers: of a mixture, that of the part whose scorer it has."""
    return self.scorer.attention or self.objective.attention

  @property
  def is_causal_lm(self) -> bool:
    """Whether it is a LlamaForCausalLM, and nothing is lost by taking it for one."""
    return bool(self.objective.shift) and self.attention.always_ordered and not self.attention.levels
