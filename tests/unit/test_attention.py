"""Which implementation serves which rule, and that NVIDIA's takes our masks as they are."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from unmask.models import attention
from unmask.models.config import DecoderConfig


@pytest.mark.parametrize(
  ('platform', 'dtype', 'head_dim', 'length', 'common', 'general'),
  [
    ('cpu', 'bfloat16', 64, 128, 'xla', 'xla'),
    ('tpu', 'bfloat16', 64, 128, 'splash', 'xla'),
    ('tpu', 'float32', 64, 128, 'splash', 'xla'),
    ('gpu', 'bfloat16', 64, 128, 'cudnn', 'cudnn'),
    ('gpu', 'float32', 64, 128, 'xla', 'xla'),
    ('gpu', 'bfloat16', 64, 129, 'xla', 'xla'),
    ('gpu', 'bfloat16', 192, 128, 'xla', 'xla'),
  ],
)
def test_the_platform_chooses(platform, dtype, head_dim, length, common, general, monkeypatch):
  monkeypatch.setattr(attention, 'platform', lambda: platform)
  config = DecoderConfig(dtype=dtype, head_dim=head_dim)
  for ordered in (True, False):
    assert attention.kernel(config, ordered, False, length) == common
    assert attention.kernel(config, ordered, True, length) == general
  assert attention.kernel(config, (True, False), False, length) == general


@pytest.mark.parametrize('causal', [True, False])
def test_cudnn_takes_masks_forward_and_backward(causal, monkeypatch):
  """Lowered for CUDA without a GPU: a fused kernel both ways, with the mask as its bias, causal blocks left out."""
  monkeypatch.setattr(fused_attention_stablehlo, 'check_cudnn_version', lambda: 91_000)
  monkeypatch.setattr(fused_attention_stablehlo, 'check_compute_capability', lambda capability: True)
  q, k = (jax.ShapeDtypeStruct((2, 256, heads, 64), jnp.bfloat16) for heads in (4, 2))
  visible = jax.ShapeDtypeStruct((2, 256, 256), jnp.bool_)
  attend = lambda *inputs: attention.attend(*inputs, causal=causal, implementation='cudnn').astype(jnp.float32).sum()
  text = (
    jax.jit(jax.grad(attend, argnums=(0, 1, 2))).trace(q, k, k, visible).lower(lowering_platforms=('cuda',)).as_text()
  )
  assert set(re.findall(r'__cudnn\$\w+', text)) == {
    '__cudnn$fmhaScaleBiasSoftmax',
    '__cudnn$fmhaScaleBiasSoftmaxBackward',
  }
  assert ('CAUSAL' in text) == causal


def test_saying_that_a_mask_is_causal_changes_nothing():
  generator = np.random.default_rng(0)
  q, k, v = (jnp.asarray(generator.normal(size=(2, 12, heads, 8)), jnp.float32) for heads in (4, 2, 2))
  segments = jnp.asarray(np.sort(generator.integers(1, 4, (2, 12)), axis=1))
  visible = attention.visible(segments, True)
  np.testing.assert_array_equal(attention.attend(q, k, v, visible, causal=True), attention.attend(q, k, v, visible))
