"""`unmask inspect` of every shipped objective, in one process: a few rows, and what is said of them."""

import re

import numpy as np
import pytest
import tensorflow as tf
from test_gin_files import HOME, SHRINK, names
from unmask.launch import cli, config
from unmask.objectives import preprocessor
from unmask.tasks import vocabularies
from unmask.tasks.pipeline import Pipeline, Source

ROWS = 40
DATA = [f'--gin.DATA_DIR={SHRINK["DATA_DIR"]}', f'--gin.DOWNLOAD_DIR={HOME["DOWNLOAD_DIR"]}']
PROMPTS = {name: ['--gin_file=gin/tasks/prompted.gin'] for name in ('meap_fine_tuning', 'answers_only')}
_FIGURE = re.compile(r'^│ ([a-z ]+?) +│ +(\d+\.\d+) │ +(\d+\.\d+)? *│', re.MULTILINE)


class _Eager:
  """Rows read once for each set of units, and corrupted without a graph, which takes longer to trace than they do."""

  def __init__(self):
    self.row, self.reader = {}, None
    self._read = Source.stream
    self._rows: dict[tuple, dict[str, tf.Tensor]] = {}

  def stream(self, source: Source, split: str, objective, drop: bool = True) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(self._of(source, split, objective))

  def corrupted(self, source: Source, objective, split: str) -> tf.data.Dataset:
    rows = self._of(source, split, objective)
    known = {'step': tf.zeros(ROWS, tf.int64), 'place': tf.fill([ROWS], tf.constant(-1.0, tf.float64))}
    kept = objective.keep(rows, source.special)
    kept = tf.fill([ROWS], True) if kept is None else kept
    rows = {name: tf.boolean_mask(value, kept) for name, value in (rows | known).items()}
    features = rows | preprocessor.corrupt_block(objective, source.special, source.config.seed)(rows)
    self.row = {name: value[0].numpy() for name, value in features.items()}
    self.reader = objective.reader(self.row)
    return tf.data.Dataset.from_tensor_slices(features)

  def _of(self, source: Source, split: str, objective) -> dict[str, tf.Tensor]:
    which = source.config.mixture_or_task_name, objective.units
    if which not in self._rows:
      self._rows[which] = next(iter(self._read(source, split, objective, drop=False).batch(ROWS)))
    return self._rows[which]


@pytest.fixture(scope='module')
def eager():
  return _Eager()


@pytest.fixture(scope='module')
def sources():
  """Opened once each, by name."""
  return {}


@pytest.fixture(autouse=True)
def quick(eager, sources, monkeypatch):
  opened = Pipeline.open

  def known(pipeline, say=print):
    name = pipeline.mixture_or_task_name
    if name not in sources:
      sources[name] = opened(pipeline, say)
    return sources[name]

  monkeypatch.setattr(Pipeline, 'open', known)
  monkeypatch.setattr(Source, 'stream', lambda *given, **more: eager.stream(*given, **more))
  monkeypatch.setattr(Source, 'corrupted', lambda *given: eager.corrupted(*given))
  monkeypatch.setenv('COLUMNS', '200')
  yield
  config.load([], [])


def _part(said: str, name: str) -> str:
  """What stands behind a heading, up to what is said of it."""
  return re.search(rf'^{name} +(.*?)\n {{9}}', said, re.MULTILINE | re.DOTALL)[1].replace('\n', '')


@pytest.mark.parametrize('name', names('objectives'))
def test_every_shipped_objective(name, default_task, eager, sources, capsys):
  given = [f'--gin_file=gin/objectives/{name}.gin', *PROMPTS.get(name, [])]
  assert cli.main(['inspect', *given, f'--rows={ROWS}', *DATA]) == 0
  said, progress = capsys.readouterr()
  assert 'Traceback' not in said + progress
  row, reader = eager.row, eager.reader
  source = sources['prompted' if name in PROMPTS else 'default_text']
  assert said.startswith(type(reader).__name__)
  assert f'output i predicts token {"i + 1" if reader.shift else "i"}' in said
  assert ('on the device' in said) == bool(reader.on_the_device)
  _reads_and_predicts(said, row, source)
  _sees(said, row, reader)
  assert ('by layer, in groups from the bottom up: causal, both sides' in said) == (name == 'mlm_by_layer')
  figures = {figure: (float(real), told and float(told)) for figure, real, told in _FIGURE.findall(said)}
  assert 0 < figures['supervised'][0] <= 2
  assert 0 <= figures['padding'][0] < 1
  for figure, (real, told) in figures.items():
    assert not told or real == pytest.approx(told, abs=0.12), figure


def _reads_and_predicts(said: str, row: dict[str, np.ndarray], source: Source) -> None:
  """The tokens of the row, in order, and of the targets those that are scored."""
  real = row['decoder_segment_ids'] > 0
  named = lambda tokens: ''.join(vocabularies.token_name(source.vocabulary, int(token)) for token in tokens)
  plain = lambda text: re.sub(r'\s', '', text)
  assert plain(_part(said, 'reads')) == plain(named(row['decoder_input_tokens'][real]))
  scored = real & (row['decoder_loss_weights'] > 0)
  predicted = plain(_part(said, 'predicts')).replace('·', '')
  assert scored.any()
  assert predicted == plain(named(row['decoder_target_tokens'][scored])).replace('·', '')


def _sees(said: str, row: dict[str, np.ndarray], reader) -> None:
  """Sixteen lines; everybody sees itself, and of a causal rule nothing behind."""
  drawn = re.findall(r'^ {9}([█·]{16})$', said, re.MULTILINE)
  first = int(re.search(r'^sees +\(positions (\d+) to', said, re.MULTILINE)[1])
  sees = np.array([[seen == '█' for seen in line] for line in drawn])
  assert sees.shape == (16, 16)
  np.testing.assert_array_equal(np.diag(sees), row['decoder_segment_ids'][first : first + 16] > 0)
  if reader.attention.kind == 'causal':
    assert not np.triu(sees, 1).any()
