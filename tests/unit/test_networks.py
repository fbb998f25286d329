"""Networks that an objective asks for and does not have: each is refused by name where the step is made."""

import dataclasses

import jax
import optax
import pytest
from unmask import UserError
from unmask.launch import mesh, networks
from unmask.launch.program import Program
from unmask.models.config import DecoderConfig
from unmask.objectives import Classes, Detector, Mixture, NextToken, Stages, Tower

CONFIG = DecoderConfig(vocab_size=512, embed_dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asks(NextToken):
  """Asks for a network in one of the three places where it may, whether it has it or not."""

  place: str
  name: str = 'detector'
  has: tuple = ()

  @property
  def beside(self):
    return dict(self.has)

  def on_device(self, nets, batch):
    if self.place == 'on_device':
      nets.tower(self.name, batch, nets.positions(batch['decoder_loss_weights'], 4))
    return batch

  def measure(self, nets, hidden, batch):
    if self.place == 'measure':
      nets.head(self.name, hidden)
    if self.place == 'frozen':
      nets.left_to_right(self.name, batch, batch['decoder_input_tokens'])
    return {}

  def to_head(self, nets, hidden, batch):
    return nets.behind(self.name, hidden, batch['decoder_positions'], batch) if self.place == 'to_head' else hidden


def _lower(objective):
  on = mesh.MeshConfig().build(jax.devices()[:1])
  Program(
    model=CONFIG, objective=objective, text_length=16, batch_size=2, optimizer=optax.sgd(0.1), mesh=on, z_loss=0.0
  ).lower()


def test_what_is_there_is_asked():
  _lower(Asks(place='measure', has=(('detector', Detector()),)))


@pytest.mark.parametrize(
  ('how', 'said'),
  [
    ({'place': 'measure'}, r"Asks asks for the network 'detector' \(Detector\) and has nothing beside its decoder"),
    ({'place': 'on_device', 'name': 'small'}, r"'small' \(Tower\) and has nothing .*: name it in Asks\.beside\."),
    (
      {'place': 'to_head', 'name': 'late', 'has': (('last', Detector()),)},
      r"'late' \(ExtraLayers\) and has 'last' \(Detector\) beside",
    ),
    ({'place': 'measure', 'has': (('detector', Tower()),)}, r"\(Detector\) and has 'detector' \(Tower\) beside"),
    ({'place': 'frozen', 'has': (('detector', Tower()),)}, r"\(Frozen\) and has 'detector' \(Tower\) beside"),
  ],
)
def test_a_network_that_is_not_there_is_named(how, said):
  with pytest.raises(UserError, match=said):
    _lower(Asks(**how))


@pytest.mark.parametrize('kind', [Detector, 'detector', None])
def test_what_is_no_network_is_named(kind):
  with pytest.raises(
    UserError, match=r"Asks\.beside has 'detector', .*, of which no network is made; give it a Tower,"
  ):
    networks.beside(Asks(place='', has=(('detector', kind),)), CONFIG)


class _Device(NextToken):
  def on_device(self, nets, batch):
    return batch


class _Measure(NextToken):
  def measure(self, nets, hidden, batch):
    return {}


class _ToHead(NextToken):
  def to_head(self, nets, hidden, batch):
    return hidden


class _Measures(NextToken):
  @property
  def measures(self):
    return ('one',)


class _NoTokens(NextToken):
  predicts_tokens = False


class _Beside(NextToken):
  @property
  def beside(self):
    return {'classes': Classes(count=8)}


@pytest.mark.parametrize(
  ('part', 'said'),
  [
    (_Device, 'on_device of its own'),
    (_Measure, 'measure of its own'),
    (_ToHead, 'to_head of its own'),
    (_Measures, 'measures'),
    (_NoTokens, 'no loss on tokens'),
    (_Beside, 'networks beside the decoder'),
  ],
)
def test_a_part_with_a_device_stage_is_refused_by_name(part, said):
  """Who puts parts together has no networks and calls no part on the device: what a part would do is not done."""
  parts = {'odd': part(), 'plain': NextToken()}
  with pytest.raises(UserError, match=rf'^Mixture\.parts: odd, {part.__name__}, has {said}, .*train it by itself'):
    Mixture(parts=parts)
  with pytest.raises(UserError, match=rf'^Stages\.parts: odd, {part.__name__}, has {said}'):
    Stages(parts=parts, order=[('odd', 1), ('plain', 1)], steps=2)
