"""Runs under t5x: its own masks, losses and microbatches beside ours, on one batch each, as JSON on stdout."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from t5x import adafactor, models, partitioning, trainer
from t5x.examples.decoder_only import layers, network
from unmask.launch import step, t5x_model
from unmask.models import attention, config, t5x_adapter
from unmask.objectives import causal_masked, masked_lm, meap
from unmask.tasks import convert, default_text, lookup, text_task

LENGTH, ROWS = 64, 8
SHAPE = config.DecoderConfig(embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=48)
OBJECTIVES = {
  'meap': meap.MEAP(),
  'mlm': masked_lm.MaskedLM(selection='bernoulli'),
  'mntp': masked_lm.MaskedLM(shifted=True),
  'causal_masked': causal_masked.CausalMasked(),
}


def batch_of(objective, vocabulary, **how) -> dict[str, np.ndarray]:
  """The first rows of the held-out corpus."""
  import seqio

  converter = convert.ObjectiveConverter(objective, vocabulary, **how)
  rows = seqio.get_dataset('default_text', {'targets': LENGTH}, converter, 'validation', True, shuffle=False)
  return next(iter(rows.batch(ROWS).as_numpy_iterator()))


def stock(objective, vocabulary) -> dict[str, float]:
  """t5x's model: its mask beside ours, its summed loss beside our objective's of the same logits."""
  batch = batch_of(objective, vocabulary)
  masks = layers.make_decoder_mask(
    batch['decoder_target_tokens'], bool, batch['decoder_causal_attention'], batch['decoder_segment_ids']
  )
  seen = attention.visible(batch['decoder_segment_ids'], objective.attention.ordered)
  shape = network.TransformerConfig(vocab_size=8192, emb_dim=32, num_heads=2, num_layers=2, head_dim=16, mlp_dim=48)
  model = models.DecoderOnlyModel(
    network.DecoderWrapper(shape), vocabulary, adafactor.Adafactor(), inputs_bidirectional_attention=True
  )
  variables = model.get_initial_variables(
    jax.random.PRNGKey(0), {name: x.shape for name, x in batch.items()}, {name: x.dtype for name, x in batch.items()}
  )
  loss, metrics = jax.jit(lambda params: model.loss_fn(params, batch, None))(variables['params'])
  logits = jax.jit(lambda params: model._compute_logits(params, batch))(variables['params'])
  hit = jnp.take_along_axis(jax.nn.log_softmax(logits), batch['decoder_target_tokens'][..., None], -1)[..., 0]
  (term,) = objective.loss(-hit, batch['decoder_loss_weights']).values()
  return {
    'masks differ': int((masks[:, 0] != seen).sum()),
    'loss': float(metrics['loss_per_nonpadding_target_token'].compute()),
    'summed loss': float(loss / batch['decoder_loss_weights'].sum()),
    'ours': float(term.numerator / term.denominator),
  }


def ours(objective, vocabulary) -> dict[str, dict[str, float]]:
  """t5x's microbatches of our model beside our step's gradient of the batch."""
  batch = batch_of(objective, vocabulary, knows_objective=True)
  model = t5x_model.Model(SHAPE, objective, vocabulary, None, {'targets': LENGTH})
  params = model.get_initial_variables(jax.random.PRNGKey(0), {name: x.shape for name, x in batch.items()})['params']
  scoring = step.Scoring(objective, batch['decoder_input_tokens'].shape[1])
  wanted, sums = jax.jit(lambda params: step.gradients(model.module, scoring, params, batch, 1))(params)
  loss = float(sum(numerator / denominator for numerator, denominator in sums.values()))
  norm = float(jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(wanted))))
  found = {}
  for count in (1, 2, 4):

    def accumulated(params, count=count):
      state = types.SimpleNamespace(params=params, flax_mutables=None)
      rows = model.with_denominators(batch)
      return trainer.accumulate_grads_microbatched(model, state, rows, jax.random.PRNGKey(0), count)[:2]

    gradient, metrics = jax.jit(accumulated)(params)
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), gradient, wanted)
    found[str(count)] = {
      'loss': float(metrics['loss'].compute()),
      'ours': loss,
      'gradients apart': float(max(jax.tree.leaves(apart))) / norm,
    }
  return found


if __name__ == '__main__':
  home = sys.argv[1]
  task = text_task.TextTask(
    name='default_text', corpus=default_text.DefaultText(download_dir=f'{home}/downloads'), data_dir=home
  )
  ids = lookup.vocabulary('default_text', task)
  rules = dict(partitioning.standard_logical_axis_rules())
  print(
    json.dumps(
      {
        'axes without a rule': sorted(set(t5x_adapter.AXES.values()) - set(rules)),
        'axes of the contract': sorted(set(t5x_adapter.T5X_AXES) ^ set(rules)),
        'stock': {name: stock(objective, ids) for name, objective in OBJECTIVES.items()},
        'ours': {name: ours(OBJECTIVES[name], ids) for name in ('mlm', 'causal_masked')},
      }
    )
  )
