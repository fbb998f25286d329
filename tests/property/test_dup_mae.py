"""DupMAE: who sees what when a token is rebuilt, through what the encoder is trained, and the bag of words by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from objective_table import SPECIAL, corrupt, documents, make_rows
from unmask import UserError
from unmask.launch import networks, state, step, t5x_model
from unmask.launch.program import update_flops
from unmask.models import bag, enhanced_decoder
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import BIDIRECTIONAL, CAUSAL, AttentionSpec, DupMAE, MaskedLM, Mixture, NextToken
from unmask.objectives.networks import EnhancedDecoder

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=16
)
DECODER = Decoder(CONFIG)
BOTH = [DupMAE(), DupMAE(attention=CAUSAL, bottleneck='last')]


def _params(objective=BOTH[0]) -> dict:
  made = jax.jit(lambda key: state.unboxed(state.init_params(DECODER, key, networks.beside(objective, CONFIG))))
  return made(jax.random.key(0))


def _batch(objective, rows: dict, seed: int = 0) -> dict:
  return {name: jnp.asarray(value) for name, value in corrupt(objective, rows, seed).items()}


@pytest.fixture(scope='module')
def params():
  return _params()


@pytest.fixture(scope='module')
def rows():
  return make_rows(np.random.default_rng(0), 8, 64)


def _visible(batch: dict, hidden: float) -> np.ndarray:
  place = np.asarray(batch['decoder_bottlenecks'])
  at = (place == np.arange(place.shape[1])) & np.asarray(batch['decoder_segment_ids'] > 0)
  names = ('decoder_segment_ids', 'decoder_noise', 'decoder_units')
  return np.asarray(enhanced_decoder.random_rows(*(batch[name] for name in names), at, hidden)), at


@pytest.mark.parametrize('hidden', [0.5, 0.2])
def test_each_position_sees_its_own_random_share_of_the_others(hidden):
  """By distance the share is what was set, the position itself is never seen, the bottleneck always."""
  batch = _batch(DupMAE(unit='token', hidden=hidden), {k: np.repeat(v, 2000, 0) for k, v in documents(1, 24).items()})
  visible, _ = _visible(batch, hidden)
  assert not visible[:, np.arange(24), np.arange(24)].any()
  assert visible[:, 1:, 0].all()
  others = visible[:, :, 1:]
  for distance in (*range(-22, 0), *range(1, 23)):
    seen = np.stack([others[:, i, i + distance - 1] for i in range(24) if 1 <= i + distance < 24])
    assert seen.mean() == pytest.approx(1 - hidden, abs=4 * math.sqrt(hidden * (1 - hidden) / seen.size)), distance
  # Two positions of a row, and one position in two rows, see by chance alike.
  for one, other in ((others[:, 3, 10:], others[:, 4, 10:]), (others[:-1, 3, 10:], others[1:, 3, 10:])):
    table = scipy.stats.contingency.crosstab(one.ravel(), other.ravel()).count
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize('objective', BOTH, ids=lambda objective: objective.bottleneck)
def test_who_sees_whom(objective, rows):
  """Nobody another passage or padding; words are out of sight as a whole, but for one's own token."""
  batch = _batch(objective, rows)
  visible, at = _visible(batch, 0.5)
  segments, words = np.asarray(batch['decoder_segment_ids']), rows['word_ids']
  same = (segments[:, :, None] == segments[:, None]) & (segments > 0)[:, None]
  itself = np.eye(64, dtype=bool)[None]
  assert not (visible & ~same).any()
  assert (visible | ~same | ~at[:, None] | itself).all()
  assert at.sum() == segments.max(axis=1).sum()
  together = same & (words[:, :, None] == words[:, None]) & (words > 0)[:, None]
  for b, i, j in zip(*np.nonzero(np.triu(together, 1)), strict=True):
    apart = np.flatnonzero(visible[b, :, i] != visible[b, :, j])
    assert set(apart) <= {i, j}
  edge = np.diff(segments, axis=1, append=0, prepend=0) != 0
  assert (edge[:, :-1] if objective.bottleneck == 'first' else edge[:, 1:])[at].all()


def test_a_state_depends_on_the_tokens_that_its_position_sees(params, rows):
  """Another token at one place changes the states of those that see it, of all of them, and never its own."""
  batch = _batch(BOTH[0], rows)
  visible, at = _visible(batch, 0.5)
  nets = networks.Bound(DECODER, BOTH[0], params)
  vectors = jax.random.normal(jax.random.key(1), (8, 64, 32))

  @jax.jit
  def rebuilt(tokens):
    return nets.rebuild(
      'reconstruction', vectors, jnp.asarray(at), tokens, batch['decoder_noise'], batch['decoder_units'], batch
    )

  clean, able = batch['decoder_target_tokens'], visible.any(axis=-1)  # but for some bottlenecks, which are not rebuilt
  assert (able | at | (np.asarray(batch['decoder_segment_ids']) == 0)).all()
  before = np.asarray(rebuilt(clean))
  for place in (0, 5, 20, 33):
    after = np.asarray(rebuilt(clean.at[:, place].add(1)))
    changed = (before != after).any(axis=-1)
    expected = visible[:, :, place] & ~at[:, place][:, None]  # in a bottleneck's place stands its vector
    np.testing.assert_array_equal(changed[able], expected[able])
    assert not changed[able[:, place], place].any()
  assert at[:, 0].all()


def _measured(objective, params, batch, hidden):
  return objective.measure(networks.Bound(DECODER, objective, params), hidden, batch)


@pytest.mark.parametrize('objective', BOTH, ids=lambda objective: objective.bottleneck)
def test_reconstruction_trains_the_decoder_through_bottlenecks_alone(objective, params, rows):
  """Each passage's loss has a gradient at its own bottleneck's state, and at no other."""
  batch = _batch(objective, rows)
  segments, at = np.asarray(batch['decoder_segment_ids']), _visible(batch, 0.5)[1]
  hidden = jax.random.normal(jax.random.key(2), (8, 64, 32))

  @jax.jit
  @jax.grad
  def gradient(hidden, segment):
    found = _measured(objective, params, batch, hidden)['reconstruction_loss']
    return jnp.where(batch['decoder_segment_ids'] == segment, found, 0).sum()

  for segment in range(1, segments.max() + 1):
    moved = np.abs(np.asarray(gradient(hidden, segment))).max(axis=-1) > 0
    np.testing.assert_array_equal(moved, at & (segments == segment))


def test_without_the_bottleneck_the_decoder_learns_nothing_of_reconstruction(params, rows):
  batch = _batch(BOTH[0], rows)
  at = jnp.asarray(_visible(batch, 0.5)[1])[..., None]

  @jax.jit
  @jax.grad
  def gradient(params, zeroed, kept):
    hidden = step.hidden_states(DECODER, params, batch, BIDIRECTIONAL)
    hidden = jnp.where(at & zeroed, 0.0, jnp.where(~at & kept, jax.lax.stop_gradient(hidden), hidden))
    return _measured(BOTH[0], params, batch, hidden)['reconstruction_loss'].sum()

  largest = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
  whole, through, none = (gradient(params, *flags) for flags in ((False, False), (False, True), (True, False)))
  assert largest(whole['blocks']) > 1e-4
  jax.tree.map(np.testing.assert_array_equal, whole['blocks'], through['blocks'])
  assert largest(none['blocks']) == largest(none['final_norm']) == 0.0
  assert largest(none['reconstruction']) > 1e-4
  assert largest(none['embedding']) > 1e-4  # of the clean tokens, and of the head


def _bag_by_hand(logits: np.ndarray, batch: dict, at: np.ndarray) -> tuple[float, int]:
  """Plain and slow, in float64: (sum over passages, passages)."""
  total, count = 0.0, 0
  for b, row in enumerate(np.asarray(batch['decoder_segment_ids'])):
    for segment in range(1, row.max() + 1):
      mine = row == segment
      tokens = [t for t in np.asarray(batch['decoder_target_tokens'])[b][mine].tolist() if SPECIAL.is_text(t)]
      if tokens:
        pooled = logits[b][mine & ~at[b]].max(axis=0)
        log_p = pooled - scipy.special.logsumexp(pooled)
        total -= sum(log_p[token] for token in set(tokens)) / len(tokens)
        count += 1
  return total, count


@pytest.mark.parametrize('loss_chunk', [7, 1000])
@pytest.mark.parametrize('objective', BOTH, ids=lambda objective: objective.bottleneck)
def test_the_bag_of_words_is_that_of_a_plain_loop(objective, loss_chunk, params, rows):
  """Few ids, so that tokens come more than once; also where the parts of the vocabulary do not divide it."""
  rows = rows | {'targets': np.where(rows['targets'] >= 32, 32 + rows['targets'] % 9, rows['targets'])}
  batch = _batch(objective, rows)
  at = _visible(batch, 0.5)[1]
  hidden = np.random.default_rng(3).normal(size=(8, 64, 32)).astype(np.float32)
  decoder = Decoder(dataclasses.replace(CONFIG, loss_chunk=loss_chunk))
  nets = networks.Bound(decoder, objective, params)
  measured = jax.jit(lambda hidden: objective.measure(nets, hidden, batch))(hidden)
  terms = objective.loss(jnp.zeros((8, 64)), batch['decoder_loss_weights'], batch | measured)
  logits = hidden.astype(np.float64) @ np.asarray(params['embedding'], np.float64).T
  total, count = _bag_by_hand(logits, batch, at)
  np.testing.assert_allclose(terms['bag'].numerator, total, rtol=1e-5)
  assert float(terms['bag'].denominator) == count > 8
  assert terms['bag'].coefficient == 0.1


@pytest.mark.parametrize('loss_chunk', [7, 1000])
def test_the_gradient_of_the_bag_is_that_of_differentiation(loss_chunk, params, rows):
  segments = jnp.asarray(rows['segment_ids'])
  targets = jnp.asarray(rows['targets'])
  pooled = jax.random.uniform(jax.random.key(4), segments.shape) < 0.8
  weights = jax.random.normal(jax.random.key(5), segments.shape) * (segments > 0)
  hidden = jax.random.normal(jax.random.key(6), (8, 64, 32))
  config = dataclasses.replace(CONFIG, loss_chunk=loss_chunk)

  def ours(hidden, table):
    return (weights * bag.cross_entropy(hidden, pooled, segments, targets, {'embedding': table}, config)).sum()

  def plain(hidden, table):
    logits = jnp.where(pooled[..., None], hidden @ table.T, -1e30)
    mine = segments[:, :, None] == segments[:, None]
    largest = jnp.stack([jnp.where(mine[:, i, :, None], logits, -1e30).max(axis=1) for i in range(64)], axis=1)
    log_p = jax.nn.log_softmax(largest)
    return -(weights * jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]).sum()

  one, other = (jax.jit(jax.value_and_grad(f, (0, 1)))(hidden, params['embedding']) for f in (ours, plain))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max()), one, other)


def test_no_array_of_all_logits_is_made():
  """Nor of a quarter of them, forwards or backwards."""
  config = dataclasses.replace(CONFIG, embed_dim=24)
  ids = jnp.ones((4, 64), jnp.int32)
  loss = lambda hidden, table: bag.cross_entropy(hidden, ids > 0, ids, ids, {'embedding': table}, config).sum()
  made = jax.make_jaxpr(jax.grad(loss, (0, 1)))(jnp.ones((4, 64, 24)), jnp.ones((512, 24)))
  sizes = [math.prod(var.aval.shape) for eqn in _equations(made.jaxpr) for var in eqn.outvars]
  assert 512 * 24 <= max(sizes) < 4 * 64 * 512 / 4


def _equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda value: hasattr(value, 'eqns')):
      inner = getattr(inner, 'jaxpr', inner)
      yield from _equations(inner) if hasattr(inner, 'eqns') else ()


@pytest.mark.parametrize('objective', BOTH, ids=lambda objective: objective.bottleneck)
def test_three_terms_over_their_own_positions(objective, params, rows):
  """The masked one is MaskedLM's to the bit; of the others every ordinary token but a bottleneck, and every passage."""
  plain = MaskedLM(rate=0.3, unit='word', attention=objective.attention)
  batch = _batch(objective, rows)
  np.testing.assert_array_equal(batch['decoder_input_tokens'], corrupt(plain, rows)['decoder_input_tokens'])
  scored = objective.max_supervised(64)
  sums = lambda one: jax.jit(lambda params: step.loss_sums(DECODER, step.Scoring(one, scored), params, batch))(params)
  found, mlm = sums(objective), sums(plain)
  np.testing.assert_array_equal(found['masked'], mlm['cross_entropy'])
  text = SPECIAL.is_text(rows['targets']) & (rows['segment_ids'] > 0)
  passages = {(b, rows['segment_ids'][b, i]) for b, i in zip(*np.nonzero(text), strict=True)}
  assert float(found['reconstruction'][1]) == (text & ~_visible(batch, 0.5)[1]).sum()
  assert float(found['bag'][1]) == len(passages)
  assert found['reconstruction'][0] / found['reconstruction'][1] == pytest.approx(math.log(512), rel=0.3)
  coefficients = step.coefficients(step.Scoring(objective, scored), jax.eval_shape(lambda: batch))
  assert coefficients == {'masked': 1, 'reconstruction': 1, 'bag': 0.1}


def test_flops_are_those_of_all_matrices(params):
  """6 a parameter and position; the table three times: where masked, for every token, for every pooled position."""
  size = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree) if leaf.ndim > 1)
  length = 64
  attention = 3 * 12 * 4 * 8 * length * length  # two layers and the one behind them
  blocks = size(params['blocks']) - 2 * 2 * 32  # without the norms' scales
  matrices = 6 * (blocks + size(params['reconstruction'])) * length
  table = 6 * 512 * 32 * (BOTH[0].max_supervised(length) + 2 * length)
  assert update_flops(CONFIG, BOTH[0], length, 1) == pytest.approx(matrices + attention + table, rel=1e-9)


@pytest.mark.parametrize(
  ('make', 'sign'),
  [
    (lambda: DupMAE(shifted=True), r'DupMAE\.shifted is True'),
    (lambda: DupMAE(hidden=1.5), r'DupMAE\.hidden is 1\.5'),
    (lambda: DupMAE(bottleneck='middle'), 'choose one of first, last'),
    (lambda: DupMAE(attention=CAUSAL), "take 'last'"),
    (lambda: DupMAE(attention=AttentionSpec(ordered=(True, True))), "take 'last'"),
    (lambda: DupMAE(attention=AttentionSpec(ordered=True, block=4)), "take 'last'"),
    (lambda: DupMAE(bag_weight=0.0), r'bag_weight is 0\.0'),
    (lambda: DupMAE(reconstruction_weight=math.inf), 'reconstruction_weight is inf'),
    (lambda: EnhancedDecoder(hidden=-0.1), r'EnhancedDecoder\.hidden is -0\.1'),
    (lambda: Mixture(parts={'a': DupMAE(), 'b': NextToken()}), 'train it by itself'),
    (lambda: t5x_model.Model(CONFIG, DupMAE(), None, None), r'networks beside the decoder \(reconstruction\)'),
  ],
)
def test_what_cannot_be_is_named(make, sign):
  DupMAE(attention=AttentionSpec(ordered=(True, False)))
  with pytest.raises(UserError, match=sign):
    make()
