"""Metrics on a disk that fills up or becomes read-only: training goes on, and no line is torn or out of order."""

import json
import warnings

import disks
import pytest
from unmask.launch import board, lines, metrics

LONG = 'x' * 9000  # longer than what is left in the last block of a file: a full disk takes only a part of it


def _steps(folder):
  return [row['step'] for row in metrics.read(str(folder))]


def _warnings(capfd) -> list[str]:
  return [line for line in capfd.readouterr().err.split('\n') if line.startswith('unmask: ')]


@disks.mounts
def test_lines_wait_for_room(tmp_path, capfd):
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    writer = metrics.MetricsWriter(str(disk), 0)
    writer.write(1, {'loss': 3.0})
    filler = disks.fill(disk)
    for step in (2, 3, 4):
      writer.write(step, {'loss': 2.0, LONG: 1.0})
      text = (disk / 'metrics.jsonl').read_text()
      assert [json.loads(line)['step'] for line in text.splitlines()] == [1]  # nothing half-written stays
      assert text.endswith('\n')
    reason = 'No space left on device; they are kept and written when there is room.'
    assert _warnings(capfd) == [f'unmask: metrics cannot be written to {disk}: {reason}']
    filler.unlink()
    writer.write(5, {'loss': 1.0})
    assert _steps(disk) == [1, 2, 3, 4, 5]
    filler = disks.fill(disk)
    writer.write(6, {LONG: 1.0})
    assert len(_warnings(capfd)) == 1  # it is said again when it happens again
    filler.unlink()
    writer.close()
    assert _steps(disk) == [1, 2, 3, 4, 5, 6]
    assert not _warnings(capfd)


@disks.mounts
def test_lines_that_never_find_room_are_counted(tmp_path, capfd):
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    writer = metrics.MetricsWriter(str(disk), 0)
    writer.write(1, {'loss': 3.0})
    disks.fill(disk)
    for step in (2, 3):
      writer.write(step, {LONG: 1.0})
    _warnings(capfd)
    writer.close()
    lost = f'2 lines of metrics could not be written to {disk} and are lost: No space left on device.'
    assert f'unmask: {lost}' in _warnings(capfd)
    assert _steps(disk) == [1]


@disks.mounts
def test_a_disk_that_becomes_read_only(tmp_path, capfd):
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    (tmp_path / 'board').mkdir()
    (disk / 'tensorboard').symlink_to(tmp_path / 'board')  # a file held open would keep the disk writable
    writer = metrics.MetricsWriter(str(disk), 0)
    writer.write(1, {'loss': 3.0})
    with disks.read_only(disk):
      writer.write(2, {'loss': 2.0})
      writer.flush()
    (warning,) = _warnings(capfd)
    assert 'Read-only file system' in warning
    writer.write(3, {'loss': 1.0})
    writer.close()
    assert _steps(disk) == [1, 2, 3]


@disks.mounts
def test_the_board_goes_on_in_another_file(tmp_path, capfd):
  from etils import epath

  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    from tensorboard.backend.event_processing import event_file_loader
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    events = board.Board(epath.Path(disk))
    filler = disks.fill(disk)
    for step in range(1, 40):
      events.scalars(step, {f'{name}{"x" * 100}': 1.0 for name in range(5)})
    (warning,) = _warnings(capfd)
    assert f'TensorBoard misses events of {disk}/tensorboard: ' in warning
    assert 'No space left on device' in warning
    filler.unlink()
    events.scalars(40, {'loss': 1.0})
    events.close()
    files = sorted((disk / 'tensorboard').iterdir(), key=lambda file: file.stat().st_mtime)
    steps = [event.step for event in event_file_loader.EventFileLoader(str(files[-1])).Load()]
    assert steps[-1] == 40


def test_a_file_that_went_away_is_begun_again(tmp_path):
  from etils import epath

  kept = lines.Lines(epath.Path(tmp_path), keep=lambda line: True)
  kept.append('1\n')
  (tmp_path / 'metrics.jsonl').unlink()
  kept.append('2\n')
  assert (tmp_path / 'metrics.jsonl').read_text() == '2\n'  # and no hole where the first line was


@pytest.mark.parametrize(('first', 'left'), [(0, []), (2, [1, 2, 2]), (9, [1, 2, 2, 3, 4])])
def test_a_resumed_run_takes_back_what_it_wrote_beyond(first, left, tmp_path):
  for number, steps in enumerate([[1, 2], [2, 3], [4]]):  # as copied from a bucket, in parts
    name = f'metrics.{number}.jsonl' if number else 'metrics.jsonl'
    (tmp_path / name).write_text(''.join(f'{{"step": {step}}}\n' for step in steps))
  with open(tmp_path / 'metrics.2.jsonl', 'a') as file:
    file.write('{"step": 5')  # a crash
  assert _steps(tmp_path) == [1, 2, 2, 3, 4]
  writer = metrics.MetricsWriter(str(tmp_path), first)
  writer.write(10, {})
  writer.close()
  assert _steps(tmp_path) == [*left, 10]
