"""GEM's bottleneck: what follows a cut learns of what stands before it through the special tokens, or not at all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents
from unmask import UserError
from unmask.launch import step
from unmask.models import head
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives.attention import CAUSAL
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


def _gradient(rule, zeroed: bool = False) -> float:
  """Of the suffix's loss with respect to the embeddings of the prefix's tokens: its largest entry.

  Token ids of the prefix are its alone, so its rows of the embedding table are; the suffix is predicted by rows of
  others, and of its own loss only the positions behind the first suffix token are taken.
  """
  tokens = np.array([[2, 101, 102, 103, MARKS[0], 201, 202, 203, 204, 205]], np.int32)
  groups = np.array([[0, 0, 0, 0, 1, 2, 2, 2, 2, 2]], np.int32)
  batch = {
    'decoder_input_tokens': jnp.asarray(tokens),
    'decoder_positions': jnp.arange(10)[None],
    'decoder_segment_ids': jnp.ones((1, 10), jnp.int32),
    'decoder_groups': jnp.asarray(groups),
  }
  decoder = Decoder(dataclasses.replace(CONFIG, tied_embeddings=False).with_vocabulary(500))
  params = decoder.init(jax.random.key(1), *list(batch.values())[:3])['params']
  params = jax.tree.map(lambda leaf: leaf.unbox(), params, is_leaf=lambda leaf: hasattr(leaf, 'unbox'))
  if zeroed:  # the states of the special tokens know of nobody
    table = np.array(rule.table)
    table[1, 0] = False
    rule = dataclasses.replace(rule, table=tuple(map(tuple, table.tolist())))

  def loss(params):
    hidden = step.hidden_states(decoder, params, batch, rule)[:, 5:9]
    return head.score(hidden, jnp.asarray(tokens[:, 6:]), params, decoder.config).cross_entropy.sum()

  return float(jnp.abs(jax.grad(loss)(params)['embedding'][101:104]).max())


def test_without_the_states_of_special_tokens_no_gradient_reaches_the_prefix():
  assert _gradient(BOTTLENECK) > 1e-6
  assert _gradient(BOTTLENECK, zeroed=True) == 0.0
  assert _gradient(CAUSAL) > 1e-6


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
