"""The house rules: who imports whom, how long files are, whose name `gin` is, what ships."""

import ast
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from unmask.launch import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ('objectives', 'models', 'tasks', 'launch')
MAY_IMPORT = {
  'objectives': {'objectives'},
  'models': {'models'},
  'tasks': {'tasks', 'objectives'},
  'launch': {'launch', 'tasks', 'models', 'objectives'},
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob('*.py'))


def _imports(path: pathlib.Path) -> set[str]:
  """Absolute names of everything a file imports, relative imports resolved inside the package."""
  found = set()
  parts = path.relative_to(ROOT).parts[:-1]
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = list(parts[: len(parts) + 1 - node.level]) if node.level else []
      prefix = '.'.join([*(['unmask'] if node.level else []), *base, *([node.module] if node.module else [])])
      found |= {f'{prefix}.{alias.name}' for alias in node.names}
  return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_only(path):
  package = path.relative_to(ROOT).parts[0]
  for name in _imports(path):
    if name.startswith('unmask.') and name.split('.')[1] in PACKAGES:
      assert name.split('.')[1] in MAY_IMPORT[package], f'{path.name} imports {name}'
    if name.split('.')[0] == 'gin':
      assert path.relative_to(ROOT).as_posix() == 'launch/config.py', f'{path.name} imports gin'


RUNS_CODE = {'pickle', 'cPickle', '_pickle', 'cloudpickle', 'dill', 'jsonpickle', 'joblib', 'marshal', 'shelve'}
YAML = {'yaml.safe_dump', 'yaml.SafeDumper.add_representer'}  # they write plain data; nothing here reads YAML


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run(path):
  """No format that makes code of data, no code of text, no pickled arrays."""
  assert not {name.split('.')[0] for name in _imports(path)} & RUNS_CODE
  assert {name for name in _imports(path) if name.split('.')[0] == 'yaml'} <= {'yaml'}, 'import yaml as it is'
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      assert name not in ('eval', 'exec', 'compile', '__import__'), name
      assert name.split('.')[0] != 'yaml' or name in YAML, name
      for keyword in node.keywords:
        assert keyword.arg != 'allow_pickle' or ast.unparse(keyword.value) == 'False', name


def _objectives() -> set[str]:
  """Names of the classes of objectives/ that derive from Objective."""
  bases = {
    node.name: {ast.unparse(base).rpartition('.')[2] for base in node.bases}
    for path in (ROOT / 'objectives').glob('*.py')
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef)
  }
  found: set[str] = set()
  while more := {name for name, of in bases.items() if of & {'Objective', *found}} - found:
    found |= more
  return found


OBJECTIVES = _objectives()
GIN_NAMES = {path.stem for path in (ROOT / 'gin' / 'objectives').glob('*.gin')}


def _tells_apart(tree: ast.AST) -> list[str]:
  """Code that is of one objective: it names its class, compares with its name, or asks which one an objective is."""
  found = []
  for node in ast.walk(tree):
    match node:
      case ast.Attribute(value=ast.Name(id='seqio')):
        continue  # seqio.Mixture
      case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
        found += [name] if name in OBJECTIVES else []
      case ast.Compare(left=left, ops=[op], comparators=[_]):
        said = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
        asks = ast.unparse(left).rstrip(')').rpartition('.')[2] in ('objective', 'type(objective') and None not in said
        asks &= isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq)
        found += [ast.unparse(node)] if asks or said & (OBJECTIVES | GIN_NAMES) else []
      case ast.Match(subject=subject) if 'objective' in ast.unparse(subject):
        found.append(ast.unparse(subject))
  return found


@pytest.mark.parametrize(
  'path', [p for p in FILES if p.parts[len(ROOT.parts)] != 'objectives'], ids=lambda path: str(path.relative_to(ROOT))
)
def test_nobody_asks_which_objective_it_is(path):
  """What an objective does otherwise is a method or a property of it. Scorers, of which there are a few, may be asked
  for their kind.
  """
  assert not _tells_apart(ast.parse(path.read_text()))


@pytest.mark.parametrize(
  'code',
  [
    'if objective is MASKED: pass',
    'if self.objective == other: pass',
    'x = 1 if isinstance(objective, masked_lm.MaskedLM) else 2',
    'if issubclass(kind, (int, Mixture)): pass',
    'if type(objective) is not chosen: pass',
    'if type(self.objective) is chosen: pass',
    "if type(part).__name__ in ('NextToken', 'MEAP'): pass",
    "if name == 'mlm': pass",
    'from ..objectives.stages import Stages',
    'match objective:\n  case _: pass',
    'match part:\n  case PMIMasking(): pass',
    '{Electra: 1}[type(part)]',
  ],
)
def test_who_asks_which_objective_it_is_would_be_seen(code):
  assert _tells_apart(ast.parse(code))


@pytest.mark.parametrize(
  'code',
  [
    'if isinstance(scorer, Unscored): pass',
    'if isinstance(value, Objective): pass',
    'if isinstance(provider, seqio.Mixture): pass',
    'if objective is None or reader is objective: pass',
    "if objective.attention.kind == 'causal': pass",
    'if type(objective).keep is Objective.keep: pass',
  ],
)
def test_what_does_not_ask_is_let_through(code):
  assert {'MaskedLM', 'PMIMasking', 'Mixture', 'Parts'} <= OBJECTIVES
  assert not _tells_apart(ast.parse(code))


@pytest.mark.parametrize('path', [p for p in FILES if p.parent.name == 'models'], ids=lambda path: path.name)
def test_models_know_no_tensorflow(path):
  assert not {name.split('.')[0] for name in _imports(path)} & {'tensorflow', 'seqio', 'gin'}


def test_the_step_runs_where_there_is_no_tensorflow():
  modules = (
    'objectives.attention objectives.loss objectives.scoring objectives.base launch.step launch.state launch.mesh'
  )
  code = 'import sys\n' + '\n'.join(f'import unmask.{name}' for name in modules.split())
  code += "\nassert not {'tensorflow', 'seqio', 'gin'} & set(sys.modules), 'heavy import'"
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT.parent)


@pytest.mark.parametrize(
  'path', [*FILES, *sorted((ROOT / 'tests').rglob('*.py'))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_files_and_functions_stay_short(path):
  text = path.read_text()
  assert text.count('\n') <= 500
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef):
      assert node.end_lineno - node.lineno < 90, f'{node.name} is too long'


def test_gin_is_gin_config():
  code = 'import gin; assert "site-packages" in gin.__file__ and hasattr(gin, "parse_config"), gin.__file__'
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
  assert not list((ROOT / 'gin').rglob('*.py'))


def test_run_files_are_short_and_say_what_they_are():
  for path in (ROOT / 'gin').rglob('*.gin'):
    lines = path.read_text().split('\n')
    assert lines[0].startswith('# '), path
    if path.parent.name in ('runs', 'sweeps'):
      assert len(lines) - 1 <= 25, path


@pytest.mark.parametrize('command', ['', *cli.COMMANDS, 'lexicon build', 'lexicon show'])
def test_help_is_quick_because_nothing_heavy_is_imported(command):
  code = (
    'import sys\nfrom unmask.launch import cli\n'
    f'try:\n  cli.main({[*command.split(), "--help"]})\nexcept SystemExit as stop:\n  assert not stop.code\n'
    "heavy = {'jax', 'tensorflow', 'seqio', 'numpy', 'gin', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT.parent, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'usage: unmask' in done.stdout


def test_wheel_holds_one_top_level_name_and_the_gin_files(tmp_path):
  copy = tmp_path / 'copy'  # setuptools leaves build/ behind, and puts into the next wheel what has gone from the code
  made = {'build', 'data', 'runs', '__pycache__'} | {path.name for path in ROOT.glob('*.egg-info')}
  shutil.copytree(
    ROOT, copy, ignore=lambda at, names: [n for n in names if at == str(ROOT) and (n in made or n[0] == '.')]
  )
  command = [
    sys.executable,
    '-m',
    'pip',
    'wheel',
    '--no-deps',
    '--no-build-isolation',
    '--quiet',
    '-w',
    str(tmp_path),
    str(copy),
  ]
  subprocess.run(command, check=True, capture_output=True)
  (wheel,) = tmp_path.glob('*.whl')
  names = zipfile.ZipFile(wheel).namelist()
  assert {name.split('/')[0] for name in names if '.dist-info' not in name} == {'unmask'}
  shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'gin').rglob('*.gin')}
  assert shipped == {name.removeprefix('unmask/') for name in names if name.endswith('.gin')}
  code = {path.relative_to(ROOT).as_posix() for path in FILES}
  assert code == {name.removeprefix('unmask/') for name in names if name.endswith('.py')} - {'__init__.py'}
