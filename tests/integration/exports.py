"""Random decoders as checkpoints and as folders of Hugging Face's, without a training run."""

import pathlib

import jax
import numpy as np
from unmask.launch import checkpoints, mesh, networks, runlog, saving, state
from unmask.launch.exporting import parameters
from unmask.launch.exporting.facts import Facts
from unmask.launch.optimizers import Optimizer
from unmask.launch.step import hidden_states
from unmask.models import head
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.tasks import vocabularies

SHAPE = {
  'embed_dim': 48,
  'num_layers': 3,
  'num_heads': 6,
  'num_kv_heads': 2,
  'head_dim': 10,
  'mlp_dim': 56,
  'rope_theta': 5000.0,
  'norm_epsilon': 2e-5,
}
"""Nothing of it equals something else, nor a default."""


def random_params(model: DecoderConfig, seed: int = 0) -> dict:
  """Parameters of which no two are alike, norms neither."""
  shapes = jax.eval_shape(lambda: state.unboxed(state.init_params(Decoder(model), jax.random.key(0))))
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    scale = 0.3 if 'scale' in jax.tree_util.keystr(path) else shape.shape[-1] ** -0.5
    return (rng.normal(1.0 if scale == 0.3 else 0.0, scale, shape.shape)).astype(shape.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def save(
  model_dir: pathlib.Path, model: DecoderConfig, params: dict, fsdp: int = 1, beside: networks.Beside = ()
) -> parameters.Stored:
  """A checkpoint of step 0 as a run on so many devices writes it; `beside` are networks that `params` has too."""
  devices = mesh.MeshConfig(fsdp=fsdp).build(jax.devices()[:fsdp])
  with mesh.context(devices):
    decoder, optimizer = Decoder(model), Optimizer(name='adafactor').build(10)
    placed = jax.device_put(params, state.params_and_shardings(decoder, devices, beside)[1])
    saver = saving.Saver(str(model_dir), checkpoints.CheckpointPolicy())
    saver.save(state.of_params(placed, decoder, optimizer, devices, beside), 1, runlog.START, None)
    saver.close()
  return parameters.Stored(saver._folder / '1')


def facts(model: DecoderConfig, objective, vocabulary, dtype: str = 'float32', length: int = 64) -> Facts:
  scorer = objective.scorer(vocabularies.special_tokens(vocabulary))
  return Facts(name='random', step=1, model=model, objective=objective, scorer=scorer, length=length, dtype=dtype)


def our_logits(
  model: DecoderConfig,
  params: dict,
  objective,
  ids: np.ndarray,
  real: np.ndarray | None = None,
  levels: np.ndarray | None = None,
) -> np.ndarray:
  """Float32 [rows, length, vocabulary]; `real` is 0 where there is padding, `levels` are those of attention."""
  segments = np.ones_like(ids) if real is None else np.asarray(real, np.int32)
  positions = np.maximum(np.cumsum(segments, axis=1) - 1, 0).astype(np.int32)
  batch = {'decoder_input_tokens': ids, 'decoder_positions': positions, 'decoder_segment_ids': segments}
  batch |= {} if levels is None else {'decoder_levels': levels}
  hidden = hidden_states(Decoder(model), params, batch, objective.attention)
  return np.asarray(head.logits(hidden, params, model))
