"""Studying the step that train would run, for slices nobody holds: from gin's bindings to tables, JSON and advice."""

import argparse
import dataclasses
import json
import os
from collections.abc import Iterable

import seqio

from .. import UserError
from ..models import logical_axes
from ..models.config import DecoderConfig
from ..tasks import prepared, text_task, vocabularies
from ..tasks.pipeline import Pipeline
from ..tasks.preparation import stages
from . import flags, frozen, loop, opening, searching, slices, study, tables
from .mesh import MeshConfig
from .study import Settings, Study, TooBig


def precompile(options: argparse.Namespace) -> None:
  """Does what the flags of `unmask precompile` ask for, with the gin configuration that was loaded.

  Raises:
    UserError: something is missing, misspelt, does not divide or does not fit; the message names the numbers.
  """
  topologies = [slices.parse(text) for text in options.topology]
  settings = configured(None if options.mesh is None else parse_mesh(options.mesh))
  name = _model_name(options.gin_file)
  slices.require_libtpu()
  flags.require_folder('--json', options.json)
  if options.search:
    winner = options.write or 'precompiled.gin'
    flags.require_folder('--write', winner)
    if len(topologies) > 1:
      raise UserError(f'--search is for one topology; given are {", ".join(t.name for t in topologies)}.')
    found = searching.search(settings, topologies[0], space(options, settings, topologies[0]))
    _write_json(options.json, name, (point.study for point in found if point.study), found)
    searching.report(found, topologies[0], winner)
    return
  studies, too_big = [], []
  for topology in topologies:
    try:
      with flags.quiet():
        studies.append(study.compile_and_study(settings, topology))
    except TooBig as error:
      too_big.append(advised(error, settings, topology))
  _write_json(options.json, name, studies)
  if studies and options.markdown:
    print(tables.markdown(name, studies, head=options.markdown == 'table'), flush=True)
  elif studies:
    tables.show(name, studies)
  if too_big:
    raise UserError(' '.join(too_big))


def configured(mesh: MeshConfig | None = None) -> Settings:
  """What train's bindings say of the step; UserError for a binding that nothing uses.

  Args:
    mesh: in place of the mesh that is bound.
  """
  bound = loop.bound()
  pipeline: Pipeline = bound['pipeline']
  numbers = {name: bound[name] for name in ('batch_size', 'train_steps', 'microbatches')}
  opening.check_numbers(**numbers)
  return Settings(
    model=with_vocabulary(bound['model'], pipeline),
    objective=frozen.settled(bound['objective'], bound['model_dir']),
    text_length=pipeline.text_length,
    optimizer=bound['optimizer'],
    mesh=bound['mesh'] if mesh is None else mesh,
    z_loss=bound['z_loss'],
    tpu_compiler_options=dict(bound['tpu_compiler_options']),
    **numbers,
  )


def with_vocabulary(model: DecoderConfig, pipeline: Pipeline) -> DecoderConfig:
  """The model with the vocabulary that the task's settings ask for; no text is opened."""
  if model.vocab_size is not None:
    return model
  task = pipeline.task
  if isinstance(task, text_task.TextTask):
    return model.with_vocabulary(task.vocabulary_size or vocabularies.byte_vocabulary().vocab_size)
  if isinstance(task, prepared.PreparedTask):
    _ = task.name  # complains if nothing is there
    return model.with_vocabulary(stages.load_vocabulary(os.path.expanduser(task.folder)).vocab_size)
  try:
    registered = seqio.get_mixture_or_task(pipeline.mixture_or_task_name)
    return model.with_vocabulary(registered.output_features['targets'].vocabulary.vocab_size)
  except Exception as error:  # no such task, or a vocabulary that cannot be read here
    raise UserError(
      f'The vocabulary of {pipeline.mixture_or_task_name!r} is not known without its text; '
      'give its size: --gin.DecoderConfig.vocab_size=N.'
    ) from error


def parse_mesh(text: str) -> MeshConfig:
  """Reads 'fsdp=8,tensor=2'; an axis not named is 1, and data takes the devices that remain."""
  sizes = {}
  for part in text.split(','):
    axis, _, size = part.partition('=')
    if axis not in logical_axes.MESH_AXES or not size.lstrip('-').isdigit():
      raise UserError(f'--mesh={text}: {part!r} is not AXIS=N with an axis of {", ".join(logical_axes.MESH_AXES)}.')
    sizes[axis] = int(size)
  return MeshConfig(**sizes)


def space(options: argparse.Namespace, settings: Settings, topology: slices.Topology) -> searching.Space:
  """What --search tries, as flags or defaults say."""
  batches = [settings.batch_size * times for times in (1, 2, 4)]
  if options.search_batches:
    try:
      batches = [int(number) for number in options.search_batches.split(',')]
    except ValueError as error:
      raise UserError(f'--search_batches={options.search_batches} is not a list of numbers such as 64,128.') from error
  policies = searching.remat_policies()
  if options.search_remat:
    unknown = set(options.search_remat.split(',')) - set(policies)
    if unknown:
      raise UserError(f'--search_remat has {", ".join(sorted(unknown))}; policies are {", ".join(policies)}.')
    policies = [policy for policy in policies if policy in options.search_remat.split(',')]
  meshes = [parse_mesh(text) for text in options.search_mesh or ()]
  for mesh in meshes:
    mesh.build(topology.devices())  # complains if it does not fit
  return searching.Space(
    batches=tuple(batches),
    policies=tuple(policies),
    meshes=tuple(meshes or searching.meshes(settings, topology)),
  )


def advised(error: TooBig, settings: Settings, topology: slices.Topology) -> str:
  """The error as a sentence with what would fit; each remedy named has been compiled."""
  print(f'{error} Looking for what fits.', flush=True)
  found = []
  for remedies in searching.remedies(settings, topology):
    for label, changed in remedies:
      try:
        with flags.quiet():
          fits = study.compile_and_study(changed, topology)
      except UserError as other:
        print(f'  {label}: {other}', flush=True)
        continue
      print(f'  {label}: {fits.memory.peak / study.GIB:,.2f} GiB', flush=True)
      found.append(label)
      break
  sentence = str(error).rstrip('.')
  if not found:
    return f'{sentence}, and neither remat, batch nor mesh alone would do: take more chips.'
  return f'{sentence}; it would fit with {", or ".join(found)}.'


def _model_name(gin_files: list[str]) -> str:
  """The last gin file of a folder named models, without its ending; the run file's own model otherwise."""
  names = [os.path.basename(path) for path in gin_files if os.path.basename(os.path.dirname(path)) == 'models']
  return os.path.splitext(names[-1])[0] if names else 'model'


def _write_json(path: str, name: str, studies: Iterable[Study], points: Iterable[searching.Point] = ()) -> None:
  """All figures; of a search, what did not work too. UserError if the file cannot be written."""
  failed = [{'label': point.label, 'why': point.why} for point in points if point.study is None]
  content = {'model': name, 'studies': [dataclasses.asdict(one) for one in studies], 'failed': failed}
  try:
    with open(path, 'w') as file:
      json.dump(content, file, indent=2)
      file.write('\n')
  except OSError as error:
    raise UserError(f'--json={path} cannot be written: {error.strerror}.') from error
