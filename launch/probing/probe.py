"""Probes of one trained model: tune it on small tasks under a grid, and keep what came out beside the judge's tests."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import jax
import tqdm

from ... import UserError
from ...models import logical_axes
from ...models.config import DecoderConfig
from ...models.decoder import Decoder
from ...objectives.base import Objective
from ...tasks import corpora
from ...tasks.pipeline import Pipeline, Source
from ...tasks.probes import named
from ...tasks.probes import rows as rows_lib
from ...tasks.probes.examples import SPLITS, ProbeTask, Sizes
from ...tasks.probes.material import Material
from .. import checkpoints as checkpoints_lib
from .. import config, identity
from .. import mesh as mesh_lib
from .. import state as state_lib
from ..judging.kept import Kept
from . import figures
from . import grid as grid_lib
from .grid import Grid
from .tuning import Shape, Tuner

_VERSION = 1  # of what is done here; part of the digest


def probe(
  *,
  model_dir: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  probes: Sequence[str],
  grid: Grid = Grid(),
  sizes: Sizes = Sizes(),
  corpus: corpora.Corpus | None = None,
  validation_one_in: int | None = None,
  tfds_data_dir: str | None = None,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
) -> dict[str, dict]:
  """Runs probes on the newest sound checkpoint of `model_dir` and writes them to 'evaluation/<step>.json' and '.npz'.

  A probe with the same examples and the same settings of the same checkpoint is not run again.

  Args:
    model_dir: a trained model.
    model, objective, pipeline: as it was trained.
    probes: names, see `tasks.probes.named`.
    grid: attentions, learning rates, seeds, and how a model is tuned.
    sizes: examples of each split, at most.
    corpus: labelled or plain documents for 'topic' and 'span'; None takes those of pretraining.
    validation_one_in: which documents are tests; None takes those that pretraining held out.
    tfds_data_dir: where TFDS keeps prepared datasets.
    mesh: devices.

  Returns:
    The tests' entries by name, see `figures.test_entry`, with 'checkpoint'.

  Raises:
    UserError: a probe does not exist or has no examples; the model cannot be read.
  """
  config.refuse_unused()
  if not probes:
    raise UserError("PROBES is empty; name a probe, such as ['topic', 'span'].")
  for name in probes:
    named.check(name)
  device_mesh = mesh.build()
  if grid.batch_size % (devices := logical_axes.batch_ways(device_mesh.shape)):
    raise UserError(f'Grid.batch_size={grid.batch_size} does not divide over {devices} devices; use a multiple.')
  saved = checkpoints_lib.Checkpoints(model_dir)
  step = saved.require()  # before a corpus is opened, which may take minutes
  source = pipeline.open()
  identity.check(model_dir, identity.of_run(model, objective, pipeline, source))
  material = _material(source, sizes, corpus, validation_one_in, tfds_data_dir)
  facts = {'checkpoint': step, 'sees': objective.scorer(source.special).sees, 'home': objective.home}
  kept, entries = Kept(model_dir, step), {}
  with mesh_lib.context(device_mesh):
    prober = Prober(saved, source, model, device_mesh, grid, step)
    for name in probes:
      task = named.load(name, material)
      asked = digest(task, grid)
      if not kept.has(task.name, asked):
        entry, arrays = prober.run(task, material, os.path.basename(os.path.normpath(model_dir)))
        questions = {'grid': dataclasses.asdict(grid), 'examples': task.facts}
        kept.save(facts, task.name, {'asked': asked, 'questions': questions} | entry, arrays)
      entries[task.name] = kept.facts['tests'][task.name] | {'checkpoint': step}
  saved.close()
  return entries


def _material(
  source: Source,
  sizes: Sizes,
  corpus: corpora.Corpus | None,
  validation_one_in: int | None,
  tfds_data_dir: str | None,
) -> Material:
  """Arguments as for `probe`; UserError if nobody says which documents of a given corpus were held out."""
  task = source.config.task
  one_in = validation_one_in or getattr(task, 'validation_one_in', None)
  if corpus is not None and one_in is None:
    raise UserError(
      'A corpus is given to a model that was trained on rows made elsewhere, so nobody knows which documents it did '
      'not see: set probe.validation_one_in to the VALIDATION_ONE_IN they were made with.'
    )
  given = corpus if corpus is not None else getattr(task, 'corpus', None)
  return Material(source, given, sizes, one_in or 20, tfds_data_dir=tfds_data_dir)


def digest(task: ProbeTask, grid: Grid) -> str:
  """Changes with a probe's examples and with how models are tuned on it."""
  settings = json.dumps(dataclasses.asdict(grid), sort_keys=True)
  return hashlib.sha1(f'{_VERSION} {settings} {task.digest()}'.encode()).hexdigest()


class Prober:
  """A trained model, restored when it is first needed, and a tuner for each kind of head and attention."""

  def __init__(
    self,
    saved: checkpoints_lib.Checkpoints,
    source: Source,
    model: DecoderConfig,
    mesh: jax.sharding.Mesh,
    grid: Grid,
    step: int,
  ):
    self._saved, self._mesh, self._grid, self._step = saved, mesh, grid, step
    self._decoder = Decoder(model.with_vocabulary(source.vocabulary.vocab_size))
    self._placed = state_lib.params_and_shardings(self._decoder, mesh)
    self._pretrained: dict | None = None

  def start(self, kind: str, seed: int) -> dict[str, Any]:
    """The decoder's parameters that a run begins with: 'pretrained', or 'untrained' ones of the seed."""
    if kind == 'untrained':
      # Seeds of pretraining are small numbers: this decoder is none that was trained.
      return state_lib.create_params(self._decoder, self._mesh, 1_000_000 + seed)
    if self._pretrained is None:
      _, self._pretrained = self._saved.restore_params(*self._placed, self._step)
    return self._pretrained

  def run(self, task: ProbeTask, material: Material, label: str) -> tuple[dict, dict]:
    """The grid on one probe: its entry in the judge's file and its arrays, see `figures.test_entry`."""
    grid, is_span = self._grid, task.kind == 'span'
    everything = [one for split in SPLITS for one in task.splits[split]]
    length = rows_lib.needed_length(everything, material.encoder, material.tokens(task.kind))
    rows = {split: rows_lib.encode(task.splits[split], material.encoder, length, is_span) for split in SPLITS}
    if is_span and not rows['train'].answerable().any():
      raise UserError(f'No answer of the probe {task.name} lies in a row of {length} tokens.')
    marker = figures.Marker(task, rows)
    tuners: dict[str, Tuner] = {}
    runs: list[grid_lib.Run] = []
    with tqdm.tqdm(total=grid.all_updates, desc=f'{label}: {task.name}', unit='update', mininterval=5) as bar:
      for arm in grid.arms:
        start, attention = arm
        if attention not in tuners:
          rule, shape = grid_lib.ATTENTIONS[attention], Shape(is_span, len(task.classes))
          tuners[attention] = Tuner(
            self._decoder, self._mesh, rule, shape, grid.optimizer, grid.updates, grid.batch_size
          )
        runs += grid_lib.run_arm(
          grid,
          arm,
          tuners[attention],
          lambda seed, start=start: self.start(start, seed),
          rows,
          lambda found: marker.right('dev', found),
          bar.update,
        )
    return figures.test_entry(task, rows, grid, runs)
