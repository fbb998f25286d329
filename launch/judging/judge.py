"""One judge for all: a suite of tests for any checkpoint, each answered through its own objective's scorer."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ...models.config import DecoderConfig
from ...models.decoder import Decoder
from ...objectives.base import Objective
from ...objectives.embedding import Embedding
from ...objectives.scoring import Scorer, Unscored
from ...tasks import vocabularies
from ...tasks.pipeline import Pipeline, Source
from ...tasks.questions.material import Material
from ...tasks.questions.overlap import Overlap
from ...tasks.questions.test import Questions, Test
from .. import checkpoints as checkpoints_lib
from .. import config, identity
from .. import mesh as mesh_lib
from .. import state as state_lib
from . import answers, vectors
from .kept import Kept
from .progress import Progress
from .runner import Runner

_LONGER = 4  # sentinels and ends that an infilling row has beside the text


def evaluate(
  *,
  model_dir: str,
  model: DecoderConfig,
  objective: Objective,
  pipeline: Pipeline,
  tests: Sequence[Questions],
  overlap: Overlap = Overlap(),
  batch_size: int = 32,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
  step: int | None = None,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Asks a checkpoint of `model_dir` what it was not asked before; writes 'evaluation/<step>.json' and '.npz' there.

  Args:
    model_dir: a trained model.
    model, objective, pipeline: as it was trained.
    tests: what to ask.
    overlap: what is done about questions that stand in the training text.
    batch_size: of the longest rows; of shorter ones there are more in a batch.
    mesh: of the devices to use.
    step: which checkpoint; None takes the newest sound one.
    say: gets a line for each thing that is left out.

  Returns:
    {'checkpoint', 'sees', 'home', 'scorer', 'embedding', 'tests': {name: what `described` gives}}, tests of this suite
    only. Losses are in nats a token; standard errors take the items about one text as one.

  Raises:
    UserError: there is no such checkpoint or it is damaged, the model is another one than was trained, or a test's
      settings or files are wrong.
  """
  config.refuse_unused()
  device_mesh = mesh.build()
  saved = checkpoints_lib.Checkpoints(model_dir)
  try:
    step = saved.require(step)
    source = pipeline.open()
    identity.check(model_dir, identity.of_run(model, objective, pipeline, source))
    material, asked = _drawn(source.text, tests, overlap)
    scorer, embedding = objective.scorer(source.special), objective.embedding(source.special)
    asked = [test for test in asked if _answering(test, scorer, embedding) is not None]
    if isinstance(scorer, Unscored):
      what = 'for vectors of texts alone' if asked else 'nothing'
      say(f'{model_dir} is asked {what}: {type(objective).__name__} has no scorer: {scorer.why}.')
    kept, how = Kept(model_dir, step), {'scorer': repr(scorer), 'embedding': repr(embedding)}
    kept.require(**how)
    facts = {'checkpoint': step, 'sees': scorer.sees, 'home': objective.home, **how}
    for note in material.notes:
      say(note)
    missing = _first_process_says([not kept.has(test.name, test.digest()) for test in asked])
    open_tests = [test for test, is_missing in zip(asked, missing, strict=True) if is_missing]
    if open_tests:
      with mesh_lib.context(device_mesh):
        judge = Judge.restore(saved, step, source, model, objective, device_mesh, batch_size)
        for test, described, arrays in judge.ask(open_tests, material.log_unigram, model_dir):
          if jax.process_index() == 0:
            kept.save(facts, test.name, described, arrays)
          else:
            kept.facts = facts | {'tests': kept.facts.get('tests', {}) | {test.name: described}}
  finally:
    saved.close()
  tests_now = kept.facts.get('tests', {})
  # Only the first process knows for sure what was kept: the folder may be another machine's.
  return facts | {'tests': {test.name: tests_now[test.name] for test in asked if test.name in tests_now}}


_last_drawn: dict[tuple, tuple[Material, list[Test]]] = {}


def _drawn(source: Source, tests: Sequence[Questions], overlap: Overlap) -> tuple[Material, list[Test]]:
  """The tests of a suite; drawn once for all models of a process that share text, vocabulary and rows."""
  task = source.config.mixture_or_task_name, source.config.text_length, source.folder
  key = (*task, vocabularies.fingerprint(source.vocabulary), repr(tests), overlap)
  if key not in _last_drawn:
    material = Material(source)
    drawn = [test for questions in tests for test in questions.draw(material)]
    _last_drawn.clear()
    _last_drawn[key] = material, overlap.judged(drawn, material)
  return _last_drawn[key]


def _answering(test: Test, scorer: Scorer, embedding: Embedding) -> Scorer | Embedding | None:
  """What answers a test; None if this model does not."""
  if test.embedded:
    return embedding
  return scorer.causal if test.causal or isinstance(scorer, Unscored) else scorer


def _first_process_says(flags: list[bool]) -> list[bool]:
  if jax.process_count() == 1 or not flags:
    return flags
  return [bool(flag) for flag in multihost_utils.broadcast_one_to_all(np.array(flags))]


@dataclasses.dataclass
class Judge:
  """A trained model that answers tests.

  Attributes:
    scorer, embedding: its own.
    runner: (attention rule, or None for the one it was trained with) -> who runs its rows.
  """

  scorer: Scorer
  embedding: Embedding
  runner: Callable[[Any], Runner]

  @classmethod
  def restore(
    cls,
    saved: checkpoints_lib.Checkpoints,
    step: int,
    source: Source,
    model: DecoderConfig,
    objective: Objective,
    mesh: jax.sharding.Mesh,
    batch_size: int,
  ) -> 'Judge':
    """From a checkpoint; the optimizer's state is not read."""
    decoder = Decoder(model.with_vocabulary(source.vocabulary.vocab_size))
    _, params = saved.restore_params(*state_lib.params_and_shardings(decoder, mesh), step)
    longest = source.config.text_length + _LONGER
    made: dict[Any, Runner] = {}

    def runner(attention) -> Runner:
      rule = attention or objective.attention
      if rule not in made:
        made[rule] = Runner(params, decoder, rule, mesh, longest, batch_size)
      return made[rule]

    return cls(objective.scorer(source.special), objective.embedding(source.special), runner)

  def ask(
    self, tests: Sequence[Test], log_unigram: np.ndarray, label: str
  ) -> Iterator[tuple[Test, dict[str, Any], answers.Arrays]]:
    """Each test with what is said of it and its arrays, as soon as it is answered; a bar shows how far this is."""
    work = []
    for test in tests:
      answering = _answering(test, self.scorer, self.embedding)
      assert answering is not None  # else it would not be asked
      of_vectors = isinstance(answering, Embedding)
      asked = vectors.ask(test, answering) if of_vectors else answers.ask(test, answering)
      work.append((test, answering, asked))
    cost = lambda answering, asked: sum(self.runner(answering.attention).buckets.cost(one.row) for one in asked)
    with Progress(label, sum(cost(answering, asked) for _, answering, asked in work)) as progress:
      for test, answering, asked in work:
        progress.begin(test.title)
        runner, rows = self.runner(answering.attention), [one.row for one in asked]
        if isinstance(answering, Embedding):
          arrays = vectors.answers(test, asked, runner.vectors(rows, len(answering.behind), progress.tick))
        else:
          arrays = answers.answers(test, asked, runner.log_probs(rows, progress.tick), log_unigram)
        yield test, described(test, arrays), arrays


def described(test: Test, arrays: answers.Arrays) -> dict[str, Any]:
  """What the JSON file says of a test.

  Returns:
    'title', 'part', 'kind', 'asked' (a digest of the questions), 'questions' (how they were drawn), 'items', 'overlap'
    (share of the items that stand in the training text, None if nobody looked), 'primary' (see
    `Test.described_primary`), 'figures' and 'groups' (see `answers`).
  """
  figures = answers.figures(arrays)
  return {
    'title': test.title,
    'part': test.part,
    'kind': test.kind,
    'asked': test.digest(),
    'questions': test.settings,
    'items': len(test.items),
    'overlap': test.overlap,
    'primary': test.described_primary(figures),
    'figures': figures,
    'groups': answers.groups(test, arrays),
  }
