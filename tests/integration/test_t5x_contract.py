"""What t5x asks of tasks and of a model, without t5x: methods, shapes, names of axes, losses under its microbatches."""

import inspect

import clu.metrics
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax.linen import partitioning
from unmask import UserError
from unmask.launch import optimizers, step, t5x_model
from unmask.models import config, t5x_adapter
from unmask.models.decoder import Decoder
from unmask.objectives import base, causal_masked, masked_lm
from unmask.tasks import convert, lookup

SHAPE = config.DecoderConfig(embed_dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48)
OBJECTIVES = {
  'mlm': masked_lm.MaskedLM(selection='bernoulli'),  # so that microbatches have unequal denominators
  'causal_masked': causal_masked.CausalMasked(sentinel_weight=0.5),
}
ROWS = 8


@pytest.fixture(scope='module', params=sorted(OBJECTIVES))
def made(request, default_source):
  """(model, its variables, a batch of its converter, our step's gradient and loss sums of that batch)."""
  objective = OBJECTIVES[request.param]
  model = t5x_model.Model(
    SHAPE, objective, default_source.vocabulary, optimizer_def=None, task_feature_lengths={'targets': 64}, z_loss=1e-2
  )
  converter = model.FEATURE_CONVERTER_CLS(pack=False, use_custom_packing_ops=False)
  rows = converter(default_source.rows('validation').take(ROWS), {'targets': 64})
  batch = next(iter(rows.batch(ROWS).as_numpy_iterator()))
  shapes = {name: value.shape for name, value in batch.items()}
  variables = jax.jit(lambda key: model.get_initial_variables(key, shapes))(jax.random.PRNGKey(0))
  decoder = Decoder(SHAPE.with_vocabulary(default_source.vocabulary.vocab_size))
  scoring = step.Scoring(model.objective, batch['decoder_input_tokens'].shape[1], z_loss=1e-2)  # every position
  gradient_and_sums = jax.jit(lambda params: step.gradients(decoder, scoring, params, batch, 1))
  return model, variables, batch, gradient_and_sums(variables['params'])


def test_variables_have_arrays_and_names_that_t5xs_rules_cover(made):
  model, variables, batch, _ = made
  shapes = {name: value.shape for name, value in batch.items()}
  assert model.get_initial_variables.__self__ is model, 't5x reads the model off the method'
  traced = jax.eval_shape(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes, {}))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), traced) == jax.tree.map(lambda x: (x.shape, x.dtype), variables)
  assert set(variables) == {'params', 'params_axes'}
  # t5x takes '_axes' from the names and holds the trees against each other (train_state._validate_params_axes).
  names = partitioning.get_axis_names(variables['params_axes'])
  leaf = lambda x: isinstance(x, jax.sharding.PartitionSpec)
  assert jax.tree.structure(names, is_leaf=leaf) == jax.tree.structure(variables['params'])
  for axes, value in zip(jax.tree.leaves(names, is_leaf=leaf), jax.tree.leaves(variables['params']), strict=True):
    assert len(axes) == value.ndim
    assert len(set(axes)) == len(axes), 'a name twice cannot be mapped'
    assert set(axes) <= set(t5x_adapter.T5X_AXES)


def test_batches_have_the_features_of_t5xs_decoder(made):
  _, _, batch, _ = made
  assert set(batch) == set(base.MODEL_FEATURES)
  for name, value in batch.items():
    assert value.dtype == (np.float32 if name == 'decoder_loss_weights' else np.int32), name
    assert value.ndim == 2, name


def test_losses_and_metrics_are_those_of_our_step(made):
  model, variables, batch, (_, sums) = made
  loss, metrics = jax.jit(model.loss_fn)(variables['params'], batch, None)
  assert loss == pytest.approx(float(sum(n / d for n, d in sums.values())), rel=1e-6)
  assert all(isinstance(metric, clu.metrics.Metric) for metric in metrics.values())
  assert metrics['loss'].compute() == pytest.approx(float(loss), rel=1e-6)
  assert {'loss', 'cross_entropy', 'z_loss', 'accuracy', 'non_padding_fraction/decoder'} <= set(metrics)
  held_out, evaluated = jax.jit(model.eval_fn)(variables['params'], batch)
  assert held_out == pytest.approx(float(metrics['cross_entropy'].compute()), rel=1e-6)
  assert evaluated['loss'].compute() == pytest.approx(float(held_out), rel=1e-6)
  assert list(inspect.signature(model.loss_fn).parameters) == ['params', 'batch', 'dropout_rng']


def test_microbatches_add_up_to_our_steps_gradient_as_t5x_adds_them(made):
  """t5x slices every feature along its first axis, adds up the gradients and merges the metrics."""
  model, variables, batch, (wanted, sums) = made
  whole, size = model.with_denominators(batch), ROWS // 4
  grad = jax.jit(jax.grad(model.loss_fn, has_aux=True))
  parts = [jax.tree.map(lambda x, i=i: x[i : i + size], whole) for i in range(0, ROWS, size)]
  (found, pooled), *others = (grad(variables['params'], part, None) for part in parts)
  for more, metrics in others:
    found = jax.tree.map(jnp.add, found, more)
    pooled = {name: pooled[name].merge(metrics[name]) for name in pooled}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), dict(found), dict(wanted))
  assert pooled['loss'].compute() == pytest.approx(float(sum(n / d for n, d in sums.values())), rel=1e-5)
  assert pooled['accuracy'].count == pytest.approx(batch['decoder_loss_weights'].sum())
  with pytest.raises(UserError, match=rf'Microbatches of {size} of {ROWS} rows.*t5x_trainer'):
    model.loss_fn(variables['params'], {name: value[:size] for name, value in batch.items()}, None)


def test_scores_and_predictions_are_per_row(made):
  model, variables, batch, _ = made
  score = jax.jit(model.score_batch, static_argnames='return_intermediates')
  scores, aux = score(variables['params'], batch, return_intermediates=True)
  assert scores.shape == (ROWS,)
  weights = batch['decoder_loss_weights']
  loss, metrics = jax.jit(model.eval_fn)(variables['params'], batch)
  assert -scores.sum() / weights.sum() == pytest.approx(float(loss), rel=1e-5)
  (token_scores,) = aux['decoder']['token_scores']
  assert token_scores.shape == weights.shape
  assert not np.asarray(token_scores)[weights == 0].any()
  np.testing.assert_allclose(score(variables['params'], batch), token_scores.sum(-1), rtol=1e-5)

  predicted, more = jax.jit(model.predict_batch_with_aux)(variables['params'], batch, rng=jax.random.PRNGKey(0))
  np.testing.assert_array_equal(predicted, jax.jit(model.predict_batch)(variables['params'], batch))
  assert predicted.dtype == jnp.int32
  np.testing.assert_array_equal(predicted[weights == 0], batch['decoder_target_tokens'][weights == 0])
  hit = (np.asarray(predicted) == batch['decoder_target_tokens']) * weights
  assert metrics['accuracy'].compute() == pytest.approx(hit.sum() / weights.sum())
  np.testing.assert_allclose(more['target_scores'], scores, rtol=1e-5)
  assert 'rng' in inspect.signature(model.predict_batch).parameters, 't5x passes rng to who names it'
  assert 'rng' not in inspect.signature(model.score_batch).parameters


def test_what_t5x_cannot_do_is_refused_by_name(default_source):
  splash = config.DecoderConfig(attention='splash')
  with pytest.raises(UserError, match="attention is 'splash'"):
    t5x_model.Model(splash, OBJECTIVES['mlm'], default_source.vocabulary, None)
  with pytest.raises(UserError, match=r"'muon'.*OPTIMIZER"):
    t5x_model.optax_optimizer(optimizers.Optimizer(name='muon'), 10)
  with pytest.raises(UserError, match=r"named 'nobodys_task'; registered: .*default_text"):
    lookup.registered('nobodys_task')


def test_the_rate_that_is_logged_is_the_one_that_is_applied():
  ours = optimizers.Optimizer(schedule=optimizers.Schedule(peak=0.1, warmup_steps=3), weight_decay=0.0, clip_norm=0)
  rate = t5x_model.learning_rate(ours, 10)
  transformation = t5x_model.optax_optimizer(ours, 10)
  params = {'kernel': jnp.ones(2)}
  state = transformation.init(params)
  for count in range(5):
    updates, state = transformation.update({'kernel': jnp.ones(2)}, state, params)
    np.testing.assert_allclose(-updates['kernel'], rate(count), rtol=1e-5)  # Adam's, of a constant gradient


def test_a_task_is_named_and_its_vocabulary_is_the_tasks(default_task, default_source):
  assert lookup.registered('default_text', default_task) == 'default_text'
  assert lookup.vocabulary('default_text') == default_source.vocabulary  # t5x compares them so
  assert isinstance(lookup.vocabulary('default_text', default_task), seqio.Vocabulary)


def test_our_decoder_reads_any_rule_and_t5xs_reads_eos_where_nothing_is_scored(default_source):
  shifted = masked_lm.MaskedLM(shifted=True)
  read = lambda **how: next(
    iter(
      convert.ObjectiveConverter(shifted, default_source.vocabulary, **how)(
        default_source.rows('validation').take(ROWS), {'targets': 64}
      )
      .batch(ROWS)
      .as_numpy_iterator()
    )
  )
  plain, filled = read(knows_objective=True), read()
  ends = (plain['decoder_target_tokens'] == 0) & (plain['decoder_segment_ids'] > 0)
  assert ends.any()
  assert not plain['decoder_loss_weights'][ends].any()
  assert (filled['decoder_target_tokens'][ends] == default_source.special.eos).all()
  for name in plain:
    np.testing.assert_array_equal(np.where(ends, 0, plain[name]), np.where(ends, 0, filled[name]))
