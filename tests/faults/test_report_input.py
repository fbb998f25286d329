"""A report of what is not there, not whole or not alike: one clear line, and nothing half-written."""

import json
import pathlib
import shutil

import disks
import numpy as np
import pytest
import report_cells
from unmask import UserError
from unmask.launch import cli, reporting

FEW = ('left_to_right', 'key_value')


@pytest.fixture
def cells(tmp_path) -> list[str]:
  return report_cells.write(tmp_path / 'cells', {'mlm': {}, 'meap': {'skill': 0.5}}, seeds=1, asked=FEW)


def _refused(capsys, argv: list[str], *signs: str) -> None:
  assert cli.main(argv) == 2
  said = capsys.readouterr()
  assert said.err.startswith('unmask: ')
  assert said.err.count('\n') == 1, said.err
  assert 'Traceback' not in said.err
  for sign in signs:
    assert sign in said.err, said.err


def _report(capsys, cells: list[str], *signs: str) -> None:
  """Refused, and nothing is written."""
  out = pathlib.Path(cells[0]).parent.parent / 'out'
  _refused(capsys, ['report', *(f'--model_dir={cell}' for cell in cells), f'--out={out}'], *signs)
  assert not out.exists()


@pytest.mark.parametrize(
  ('name', 'command'),
  [
    ('done.json', 'train'),
    ('realised.json', 'train'),
    ('model.json', 'train'),
    ('operative_config.gin', 'train'),
    ('evaluation/20.npz', 'evaluate'),
  ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(cells, capsys, name, command):
  (pathlib.Path(cells[1]) / name).unlink()
  _report(capsys, cells, name, f'unmask {command}', cells[1])


def test_an_unjudged_directory(cells, capsys):
  shutil.rmtree(f'{cells[0]}/evaluation')
  _report(capsys, cells, cells[0], 'run unmask evaluate on it first')


def test_an_earlier_format_is_an_unjudged_directory(cells, capsys):
  shutil.rmtree(f'{cells[0]}/evaluation')
  pathlib.Path(cells[0], 'evaluation.json').write_text('{"tests": {}}')
  _report(capsys, cells, 'run unmask evaluate on it first')


@pytest.mark.parametrize(
  'name', ['done.json', 'realised.json', 'model.json', 'cell.json', 'environment.json', 'evaluation/20.json']
)
@pytest.mark.parametrize('content', [b'', b'{"a": 1', b'[1, 2]', b'\xff\xfe\x00', b'null'])
def test_damaged_json_is_named(cells, capsys, name, content):
  (pathlib.Path(cells[1]) / name).write_bytes(content)
  _report(capsys, cells, name, 'is damaged')


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9, 0.99])
def test_a_cut_archive_is_named(cells, capsys, share):
  path = pathlib.Path(cells[1], 'evaluation', '20.npz')
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])
  _report(capsys, cells, '20.npz is damaged')


def test_a_flipped_byte_in_the_archive_is_named(cells, capsys):
  path = pathlib.Path(cells[1], 'evaluation', '20.npz')
  data = bytearray(path.read_bytes())
  data[len(data) // 4] ^= 0xFF
  path.write_bytes(bytes(data))
  _report(capsys, cells, '20.npz is damaged')


def test_an_archive_that_would_run_code_is_refused(cells, capsys):
  path = pathlib.Path(cells[1], 'evaluation', '20.npz')
  with np.load(path) as file:
    arrays = dict(file)
  arrays['key_value/right'] = np.array([{'not': 'data'}] * 120, dtype=object)
  np.savez(path, **arrays)
  _report(capsys, cells, '20.npz is damaged')


@pytest.mark.parametrize(
  ('change', 'sign'),
  [
    (lambda facts: facts.pop('tests'), "no 'tests'"),
    (lambda facts: facts['tests'].clear(), 'holds no test'),
    (lambda facts: facts['tests']['key_value'].pop('items'), "no 'items'"),
    (lambda facts: facts['tests']['key_value'].update(items=121), 'key_value has 121 items'),
    (lambda facts: facts['tests']['key_value'].update(kind='riddles'), "no 'riddles'"),
    (lambda facts: facts['tests']['key_value']['primary'].update(figure='beauty'), 'no primary figure'),
    (lambda facts: facts['tests']['key_value']['primary'].update(better='redder'), 'no primary figure'),
    (lambda facts: facts['tests'].update(key_value=7), 'is damaged'),
    (lambda facts: facts['tests']['key_value'].update(figures=None), 'is damaged'),
  ],
)
def test_a_judgement_that_is_not_whole_is_named(cells, capsys, change, sign):
  path = pathlib.Path(cells[1], 'evaluation', '20.json')
  facts = json.loads(path.read_text())
  change(facts)
  path.write_text(json.dumps(facts))
  _report(capsys, cells, sign, 'evaluation/20.', 'is damaged')


def test_other_questions_are_refused(cells, capsys):
  path = pathlib.Path(cells[1], 'evaluation', '20.json')
  facts = json.loads(path.read_text())
  facts['tests']['key_value']['asked'] = 'another digest'
  path.write_text(json.dumps(facts))
  _report(capsys, cells, 'different questions in key_value', cells[0], cells[1])


def test_a_model_that_diverged_is_left_out_where_it_gave_no_number(cells, tmp_path):
  path = pathlib.Path(cells[1], 'evaluation', '20.json')
  facts = json.loads(path.read_text())
  facts['tests']['left_to_right']['figures']['loss'] = float('nan')
  path.write_text(json.dumps(facts))
  reporting.report(cells, str(tmp_path / 'out'))
  said = (tmp_path / 'out' / 'report.md').read_text()
  assert f'{cells[1]} gave no number in Left to right' in said
  assert 'nan' not in said
  assert 'Left to right was not asked of meap' in said


def test_the_same_cell_twice_is_refused(cells, capsys):
  _report(capsys, [*cells, cells[0]], 'are both mlm with seed 0')


def test_a_seed_that_is_none(cells, capsys):
  path = pathlib.Path(cells[1], 'cell.json')
  path.write_text(json.dumps({'axes': {'objective': 'mlm', 'seed': 'first'}, 'name': 'mlm'}))
  _report(capsys, cells, "the seed is 'first'")


def test_flags(tmp_path, capsys):
  _refused(capsys, ['report'], '--model_dir', '--sweep_dir')
  _refused(capsys, ['report', '--sweep_dir=/nowhere/at/all'], "'/nowhere/at/all' cannot be read")
  _refused(capsys, ['report', f'--sweep_dir={tmp_path}'], 'holds no trained and judged cell')
  _refused(capsys, ['report', f'--sweep_dir={tmp_path}', '--model_dir=x'], 'not allowed with')


def test_a_file_where_the_folder_should_be(cells, tmp_path, capsys):
  (tmp_path / 'taken').write_text('mine')
  _refused(capsys, ['report', f'--model_dir={cells[0]}', f'--out={tmp_path / "taken"}'], 'cannot be written', 'taken')
  assert (tmp_path / 'taken').read_text() == 'mine'


@disks.mounts
def test_a_full_disk_keeps_the_report_that_was_there(cells, tmp_path):
  with disks.small_disk(tmp_path / 'disk', 8) as disk:
    reporting.report(cells[:1], str(disk))
    before = {path: path.read_bytes() for path in disk.rglob('*') if path.is_file()}
    for leave in (0, 20_000, 200_000):
      filler = disks.fill(disk, leave)
      with pytest.raises(UserError, match=r'cannot be written to .*: No space left on device'):
        reporting.report(cells, str(disk))
      filler.unlink()
      assert {path: path.read_bytes() for path in disk.rglob('*') if path.is_file()} == before
    reporting.report(cells, str(disk))
    assert 'meap' in (disk / 'report.md').read_text()
    assert not list(disk.glob('.report-*'))
