"""ELECTRA: what the generator draws, what counts as replaced, two means, and whose gradient goes where."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from objective_table import SPECIAL, make_rows
from unmask import UserError
from unmask.launch import checkpoints, initial, mesh, networks, runlog, saving, state, step, t5x_model
from unmask.launch.program import Program, update_flops
from unmask.models import head, sampling
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import Electra, Mixture, NextToken, preprocessor

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=4
)
ELECTRA = Electra()
DECODER = Decoder(CONFIG)
SCORING = step.Scoring(ELECTRA, 64)
FOUR = dataclasses.replace(SPECIAL, text=(32, 36))


def _params(objective=ELECTRA) -> dict:
  made = jax.jit(lambda key: state.unboxed(state.init_params(DECODER, key, networks.beside(objective, CONFIG))))
  return made(jax.random.key(0))


def _batch(rows: dict, special=SPECIAL, seed: int = 0) -> dict:
  """Features on the device."""
  count = len(rows['targets'])
  known = {'example_id': np.arange(count), 'epoch': np.zeros(count, np.int64)}
  block = preprocessor.corrupt_block(ELECTRA, special, seed)({k: tf.constant(v) for k, v in (rows | known).items()})
  return {name: jnp.asarray(value.numpy()) for name, value in block.items()}


@pytest.fixture(scope='module')
def params():
  return _params()


@pytest.fixture(scope='module')
def batch():
  return _batch(make_rows(np.random.default_rng(0), 8, 64))


def test_a_uniform_generator_replaces_all_but_one_in_as_many_as_there_are_tokens(params):
  """Of V tokens that are equally likely one is the original: the share replaced of the chosen is 1 - 1 / V."""
  generator = np.random.default_rng(0)
  rows = {'targets': generator.integers(32, 36, (128, 512)), 'segment_ids': np.ones((128, 512))}
  batch = _batch({name: value.astype(np.int32) for name, value in rows.items()}, FOUR)
  uniform = params | {'generator': params['generator'] | {'up_to': jnp.zeros_like(params['generator']['up_to'])}}
  made = jax.jit(lambda params, batch: step.staged(DECODER, SCORING, params, batch))(uniform, batch)
  chosen = np.asarray(batch['decoder_highest']) > 0
  assert chosen.sum() == 128 * round(0.15 * 512)
  drawn, originals = (np.asarray(made[f'decoder_{name}_tokens'])[chosen] for name in ('input', 'target'))
  assert made['replaced'].sum() / chosen.sum() == pytest.approx(1 - 1 / 4, abs=0.018)  # four standard errors
  table = scipy.stats.contingency.crosstab(originals, drawn, levels=(range(32, 36), range(32, 36))).count
  assert table.sum() == chosen.sum()
  assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
  assert scipy.stats.chisquare(table.sum(axis=0)).pvalue > 1e-3
  np.testing.assert_allclose(made['generator_loss'].sum() / chosen.sum(), math.log(512), rtol=1e-5)


def test_tokens_are_drawn_as_likely_as_the_head_says():
  """Of a range of ids alone, each by its own noise."""
  logits = np.random.default_rng(1).normal(size=16).astype(np.float32)
  model = dataclasses.replace(CONFIG, vocab_size=16, embed_dim=16, loss_chunk=1000)
  noise = np.random.default_rng(2).integers(-(2**31), 2**31, (2, 15_000)).astype(np.int32)
  full = lambda value: jnp.full(noise.shape, value, jnp.int32)
  hidden = jnp.broadcast_to(logits, (*noise.shape, 16))
  draw = jax.jit(lambda low, high: sampling.draw(hidden, noise, low, high, {'embedding': jnp.eye(16)}, model))
  for low, high in ((0, 16), (3, 9)):
    drawn = np.asarray(draw(full(low), full(high)))
    assert ((drawn >= low) & (drawn < high)).all()
    share = scipy.special.softmax(logits[low:high].astype(np.float64))
    counts = np.bincount(drawn.ravel(), minlength=16)[low:high]
    assert scipy.stats.chisquare(counts, share * noise.size).pvalue > 1e-3
  before, after = drawn[:, :-1].ravel(), drawn[:, 1:].ravel()
  assert scipy.stats.chi2_contingency(scipy.stats.contingency.crosstab(before, after).count).pvalue > 1e-3


def test_two_means_over_two_sets_of_positions(params, batch):
  """By hand: the generator's over the chosen, the decoder's over all that is real; equal draws count as original."""
  every = jnp.broadcast_to(jnp.arange(64), batch['decoder_segment_ids'].shape)

  @jax.jit
  def by_hand(params, batch):
    nets, made = networks.Bound(DECODER, ELECTRA, params), step.staged(DECODER, SCORING, params, batch)
    log_p = jax.nn.log_softmax(head.logits(nets.tower('generator', batch, every), params, CONFIG))
    hidden = step.hidden_states(DECODER, params, made, ELECTRA.attention)
    return step.loss_sums(DECODER, SCORING, params, batch), made, log_p, nets.head('detector', hidden)

  found, made, log_p, odds = jax.tree.map(np.asarray, by_hand(params, batch))
  chosen, real = np.asarray(batch['corrupted']) > 0, np.asarray(batch['decoder_segment_ids']) > 0
  originals, read = np.asarray(batch['decoder_target_tokens']), made['decoder_input_tokens']
  np.testing.assert_array_equal(read[~chosen], originals[~chosen])
  assert ((read[chosen] >= SPECIAL.text[0]) & (read[chosen] < SPECIAL.text[1])).all()
  nll = -np.take_along_axis(log_p, originals[..., None], axis=-1)[..., 0]
  label = read != originals
  detection = np.where(label, np.log1p(np.exp(-odds)), np.log1p(np.exp(odds)))
  expected = {
    'generator': (nll[chosen].sum(), chosen.sum()),
    'detection': (detection[real].sum(), real.sum()),
    'replaced': (label[real].sum(), chosen.sum()),
  }
  assert chosen.sum() < 0.2 * real.sum()
  for name, (top, bottom) in expected.items():
    np.testing.assert_allclose(found[name][0], top, rtol=1e-5, err_msg=name)
    assert float(found[name][1]) == bottom, name
  shapes = jax.eval_shape(lambda: batch)
  assert step.coefficients(SCORING, shapes) == {'generator': 1.0, 'detection': 50.0, 'replaced': 0.0}
  assert {name: float(x) for name, x in step.denominators_of(SCORING, batch).items()} == {
    name: bottom for name, (_, bottom) in expected.items()
  }


def test_no_gradient_goes_through_the_drawing(params, batch):
  """The decoder's loss does not train the generator, nor the generator's the decoder; both train the table."""
  names = ('generator', 'detection', 'replaced')

  @jax.jit
  @jax.grad
  def gradient(params, share):
    found = step.loss_sums(DECODER, SCORING, params, batch)
    return sum(share[name] * found[name][0] for name in names)

  moved = {
    name: {part: any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree)) for part, tree in gradients.items()}
    for name in names
    for gradients in [gradient(params, {other: jnp.float32(other == name) for other in names})]
  }
  decoder = dict.fromkeys(('blocks', 'final_norm'))
  assert moved['detection'] == {'embedding': True, 'generator': False, 'detector': True, **dict.fromkeys(decoder, True)}
  assert moved['generator'] == {
    'embedding': True,
    'generator': True,
    'detector': False,
    **dict.fromkeys(decoder, False),
  }
  assert not any(moved['replaced'].values())


def test_flops_are_those_of_all_matrices(params):
  """6 a parameter and position; the table is used at the chosen positions, and once more, forward, to draw."""
  size = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree) if leaf.ndim > 1)
  generator, length = params['generator'], 64
  chosen = 0.15 * length
  attention = sum(12 * 2 * heads * 8 * length * length for heads in (4, 1))  # the decoder's and the generator's
  every = size(params['blocks']) + size(generator['blocks']) + size(generator['down_from']) + size(params['detector'])
  norms = sum(2 * 2 * width for width in (32, 8))  # scales of the blocks, which are no matrices
  some = 6 * size(generator['up_to']) * chosen + 8 * 512 * 32 * chosen
  expected = 6 * (every - norms + 32) * length + attention + some  # the detector's weights are a vector
  assert update_flops(CONFIG, ELECTRA, length, 1) == pytest.approx(expected, rel=1e-9)
  assert update_flops(CONFIG, Electra(generator_layers=1), length, 3) < 3 * expected


def test_the_decoder_begins_as_under_any_objective(params):
  alone = state.unboxed(jax.jit(lambda key: state.init_params(DECODER, key))(jax.random.key(0)))
  assert set(params) - set(alone) == {'generator', 'detector'}
  jax.tree.map(np.testing.assert_array_equal, alone, {name: params[name] for name in alone})
  assert params['generator']['blocks']['attention']['query'].shape == (2, 8, 1, 8)


class _Given:
  """Weights that another run left."""

  def params(self, decoder, mesh, seed):
    del mesh
    shapes = jax.eval_shape(lambda: state.unboxed(state.init_params(decoder, jax.random.key(seed))))
    return jax.tree.map(lambda x: jnp.full(x.shape, 0.5, x.dtype), shapes)


def test_weights_come_and_go_for_the_decoder_alone(tmp_path):
  program = _program()
  with program.context():
    first, begun = (initial.state(program, 3, weights) for weights in (None, _Given()))
    fresh, begun = first.params, begun.params
    shapes, where = state.params_and_shardings(DECODER, program.mesh)
    assert begun.keys() == fresh.keys()
    for name in begun:
      expected = fresh[name] if name not in shapes else jax.tree.map(lambda x: np.full(x.shape, 0.5), fresh[name])
      jax.tree.map(np.testing.assert_array_equal, begun[name], expected)
    saver = saving.Saver(str(tmp_path), checkpoints.CheckpointPolicy())
    saver.save(first, 1, runlog.START, None)
    saver.close()
    reader = checkpoints.Checkpoints(str(tmp_path))
    _, read = reader.restore_params(shapes, where)
    reader.close()
  assert set(read) == set(shapes)
  jax.tree.map(np.testing.assert_array_equal, read, {name: fresh[name] for name in read})


def _program(**changed) -> Program:
  settings = {'objective': ELECTRA, 'z_loss': 0.0, 'mesh': mesh.MeshConfig().build(jax.devices()[:1])} | changed
  return Program(model=CONFIG, text_length=64, batch_size=8, optimizer=optax.sgd(0.1), **settings)


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: Electra(shifted=True), r'Electra\.shifted is True'),
    (lambda: Electra(generator_width=0.0), r'width is 0\.0'),
    (lambda: Electra(generator_layers=0), 'layers is 0'),
    (lambda: Electra(detection_weight=-1.0), r'detection_weight is -1\.0'),
    (lambda: Mixture(parts={'a': ELECTRA, 'b': NextToken()}), 'train it by itself'),
    (lambda: t5x_model.Model(CONFIG, ELECTRA, None, None), r'networks beside the decoder \(generator, detector\)'),
    (lambda: _program(z_loss=1e-4).check(), 'z_loss=0.0001 is of the output head'),
    (
      lambda: _program(mesh=mesh.MeshConfig(data=4, tensor=2).build(jax.devices())).check(),
      'generator: num_heads=1 does not divide over tensor=2',
    ),
  ],
)
def test_what_cannot_be_is_named(make, sign):
  _program().check()
  with pytest.raises(UserError, match=sign):
    make()
