"""GEM's bottleneck: what follows a cut learns of what stands before it through the special tokens, or not at all."""

import contextlib
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents
from unmask import UserError
from unmask.launch import step
from unmask.models import head, layers
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import CAUSAL, AttentionSpec
from unmask.objectives.bottleneck import BOTTLENECK, Bottleneck
from unmask.objectives.next_token import NextToken

MARKS = SPECIAL.spare[6:]
CONFIG = DecoderConfig(embed_dim=32, num_layers=3, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=48)


def test_cuts_are_uniform_and_one_passage_in_five():
  rows = {name: np.repeat(value, 6000, axis=0) for name, value in documents(1, 20).items()}
  groups = corrupt(Bottleneck(), rows)['decoder_groups']
  cut = (groups == 1).any(axis=1)
  assert cut.mean() == pytest.approx(0.2, abs=0.02)
  assert (groups[~cut] == 0).all()
  places = (groups[cut] == 1).argmax(axis=1)  # behind `bos` and a token, before the last token
  assert scipy.stats.chisquare(np.bincount(places, minlength=20)[2:20]).pvalue > 1e-3
  assert 2 <= places.min() <= places.max() <= 19


@pytest.mark.parametrize('specials', [1, 3])
def test_all_is_scored_but_special_tokens(specials):
  rows = documents(100, 40)
  features = corrupt(Bottleneck(rate=1.0, specials=specials), rows)
  targets, weights = features['decoder_target_tokens'], features['decoder_loss_weights']
  assert (weights[np.isin(targets, MARKS)] == 0).all()
  assert (weights.sum(axis=1) == 39).all()  # the suffix's first token is predicted by the last special one
  assert (np.isin(features['decoder_input_tokens'], MARKS).sum(axis=1) == specials).all()


def test_who_sees_whom():
  (batch,) = [corrupt(Bottleneck(rate=1.0, specials=2), documents(1, 12))]
  groups = batch['decoder_groups'][0]
  table = np.array(BOTTLENECK.table)
  sees = table[groups[:, None], groups[None]] | np.eye(len(groups), dtype=bool)
  first = int((groups == 1).argmax())
  assert not sees[first + 2 : 14, :first].any()  # the suffix sees no prefix
  assert sees[first + 2 : 14, first : first + 2].all()
  assert sees[first : first + 2, :first].all()
  assert not sees[first, first + 1]
  assert not sees[first + 1, first]  # nor do special tokens see each other


def _cut_row(specials: int) -> dict[str, np.ndarray]:
  """The features of a row that is cut; of its text no token comes twice."""
  rows = documents(1, 24)
  rows['targets'][0, 1:] = 100 + np.random.default_rng(0).permutation(23)
  return corrupt(Bottleneck(rate=1.0, specials=specials), rows)


def _without_special_states(groups: np.ndarray):
  """In this context the states of special tokens are zero behind every block."""

  def zeroed(call, arguments, named, context):
    result = call(*arguments, **named)
    if not isinstance(context.module, layers.Block) or context.method_name != '__call__':
      return result
    return jnp.where(groups[..., None] == 1, 0.0, result[0]), *result[1:]

  return nn.intercept_methods(zeroed)


def _gradient(features: dict[str, np.ndarray], rule: AttentionSpec, zeroed: bool) -> np.ndarray:
  """Of the suffix's loss with respect to the embeddings of the prefix's tokens, [prefix, width].

  The output head has a table of its own, and no token of the prefix stands elsewhere: so its rows of the embedding
  table are they.
  """
  batch = {name: jnp.asarray(value) for name, value in features.items()}
  groups, weights = features['decoder_groups'], features['decoder_loss_weights']
  behind = np.pad(groups[:, 1:], [(0, 0), (0, 1)]) == 2  # scored against a token of the suffix
  assert (weights[behind] == 1).all()
  decoder = Decoder(dataclasses.replace(CONFIG, tied_embeddings=False).with_vocabulary(500))
  inputs = ('decoder_input_tokens', 'decoder_positions', 'decoder_segment_ids')
  params = decoder.init(jax.random.key(1), *(batch[name] for name in inputs))['params']
  params = jax.tree.map(lambda leaf: leaf.unbox(), params, is_leaf=lambda leaf: hasattr(leaf, 'unbox'))

  def loss(params):
    with _without_special_states(groups) if zeroed else contextlib.nullcontext():
      hidden = step.hidden_states(decoder, params, batch, rule)
    scores = head.score(hidden, batch['decoder_target_tokens'], params, decoder.config)
    return (scores.cross_entropy * behind).sum()

  prefix = features['decoder_input_tokens'][(groups == 0) & (features['decoder_segment_ids'] > 0)]
  assert len(prefix) > 3
  return np.asarray(jax.grad(loss)(params)['embedding'][prefix])


@pytest.mark.parametrize('specials', [1, 3])
def test_without_the_states_of_special_tokens_no_gradient_reaches_the_prefix(specials):
  features = _cut_row(specials)
  assert (np.abs(_gradient(features, BOTTLENECK, zeroed=False)).max(axis=1) > 1e-6).all()
  assert (_gradient(features, BOTTLENECK, zeroed=True) == 0.0).all()
  assert (np.abs(_gradient(features, CAUSAL, zeroed=True)).max(axis=1) > 1e-6).all()  # past them it would


def test_mistakes_are_named():
  for settings in ({'rate': 1.5}, {'specials': 0}, {'specials': 5}, {'specials': 3, 'room': 2}):
    with pytest.raises(UserError, match='Bottleneck'):
      Bottleneck(**settings)
  with pytest.raises(UserError, match='gives its tokens groups'):
    Bottleneck(attention=CAUSAL)
  with pytest.raises(UserError, match='gives its tokens no groups'):
    NextToken(attention=BOTTLENECK)
  with pytest.raises(UserError, match='spare id number 6'):
    Bottleneck().special_ids(dataclasses.replace(SPECIAL, spare=()))
