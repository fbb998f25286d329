"""Model directories as training, the sweep and the judge leave them, with answers of which the truth is known."""

import json
import pathlib

import numpy as np

PHENOMENA = ('binding', 'ellipsis', 'island_effects')
MOVES = ('0', '1', '3')
LENGTHS, DEPTHS = ('32', '64', '128'), ('0.00', '0.50', '1.00')
UNIGRAM = 7.0


def write(
  folder: pathlib.Path,
  cells: dict[str, dict],
  seeds: int = 3,
  clusters: int = 60,
  hardness: int = 0,
  seed_spread: float = 0.02,
  asked: tuple[str, ...] = (),
) -> list[str]:
  """Writes a directory for each cell and seed; returns them.

  Args:
    cells: name -> settings: 'skill' (nats by which its losses are lower, and a third of it by which it is right more
      often), 'axes', 'home', 'sees', 'files' (name -> what replaces or is added to facts of that file).
    seeds: how many seeds a cell has.
    clusters: of each test; two questions each.
    hardness: seeds the questions, which are the same for all.
    seed_spread: standard deviation of a training's own luck, nats.
    asked: names of the tests, if not all.
  """
  made = []
  for number, (name, cell) in enumerate(cells.items()):
    for seed in range(seeds):
      random = np.random.default_rng([number, seed, hardness])
      luck = random.normal(0, seed_spread)
      target = folder / f'{name}-seed{seed}'
      _model(target, name, cell, seed, random)
      judge(target, cell.get('skill', 0.0) + luck, clusters, np.random.default_rng(hardness), random, cell, asked=asked)
      made.append(str(target))
  return made


def _model(target: pathlib.Path, name: str, cell: dict, seed: int, random: np.random.Generator) -> None:
  target.mkdir(parents=True)
  shape = {'num_layers': 2, 'embed_dim': 32, 'num_heads': 2, 'num_kv_heads': 2, 'head_dim': 16, 'mlp_dim': 64}
  text = {
    'task': 'default_text',
    'corpus': 'default_text-1',
    'vocabulary': 'abc',
    'vocab_size': 512,
    'text_length': 128,
  }
  facts: dict[str, dict] = {
    'cell.json': {
      'axes': {**cell.get('axes', {'objective': name}), 'seed': seed},
      'name': name,
      'sweep': 'shown',
      'settings': {},
      'budget': {'unit': 'tokens', 'amount': 20000, 'train_steps': 20},
      'learning_rate': {'value': 0.003, 'how': 'shared'},
    },
    'done.json': {
      'parameters': 40_000,
      'tokens_read': 20_000.0,
      'tokens_supervised': 3_000.0,
      'tokens_per_second': 5_000.0 + 100 * seed,
      'train_seconds': 4.0,
      'train_flops': 4.8e9,
      'mfu': 0.25,
    },
    'realised.json': {
      'rows': 300,
      'rows_dropped': 0.0,
      'corrupted': 0.148,
      'supervised': 0.148,
      'padding': 0.01,
      'positions_per_token': 1.0,
      'configured': {'corrupted': 0.15},
    },
    'model.json': {**shape, **text, 'tied_embeddings': True, 'batch_size': 8, 'seed': seed},
    'environment.json': {
      'date': '2026-11-22 10:00 UTC',
      'devices': 1,
      'device': 'cpu',
      'platform': 'cpu',
      'processes': 1,
      'host': 'some processor, Linux',
      'python': '3.11.7',
      'versions': {'jax': '0.10.2'},
    },
  }
  for file, known in facts.items():
    known |= cell.get('files', {}).get(file, {})
    (target / file).write_text(json.dumps(known))
  lines = []
  for step in range(1, 21):
    loss = 5.0 + 2.0 / step + random.normal(0, 0.05)
    lines.append({'step': step, 'loss': loss, 'total_tokens': 1000.0 * step})
    if step % 5 == 0:
      lines.append({'step': step, 'eval/loss': loss + 0.1, 'eval/total_tokens': 1000.0 * step})
  (target / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  (target / 'operative_config.gin').write_text(f"LEARNING_RATE = 0.003\nMODEL_DIR = '<{name}> & seed {seed}'\n")


def judge(
  target: pathlib.Path,
  skill: float,
  clusters: int,
  shared: np.random.Generator,
  random: np.random.Generator,
  cell: dict | None = None,
  step: int = 20,
  asked: tuple[str, ...] = (),
) -> None:
  """Writes 'evaluation/STEP.json' and '.npz': every kind of test, two questions a cluster."""
  cell = cell or {}
  tests: dict[str, dict] = {}
  arrays: dict[str, np.ndarray] = {}
  for name, title, part in (
    ('left_to_right', 'Left to right', 'held_out'),
    ('masked_token', 'Masked 15 %, by token', 'held_out'),
    ('infill_1', 'Infill 1 token', 'infill'),
    ('infill_8', 'Infill 8 tokens', 'infill'),
  ):
    _add(tests, arrays, name, *_gaps(title, part, skill, clusters, shared, random))
  for name, title, part, grouping, labels in (
    ('entity_cloze', 'Entity cloze', 'cloze', None, ()),
    ('key_value', 'Key-value retrieval', 'retrieval', 'length_depth', [f'{a}|{b}' for a in LENGTHS for b in DEPTHS]),
    ('blimp', 'BLiMP', 'grammar', 'phenomenon', PHENOMENA),
    ('entity_tracking', 'Entity tracking', 'tracking', 'moves', MOVES),
  ):
    _add(tests, arrays, name, *_choices(title, part, grouping, labels, skill, clusters, shared, random))
  said, found = _choices('Topic probe', 'probes', 'learning_rate', ('1e-4', '1e-3'), skill, clusters, shared, random)
  said |= {'kind': 'probe', 'figures': {name: said['figures'][name] for name in ('accuracy', 'accuracy_se')}}
  # Fine-tuned twice: the same questions, one seed after another.
  twice = {name: np.tile(found[name], 2) for name in ('right', 'cluster')}
  _add(tests, arrays, 'probe_topic', said, twice | {'seed': np.repeat([0, 1], len(found['right']))})
  if asked:
    tests = {name: tests[name] for name in asked}
    arrays = {name: values for name, values in arrays.items() if name.split('/')[0] in asked}
  (target / 'evaluation').mkdir(exist_ok=True)
  facts = {
    'checkpoint': step,
    'sees': cell.get('sees', 'left'),
    'home': cell.get('home', 'left_to_right'),
    'tests': tests,
  }
  (target / 'evaluation' / f'{step}.json').write_text(json.dumps(facts))
  np.savez_compressed(target / 'evaluation' / f'{step}.npz', **arrays)


def _add(tests: dict, arrays: dict, name: str, said: dict, found: dict[str, np.ndarray]) -> None:
  tests[name] = {'asked': f'digest of {name}', 'questions': {'seed': 0}, 'overlap': 0.0, **said}
  arrays |= {f'{name}/{array}': values for array, values in found.items()}


def _gaps(title, part, skill, clusters, shared, random) -> tuple[dict, dict]:
  """Losses whose true mean, weighted by tokens, is 6 - skill; questions are as hard for one model as for another."""
  cluster = np.repeat(np.arange(clusters), 2)
  tokens = shared.integers(1, 5, len(cluster))
  hard = shared.normal(0, 0.4, clusters)[cluster]
  nll = tokens * (6.0 - skill + hard + random.normal(0, 0.1, len(cluster)))
  exact = (random.random(len(cluster)) < 0.1).astype(float)
  figures = {
    'loss': float(nll.sum() / tokens.sum()),
    'loss_se': 0.05,
    'exact': float(exact.mean()),
    'exact_se': 0.03,
    'unigram_loss': UNIGRAM,
  }
  said = {
    'title': title,
    'part': part,
    'kind': 'gaps',
    'items': len(cluster),
    'primary': {
      'figure': 'loss',
      'better': 'lower',
      'unit': 'nats a token',
      'baseline': UNIGRAM,
      'baseline_is': 'unigram',
    },
    'figures': figures,
    'groups': {},
  }
  found = {'nll': nll, 'tokens': tokens, 'exact': exact, 'gaps': np.ones(len(cluster), int), 'cluster': cluster}
  return said, found


def _choices(title, part, grouping, labels, skill, clusters, shared, random) -> tuple[dict, dict]:
  cluster = np.repeat(np.arange(clusters), 2)
  ease = 0.7 * shared.random(clusters)[cluster] + 0.3 * random.random(len(cluster))
  right = (ease < 0.6 + skill / 3).astype(float)
  rank = np.where(right > 0, 1.0, 0.5)
  groups = {}
  for number, label in enumerate(labels):
    mine = right[number :: len(labels)]
    error = float(mine.std() / len(mine) ** 0.5)
    groups[label] = {'accuracy': float(mine.mean()), 'accuracy_se': error, 'items': len(mine)}
  figures = {'accuracy': float(right.mean()), 'accuracy_se': 0.04, 'mrr': float(rank.mean()), 'mrr_se': 0.02}
  said = {
    'title': title,
    'part': part,
    'kind': 'choices',
    'items': len(cluster),
    'primary': {'figure': 'accuracy', 'better': 'higher', 'unit': 'share', 'baseline': 0.25, 'baseline_is': 'chance'},
    'figures': figures,
    'groups': {grouping: groups} if grouping else {},
  }
  return said, {'right': right, 'reciprocal_rank': rank, 'cluster': cluster}
