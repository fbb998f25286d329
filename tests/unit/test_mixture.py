"""Several objectives in one stream of batches: shares, corruption, attention, losses, counts, and what is refused."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_table import SPECIAL, TABLE, corrupt, make_rows
from plain_text import source
from unmask import UserError
from unmask.launch import step
from unmask.launch.judging.kept import Kept
from unmask.launch.shares import Shares
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, AttentionSpec
from unmask.objectives.base import MODEL_FEATURES
from unmask.objectives.mixture import Mixture

CONFIG = DecoderConfig(vocab_size=512, embed_dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48)
NAMES = ('next_token', 'mlm', 'causal_masked', 'salient_span', 'pmi_masking', 'meap')


def _part(name):
  return TABLE[name].make()


def _mixture(*names, **how):
  return Mixture(parts={name: _part(name) for name in names}, **how)


def _rows(count, length=48, seed=0):
  return make_rows(np.random.default_rng(seed), count, length, segments=2)


def _device_batch(objective, rows, seed=0):
  features = corrupt(objective, rows, seed)
  batch = {name: jnp.asarray(features[name]) for name in (*MODEL_FEATURES, *objective.more_features)}
  return batch | {'text_tokens': jnp.asarray((rows['segment_ids'] > 0).sum(axis=1), jnp.int32)}


def _params():
  tokens = jnp.zeros((1, 8), jnp.int32)
  variables = Decoder(CONFIG).init(jax.random.key(0), tokens, tokens, tokens + 1)
  return jax.tree.map(lambda leaf: leaf.unbox(), variables['params'], is_leaf=lambda leaf: hasattr(leaf, 'unbox'))


@pytest.mark.parametrize('name', [*NAMES, 'salient_text_to_text', 'random_span', 'meap_fine_tuning'])
def test_a_part_that_is_alone_is_the_objective_itself(name):
  """Also of no rows at all, which is what a part gets of most small batches."""
  alone, rows = _part(name), _rows(9)
  mixed = Mixture(parts={'only': alone})
  assert mixed.attention == alone.attention
  assert (mixed.home, mixed.shift, mixed.units) == (alone.home, alone.shift, alone.units)
  for count in (9, 0):
    some = {key: value[:count] for key, value in rows.items()}
    expected, given = corrupt(alone, some, seed=3), corrupt(mixed, some, seed=3)
    for key, value in expected.items():
      np.testing.assert_array_equal(given[key], value)


def test_every_row_is_read_as_its_part_would_read_it():
  mixed, rows = _mixture(*NAMES), _rows(60)
  given = corrupt(mixed, rows, seed=5)
  length = mixed.model_length(48)
  part = given['decoder_parts']
  assert (part == part[:, :1]).all()
  assert set(part[:, 0]) == set(range(len(NAMES)))
  for number, name in enumerate(mixed.parts):
    mine = part[:, 0] == number
    expected = corrupt(_part(name), rows, seed=5)
    for key, value in expected.items():
      wide = np.pad(value, [(0, 0), (0, length - value.shape[1])])
      np.testing.assert_array_equal(given[key][mine], wide[mine])
    assert (given['decoder_loss_weights'][mine] != 0).any()
    assert (given['decoder_loss_weights'] != 0).sum(axis=1).max() <= mixed.max_supervised(48)


def test_shares_of_rows_are_as_given_and_no_row_depends_on_its_batch():
  shares = {'mlm': 12, 'next_token': 3, 'meap': 1}
  mixed, rows = _mixture('mlm', 'next_token', 'meap', shares=shares), _rows(4000, 16)
  part = corrupt(mixed, rows)['decoder_parts'][:, 0]
  for number, name in enumerate(mixed.parts):
    share = shares[name] / 16
    assert abs((part == number).sum() - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share))
  some = {key: value[100:110] for key, value in rows.items()}
  np.testing.assert_array_equal(corrupt(mixed, some, first=100)['decoder_parts'][:, 0], part[100:110])
  assert (corrupt(mixed, rows, epoch=1)['decoder_parts'][:, 0] != part).mean() > 0.2


def _of_batches(mixed, steps, count, **more) -> np.ndarray:
  """Which part reads each row of the first so many batches of `count` rows, [steps, count]."""
  rows = {'targets': np.full((steps * count, 4), 40), 'segment_ids': np.ones((steps * count, 4))}
  rows = {name: value.astype(np.int32) for name, value in rows.items()}
  rows |= {'step': np.repeat(np.arange(steps), count), 'place': np.tile(np.arange(count) / count, steps)} | more
  return corrupt(mixed, rows, seed=7)['decoder_parts'][:, 0].reshape(steps, count)


@pytest.mark.parametrize('count', [8, 16, 10])
@pytest.mark.parametrize('shares', [(1, 15), (1, 1), (1, 2, 3), (1, 1, 1.5, 1, 1, 1, 1)], ids=str)
def test_every_batch_has_its_share_of_each_part(shares, count):
  """To the row: of a part that is due 2.4 rows of a batch, 2 or 3, and 2.4 on average, wherever in the batch."""
  names = [f'part{number}' for number in range(len(shares))]
  mixed = Mixture(parts=dict.fromkeys(names, _part('next_token')), shares=dict(zip(names, shares, strict=True)))
  steps = 600
  part = _of_batches(mixed, steps, count)
  for number, share in enumerate(np.array(shares) / sum(shares)):
    mine, due = part == number, count * share
    counts = mine.sum(axis=1)
    assert set(counts) <= {math.floor(due + 1e-9), math.ceil(due - 1e-9)}
    spread = (due % 1) * (1 - due % 1)
    assert abs(counts.mean() - due) <= 1e-9 + 5 * math.sqrt(spread / steps)
    assert np.abs(mine.mean(axis=0) - share).max() < 5 * math.sqrt(share * (1 - share) / steps)


def test_which_rows_of_a_batch_are_read_together_changes():
  """No two places are of one part for long: what stands side by side may be of one document."""
  part = _of_batches(_mixture('next_token', 'mlm'), 600, 16)
  together = (part[:, :1] == part).mean(axis=0)
  assert together[1:].max() < 0.7
  assert together[1:4].min() > 0.3


def test_the_part_of_a_row_of_no_batch_is_its_own():
  """Of held-out rows, of readers that know no batches, and of copies that are read again and again."""
  alone = _mixture('next_token', 'mlm')
  known = {'targets': np.full((64, 4), 40, np.int32), 'segment_ids': np.ones((64, 4), np.int32)}
  expected = corrupt(alone, known, seed=7)['decoder_parts'][:, 0]
  np.testing.assert_array_equal(_of_batches(alone, 4, 16, place=np.full(64, -1.0)).ravel(), expected)
  assert (_of_batches(alone, 4, 16).ravel() != expected).any()
  np.testing.assert_array_equal(
    _of_batches(dataclasses.replace(alone, static_copies=2), 4, 16).ravel(),
    corrupt(dataclasses.replace(alone, static_copies=2), known, seed=7)['decoder_parts'][:, 0],
  )


def test_hosts_and_a_resumed_run_agree_on_the_parts():
  mixed = _mixture('next_token', 'meap', shares={'next_token': 3, 'meap': 1})
  with source([f'Line {number} of a text, {number * 7919} words.' for number in range(80)], 16) as opened:
    read = lambda **how: list(itertools.islice(opened.batches(mixed, 8, **how), 3))
    whole, later = read(), read(skip=1)
    halves = [read(host=host, num_hosts=2) for host in range(2)]
  for number, batch in enumerate(whole):
    assert (batch['decoder_parts'][:, 0] == list(mixed.parts).index('meap')).sum() == 2
    for name, value in batch.items():
      np.testing.assert_array_equal(value, np.concatenate([half[number][name] for half in halves]), err_msg=name)
      if number:
        np.testing.assert_array_equal(value, later[number - 1][name], err_msg=name)


def test_rows_without_an_example_of_one_part_go_to_another():
  mixed, rows = _mixture('salient_span', 'meap', shares={'salient_span': 9, 'meap': 1}), _rows(200)
  rows['salient_ids'][::2] = 0
  part = corrupt(mixed, rows)['decoder_parts'][:, 0]
  names = np.array(list(mixed.parts))[part]
  assert (names[::2] == 'meap').all()
  assert 0.7 < (names[1::2] == 'salient_span').mean() < 1
  only = Mixture(parts={'salient_span': _part('salient_span')})
  block = {name: np.asarray(value) for name, value in rows.items()}
  kept = only.keep(block, SPECIAL).numpy()
  assert not kept[::2].any()
  assert mixed.keep(block, SPECIAL).numpy().all()


@pytest.mark.parametrize(
  ('names', 'rule'),
  [(('next_token', 'meap'), CAUSAL), (('mlm', 'salient_span'), BIDIRECTIONAL), (('mlm', 'meap'), None)],
)
def test_a_mixture_of_one_attention_keeps_its_kernel(names, rule):
  mixed = _mixture(*names)
  assert mixed.attention == (rule or AttentionSpec(ordered=True, levels=True))
  assert mixed.attention.kind == ('general' if rule is None else rule.kind)
  assert ('decoder_levels' in mixed.more_features) == (rule is None)


def _hidden(params, batch, rule):
  return jax.jit(lambda params, batch: step.hidden_states(Decoder(CONFIG), params, batch, rule))(params, batch)


def test_hidden_states_of_a_mixed_batch_are_those_of_its_parts():
  """Causal and bidirectional rows side by side: the general rule gives each what its own rule would."""
  mixed, rows, params = _mixture('next_token', 'mlm', 'causal_masked'), _rows(12), _params()
  batch = _device_batch(mixed, rows)
  part = np.array(list(mixed.parts))[batch['decoder_parts'][:, 0]]
  real = np.asarray(batch['decoder_segment_ids'] > 0)
  assert set(part) == set(mixed.parts)
  together, causal, both = (_hidden(params, batch, rule) for rule in (mixed.attention, CAUSAL, BIDIRECTIONAL))
  alone = np.where((part == 'mlm')[:, None, None], both, causal)
  np.testing.assert_allclose(together[real], alone[real], atol=2e-5)
  assert np.abs(together - causal)[real].max() > 1e-2
  without = {name: value for name, value in batch.items() if name != 'decoder_levels'}
  with pytest.raises(ValueError, match='decoder_levels'):
    step.hidden_states(Decoder(CONFIG), params, without, mixed.attention)


def test_prefixes_and_blocks_keep_their_sight_in_a_mixture():
  names = ('next_token', 'mlm', 'prefix_lm', 'masked_diffusion_blocks')
  mixed, rows, params = _mixture(*names), _rows(24), _params()
  batch = _device_batch(mixed, rows)
  together = _hidden(params, batch, mixed.attention)
  for number, (name, part) in enumerate(mixed.parts.items()):
    mine = batch['decoder_parts'][:, 0] == number
    assert mine.any(), name
    real = np.asarray(batch['decoder_segment_ids'] > 0) & np.asarray(mine)[:, None]
    alone = _hidden(params, batch, part.attention)
    np.testing.assert_allclose(together[real], alone[real], atol=2e-5, err_msg=name)


def test_losses_are_means_of_each_part_and_their_weighted_sum():
  factors = {'next_token': 0.5, 'mlm': 2.0}
  mixed = _mixture('next_token', 'mlm', shares={'next_token': 1, 'mlm': 3}, weights=factors)
  batch, params, decoder = _device_batch(mixed, _rows(16)), _params(), Decoder(CONFIG)
  scoring = step.Scoring(mixed, mixed.max_supervised(48))
  whole, parted = (jax.jit(lambda p, b, n=n: step.gradients(decoder, scoring, p, b, n)) for n in (1, 4))
  grads, sums = whole(params, batch)
  part = np.asarray(batch['decoder_parts'][:, :1])
  due = {'next_token': 4, 'mlm': 12}
  got = {name: (part == number).sum() / due[name] for number, name in enumerate(mixed.parts)}
  assert got['mlm'] != 1

  def means(params):
    """Of each part by itself, under its own rule: what the others score is left out."""
    found = {}
    for number, (name, one) in enumerate(mixed.parts.items()):
      mine = batch | {'decoder_loss_weights': batch['decoder_loss_weights'] * (part == number)}
      found[name] = step.loss_sums(decoder, step.Scoring(one, scoring.scored), params, mine)['cross_entropy']
    return sum(factors[name] * got[name] * top / bottom for name, (top, bottom) in found.items()), found

  expected, alone = jax.jit(jax.grad(means, has_aux=True))(params)
  for name, (top, bottom) in alone.items():
    np.testing.assert_allclose(sums[f'{name}/cross_entropy'][0], top, rtol=1e-4)
    np.testing.assert_allclose(sums[f'{name}/cross_entropy'][1], bottom)
  for one, other, third in zip(*map(jax.tree.leaves, (grads, expected, parted(params, batch)[0])), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(one, third, atol=1e-5)
  shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in batch.items()}
  assert step.coefficients(scoring, shapes) == {f'{name}/cross_entropy': factor for name, factor in factors.items()}
  default = step.Scoring(dataclasses.replace(mixed, weights=None), scoring.scored)
  assert step.coefficients(default, shapes) == {'next_token/cross_entropy': 0.25, 'mlm/cross_entropy': 0.75}


@pytest.mark.parametrize('weights', [None, {'a': 0.25, 'b': 0.75}, {'a': 2.0, 'b': 1.0}], ids=str)
@pytest.mark.parametrize(('count', 'shares'), [(4, (1, 15)), (16, (1, 15)), (10, (1, 2))], ids=str)
def test_weights_are_as_given_on_average_and_a_row_too_few_is_made_up_for(count, shares, weights):
  """What a mean loss of 1 of either part adds to the total, over batches of which some may have no row of a part."""
  mixed = Mixture(parts=dict.fromkeys('ab', _part('next_token')), shares=dict(zip('ab', shares, strict=True)))
  mixed = dataclasses.replace(mixed, weights=weights)
  part = _of_batches(mixed, 400, count)
  one = np.ones((count, 4), np.float32)
  batches = [
    {'decoder_parts': np.repeat(row[:, None], 4, axis=1), 'decoder_segment_ids': one, 'decoder_target_tokens': one}
    for row in part
  ]
  terms = [mixed.loss(one, one, batch | {'text_tokens': one[:, 0]}) for batch in batches]
  for name in 'ab':
    parted = [term[f'{name}/cross_entropy'] for term in terms]
    added = [term.coefficient * term.balance * (term.denominator > 0) for term in parted]
    assert abs(np.mean(added) - mixed.factors[name]) < 5 * np.std(added) / math.sqrt(len(added)) + 1e-6
  if weights is None:  # the mean over the rows
    totals = [sum(term.coefficient * term.balance for term in one.values()) for one in terms]
    np.testing.assert_allclose(totals, 1, rtol=1e-6)


def test_an_update_of_a_batch_without_a_part_is_that_of_the_other():
  """As large, to the last bit that counts, and finite; in one go and in microbatches."""
  mixed, alone = _mixture('next_token', 'mlm', shares={'next_token': 15, 'mlm': 1}), _part('next_token')
  params, decoder, rows = _params(), Decoder(CONFIG), _rows(4)
  batch = _device_batch(mixed, rows)
  assert (batch['decoder_parts'] == list(mixed.parts).index('next_token')).all()
  of = lambda objective, n: jax.jit(
    lambda p, b: step.gradients(decoder, step.Scoring(objective, objective.max_supervised(48)), p, b, n)[0]
  )(params, batch)
  expected = of(alone, 1)
  for n in (1, 2):
    for one, other in zip(*map(jax.tree.leaves, (of(mixed, n), expected)), strict=True):
      np.testing.assert_allclose(one, other, atol=1e-5)


def test_counts_are_of_each_part():
  mixed, rows = _mixture('next_token', 'mlm'), _rows(20)
  for value in rows.values():
    value[-3:] = 0  # rows of padding
  batch = _device_batch(mixed, rows)
  counts = {name: int(count) for name, count in mixed.counts(batch).items()}
  part, real = np.asarray(batch['decoder_parts'][:, 0]), rows['segment_ids'] > 0
  for number, name in enumerate(mixed.parts):
    mine = part == number
    assert counts[f'{name}/rows'] == (mine & real.any(axis=1)).sum()
    assert counts[f'{name}/tokens'] == real[mine].sum()
    assert counts[f'{name}/scored'] == (np.asarray(batch['decoder_loss_weights'])[mine] != 0).sum()
  assert sum(counts[f'{name}/rows'] for name in mixed.parts) == 17


def test_the_order_in_which_parts_are_given_changes_nothing():
  """gin writes a dictionary down by the names in it."""
  rows, numbers = _rows(40), {'mlm': 1.0, 'next_token': 2.0}
  one = _mixture('next_token', 'mlm', shares=numbers)
  other = _mixture('mlm', 'next_token', shares=dict(reversed(numbers.items())))
  assert repr(one) == repr(other)
  for key, value in corrupt(one, rows).items():
    np.testing.assert_array_equal(corrupt(other, rows)[key], value)


def test_shares_so_far_and_no_mean_over_nothing():
  shares = Shares({'a/rows': 3.0, 'b/rows': 1.0, 'corpus/x/tokens': 10.0})
  values = {'loss': 2.0, 'a/cross_entropy': 1.0, 'b/cross_entropy': 0.0, 'a/rows': 4.0, 'b/rows': 0.0}
  values |= {'a/scored': 7.0, 'b/scored': 0.0, 'corpus/x/tokens': 20.0, 'corpus/y/tokens': 30.0}
  shares.count(values)
  shown = shares.shown(values)
  assert 'b/cross_entropy' not in shown
  assert shown['a/cross_entropy'] == 1.0
  assert (shown['a/share_of_rows'], shown['b/share_of_rows'], shown['a/share_of_scored']) == (7 / 8, 1 / 8, 1.0)
  assert (shown['corpus/x/share_of_tokens'], shown['corpus/y/share_of_tokens']) == (0.5, 0.5)
  assert shares.totals['corpus/y/tokens'] == 30.0


def test_the_scorer_is_that_of_the_named_part_under_its_own_attention():
  mixed = _mixture('mlm', 'next_token', shares={'mlm': 1, 'next_token': 2})
  assert mixed.scorer(SPECIAL).attention == CAUSAL  # that of the largest share
  assert _mixture('next_token', 'mlm').scorer(SPECIAL).attention == BIDIRECTIONAL  # the first by name
  other = dataclasses.replace(mixed, answers_as='mlm')
  assert other.scorer(SPECIAL).attention == BIDIRECTIONAL
  assert type(other.scorer(SPECIAL)) is type(_part('mlm').scorer(SPECIAL))
  assert (mixed.home, other.home) == ('left_to_right', 'masked')
  assert repr(mixed) == repr(other)  # the same training


def test_answers_of_another_part_are_not_taken_for_these(tmp_path):
  mixed = _mixture('next_token', 'mlm')
  texts = [repr(dataclasses.replace(mixed, answers_as=name).scorer(SPECIAL)) for name in mixed.parts]
  arrays = {'loss': np.zeros(3)}
  Kept(str(tmp_path), 5).save({'scorer': texts[0]}, 'cloze', {'asked': 'digest'}, arrays)
  for text, kept_there in ((texts[0], True), (texts[1], False)):
    kept = Kept(str(tmp_path), 5)
    kept.require(scorer=text)
    assert kept.has('cloze', 'digest') == kept_there


@pytest.mark.parametrize(
  ('how', 'said'),
  [
    ({'parts': {}}, r'parts is \{\}'),
    ({'parts': {'a/b': _part('meap')}}, "'a/b'"),
    ({'parts': {'a': 'meap'}}, "a is 'meap', which is no objective"),
    ({'parts': {'a': _mixture('meap')}}, 'a has parts itself'),
    ({'parts': {'a': dataclasses.replace(_part('mlm'), static_copies=2)}}, 'static_copies'),
    ({'shares': {'mlm': 1}}, 'shares is of mlm; it needs a number for each of meap, mlm'),
    ({'shares': {'mlm': 1, 'meap': 0}}, 'meap no row'),
    ({'shares': {'mlm': 1, 'meap': -1}}, 'meap -1'),
    ({'shares': {'mlm': 1, 'meap': math.nan}}, 'meap nan'),
    ({'weights': {'mlm': 0, 'meap': 0}}, 'adds up to nothing'),
    ({'answers_as': 'next_token'}, 'answers_as'),
    ({'static_copies': -1}, 'static_copies'),
    (
      {'parts': {'a': _part('meap'), 'b': dataclasses.replace(_part('mlm'), attention=AttentionSpec((True, False)))}},
      'b has the attention rule',
    ),
  ],
  ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(how, said):
  parts = {'mlm': _part('mlm'), 'meap': _part('meap')}
  with pytest.raises(UserError, match=said):
    Mixture(**({'parts': parts} | how))
