"""Sharded equals single: the same updates on every mesh of eight virtual devices, and in microbatches."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from objective_table import TABLE, corrupt, make_rows
from unmask import UserError
from unmask.launch import mesh, networks, optimizers, state, step
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder
from unmask.objectives import Frozen, GuidedMasking
from unmask.objectives.base import MODEL_FEATURES

CONFIG = DecoderConfig(
  vocab_size=512, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64, loss_chunk=16
)
MESHES = [
  mesh.MeshConfig(data=8),
  mesh.MeshConfig(data=1, fsdp=8),
  mesh.MeshConfig(data=2, fsdp=2, tensor=2),
  mesh.MeshConfig(data=2, tensor=2, sequence=2),
]


def _batches(name: str, count: int = 3) -> list[dict]:
  objective = TABLE[name].make()
  rows = [make_rows(np.random.default_rng(i), 16, 32) for i in range(count)]
  batches = [corrupt(objective, row, seed=i) for i, row in enumerate(rows)]
  text = [{'text_tokens': (row['segment_ids'] > 0).sum(axis=1).astype(np.int32)} for row in rows]
  known = (*MODEL_FEATURES, *objective.more_features)
  return [{k: v for k, v in batch.items() if k in known} | extra for batch, extra in zip(batches, text, strict=True)]


def _train(
  name: str,
  on: mesh.MeshConfig,
  devices: int,
  microbatches: int = 1,
  optimizer: str = 'adamw',
  batches=None,
  config: DecoderConfig = CONFIG,
  objective=None,
  known: dict | None = None,
):
  """Losses and final parameters after three updates, on three batches unless others are given.

  `objective` has the table's batches and something beside the decoder, of which some parameters are `known`.
  """
  objective = objective or TABLE[name].make()
  device_mesh = on.build(jax.devices()[:devices])
  decoder, beside = Decoder(config), networks.beside(objective, config)
  transform = optimizers.Optimizer(name=optimizer, schedule=optimizers.Schedule(peak=1e-2, warmup_steps=1)).build(10)
  scoring = step.Scoring(objective, objective.max_supervised(32), z_loss=1e-4)
  with mesh.context(device_mesh):
    current = state.create(decoder, transform, device_mesh, 0, beside)
    where = {part: current.params[part] for part in known or {}}
    placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), known or {}, where)
    current = current.replace(params=current.params | placed)
    update = jax.jit(step.make_train_step(decoder, scoring, transform, microbatches))
    losses = []
    for batch in batches or _batches(name):
      current, metrics = update(current, mesh.put_batch(device_mesh, batch), True)
      losses.append({key: float(value) for key, value in metrics.items()})
    return losses, jax.tree.map(np.asarray, current.params), current


_single = functools.cache(lambda name: _train(name, mesh.MeshConfig(), 1)[:2])


@pytest.mark.parametrize('on', MESHES, ids=str)
@pytest.mark.parametrize('name', ['next_token', 'mlm'])
def test_every_mesh_gives_the_same_updates(name, on):
  want, params = _single(name)
  got, sharded, _ = _train(name, on, 8)
  for a, b in zip(want, got, strict=True):
    assert a == pytest.approx(b, rel=2e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, sharded)


@pytest.mark.parametrize('name', ['span_corruption', 'masked_diffusion_blocks', 'bottleneck_of_three'])
def test_levels_blocks_and_groups_are_split_as_tokens_are(name):
  want, params = _single(name)
  length = TABLE[name].make().model_length(32)
  split = (
    mesh.MeshConfig(data=2, tensor=2, sequence=2) if length % 2 == 0 else mesh.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  got, sharded, _ = _train(name, split, 8)
  for a, b in zip(want, got, strict=True):
    assert a == pytest.approx(b, rel=2e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, sharded)


@pytest.mark.parametrize(
  ('name', 'microbatches'),
  [('next_token', 4), ('mlm', 2), ('mlm', 4), ('causal_masked', 2), ('salient_span', 4), ('masked_diffusion', 4)],
)
def test_microbatches_give_the_gradient_of_the_whole_batch(name, microbatches):
  """Also where microbatches hold unequal numbers of supervised tokens: no mean of means."""
  want, params = _single(name)
  got, parts, _ = _train(name, mesh.MeshConfig(data=2), 2, microbatches)
  for a, b in zip(want, got, strict=True):
    assert a == pytest.approx(b, rel=2e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, parts)


# Of many heads, of which ELECTRA's generator has a quarter.
MANY = dataclasses.replace(CONFIG, num_heads=16, num_kv_heads=8)
_beside = functools.cache(lambda name: _train(name, mesh.MeshConfig(), 1, config=MANY)[:2])


@pytest.mark.parametrize(
  ('on', 'devices', 'microbatches'),
  [(mesh.MeshConfig(data=1, fsdp=2, sequence=2, tensor=2), 8, 1), (mesh.MeshConfig(), 1, 4)],
  ids=['all axes', 'microbatches'],
)
@pytest.mark.parametrize('name', ['electra', 'dup_mae', 'bpdec'])
def test_networks_beside_the_decoder_too(name, on, devices, microbatches):
  """What is drawn is each row's own, however the vocabulary, the positions and the rows are split."""
  want, params = _beside(name)
  got, split, current = _train(name, on, devices, microbatches, config=MANY)
  for a, b in zip(want, got, strict=True):
    assert a == pytest.approx(b, rel=2e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, split)
  if 'tensor' in current.params['embedding'].sharding.spec:
    spec = lambda *path: tuple(functools.reduce(lambda tree, key: tree[key], path, current.params).sharding.spec)
    if name == 'electra':
      assert spec('generator', 'blocks', 'mlp', 'gate_up')[1:4] == ('fsdp', None, 'tensor')
      assert spec('detector', 'dense')[:1] == ('fsdp',)
    else:
      layer = ('reconstruction',) if name == 'dup_mae' else ('extra_layers', 'block_1')
      assert spec(*layer, 'mlp', 'gate_up')[:3] == ('fsdp', None, 'tensor')


def test_what_a_generator_drew_is_not_what_was_there():
  assert 0.5 < _beside('electra')[0][-1]['replaced'] <= 1


@pytest.mark.parametrize(
  ('on', 'devices', 'microbatches'),
  [(mesh.MeshConfig(data=2, fsdp=2, tensor=2), 8, 1), (mesh.MeshConfig(data=2), 2, 2)],
  ids=['three axes', 'microbatches'],
)
def test_classes_are_split_as_the_vocabulary_is(on, devices, microbatches):
  """In one softmax with it; and no mean is taken of the means of parts that hold unequal numbers of n-grams."""
  want, params = _single('ernie_gram')
  got, split, current = _train('ernie_gram', on, devices, microbatches)
  assert want[-1]['ngram'] > 0
  for a, b in zip(want, got, strict=True):
    assert a == pytest.approx(b, rel=2e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, split)
  if devices == 8:
    assert tuple(current.params['ngrams']['rows'].sharding.spec) == ('tensor', 'fsdp')


def test_a_scorer_chooses_the_same_masks_however_it_is_split():
  """Rows over data and fsdp, its vocabulary over tensor, positions over sequence; and in microbatches."""
  shape = {'vocab_size': 640, 'embed_dim': 16, 'num_layers': 1, 'num_heads': 2, 'num_kv_heads': 2, 'head_dim': 8}
  objective = GuidedMasking(guide=Frozen(checkpoint='a run', shape=tuple(shape.items())), temperature=1.0)
  scorer = dict(networks.beside(objective, CONFIG))['guide'].config
  own = state.unboxed(jax.jit(lambda: state.init_params(Decoder(scorer), jax.random.key(5)))())
  own |= {'embedding': 4 * own['embedding']}
  train = functools.partial(_train, 'guided_masking', objective=objective, known={'guide': own})
  want, params, _ = train(mesh.MeshConfig(), 1)
  assert want[0]['confidence'] > 1.2 * want[0]['text_confidence']
  for on, devices, microbatches in (
    (mesh.MeshConfig(data=1, fsdp=2, sequence=2, tensor=2), 8, 1),
    (mesh.MeshConfig(data=2), 2, 4),
  ):
    got, split, current = train(on, devices, microbatches)
    for a, b in zip(want, got, strict=True):
      assert a == pytest.approx(b, rel=2e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), params, split)
    jax.tree.map(np.testing.assert_array_equal, split['guide'], jax.tree.map(np.asarray, own))
    if devices == 8:
      assert tuple(current.params['guide']['embedding'].sharding.spec) == ('tensor', 'fsdp')


@pytest.mark.parametrize('name', ['adafactor', 'lion', 'muon'])
def test_other_optimizers_train_sharded(name):
  same = _batches('next_token', 1) * 3  # the loss of one batch falls; another batch's may be higher
  want, _, _ = _train('next_token', mesh.MeshConfig(), 1, optimizer=name, batches=same)
  got, _, _ = _train('next_token', MESHES[2], 8, optimizer=name, batches=same)
  assert want[-1]['loss'] == pytest.approx(got[-1]['loss'], rel=2e-4)
  assert want[-1]['loss'] < want[0]['loss']


def test_parameters_lie_as_the_table_says():
  current = _train('next_token', MESHES[2], 8)[2]
  spec = lambda x: tuple(x.sharding.spec)
  block = current.params['blocks']
  assert spec(current.params['embedding']) == ('tensor', 'fsdp')
  assert spec(block['attention']['query'])[1:3] == ('fsdp', 'tensor')
  assert spec(block['mlp']['gate_up'])[1:4] == ('fsdp', None, 'tensor')
  moments = [x for x in jax.tree.leaves(current.opt_state) if x.shape == block['mlp']['down'].shape]
  assert len(moments) == 2
  assert all(moment.sharding == block['mlp']['down'].sharding for moment in moments)


def test_first_state_does_not_depend_on_the_mesh():
  decoder = Decoder(CONFIG)
  transform = optimizers.Optimizer().build(10)
  states = []
  for on, devices in ((mesh.MeshConfig(), 1), (MESHES[2], 8)):
    device_mesh = on.build(jax.devices()[:devices])
    with mesh.context(device_mesh):
      states.append(jax.tree.map(np.asarray, state.create(decoder, transform, device_mesh, seed=3)))
  jax.tree.map(np.testing.assert_array_equal, *states)


def test_bfloat16_keeps_float32_parameters_and_losses():
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  objective = TABLE['mlm'].make()
  decoder, transform = Decoder(config), optimizers.Optimizer().build(10)
  device_mesh = mesh.MeshConfig().build(jax.devices()[:1])
  with mesh.context(device_mesh):
    current = state.create(decoder, transform, device_mesh, seed=0)
    update = jax.jit(step.make_train_step(decoder, step.Scoring(objective, 5), transform))
    current, metrics = update(current, mesh.put_batch(device_mesh, _batches('mlm', 1)[0]), True)
  assert {x.dtype for x in jax.tree.leaves(current.params)} == {np.dtype('float32')}
  assert metrics['loss'].dtype == np.float32
  assert np.isfinite(float(metrics['loss']))


@pytest.mark.parametrize(
  ('config', 'match'),
  [
    (mesh.MeshConfig(data=3), r'data=3, fsdp=1, sequence=1, tensor=1 does not fit 8 devices'),
    (mesh.MeshConfig(fsdp=-1), 'at most one is -1'),
    (mesh.MeshConfig(tensor=0), 'sizes are positive'),
    (mesh.MeshConfig(data=2, fsdp=2), 'does not fit 8 devices'),
  ],
)
def test_meshes_that_do_not_fit_are_named(config, match):
  with pytest.raises(UserError, match=match):
    config.build()


def test_batches_that_do_not_divide_are_named():
  with pytest.raises(UserError, match='BATCH_SIZE=12 does not divide over 8 devices'):
    mesh.check_batch(mesh.MeshConfig().build(), 12)
