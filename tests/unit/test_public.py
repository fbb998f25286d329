"""What other teams may rely on: the public names, the page about them, the changelog, and the pages' own examples."""

import ast
import importlib
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest
import unmask
from unmask.launch import cli, config, loop

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ('objectives', 'tasks')


def test_importing_unmask_and_its_packages_loads_nothing_heavy():
  code = (
    'import sys, unmask\n'
    'names = unmask.tasks.__all__ + unmask.objectives.__all__ + dir(unmask.tasks)\n'
    'assert "register" in names and "MEAP" in names\n'
    "heavy = {'tensorflow', 'seqio', 'jax', 'numpy', 'gin'} & set(sys.modules)\nassert not heavy, heavy"
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT.parent)


@pytest.mark.parametrize('package', PACKAGES)
def test_type_checkers_see_the_names_that_are_there(package):
  """What is imported for type checkers alone is what is loaded when it is asked for."""
  module = getattr(unmask, package)
  (block,) = [node for node in ast.parse((ROOT / package / '__init__.py').read_text()).body if isinstance(node, ast.If)]
  seen = {alias.name: node.module for node in block.body for alias in node.names if alias.name == alias.asname}
  assert seen == module.HOMES
  for name, home in module.HOMES.items():
    assert getattr(module, name) is getattr(importlib.import_module(f'unmask.{package}.{home}'), name)
  with pytest.raises(AttributeError, match='MEPA'):
    _ = module.MEPA
  with pytest.raises(AttributeError, match='taskz'):
    _ = unmask.taskz


def _make_api():
  spec = importlib.util.spec_from_file_location('make_api', ROOT / 'docs' / 'make_api.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_page_of_the_public_names_is_up_to_date():
  page = _make_api().page()
  for package in PACKAGES:
    for name in getattr(unmask, package).__all__:
      (entry,) = re.findall(rf'(?ms)^### unmask\.{package}\.{name}\n(.+?)(?=^##|\Z)', page)
      assert entry.strip()
  assert (ROOT / 'docs' / 'api.md').read_text(encoding='utf-8') == page, 'run python docs/make_api.py'


def test_the_version_is_said(capsys):
  assert cli.main(['--version']) == 0
  assert capsys.readouterr().out == f'unmask {unmask.__version__}\n'


def test_the_changelog_knows_this_version():
  assert re.search(rf'^## \[{re.escape(unmask.__version__)}\]', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)


def test_what_is_run_elsewhere_is_there_to_be_run():
  said = re.findall(r'`([^`]+)`', (ROOT / 'docs' / 'elsewhere.md').read_text())
  files = {word for text in said for word in text.split() if re.match(r'(tests|launch|gin)/', word)}
  assert len(files) > 15
  assert not [file for file in files if not (ROOT / file).exists()]
  assert {text.split()[1] for text in said if text.startswith('unmask ')} <= set(cli.COMMANDS)


@pytest.mark.usefixtures('seqio_registry')
def test_the_examples_of_the_tasks_page_run(monkeypatch, tmp_path):
  """Python blocks one after the other; gin blocks are bound as `train` would, on top of the run file."""
  blocks = re.findall(r'(?ms)^```(\w+)\n(.+?)^```$', (ROOT / 'docs' / 'tasks.md').read_text())
  assert [kind for kind, _ in blocks].count('python') >= 6
  assert [kind for kind, _ in blocks].count('gin') == 3
  monkeypatch.syspath_prepend(ROOT / 'tests' / 'example_team' / 'src')
  names = {'__name__': 'example'}
  for number, (kind, text) in enumerate(blocks):
    if kind == 'python':
      exec(compile(text, f'docs/tasks.md, block {number + 1}', 'exec'), names)
      continue
    path = tmp_path / f'{number}.gin'
    path.write_text(text)
    config.load(['gin/runs/pretrain.gin', str(path)], ["MODEL_DIR = 'run'"])
    bound = loop.bound()
    assert type(bound['objective']).__name__ in ('Mixture', 'Stages', 'EveryOther')
