"""Resumed equals uninterrupted, bit for bit; no row is read twice or left out."""

from test_gin_files import HOME, train
from unmask.launch import metrics


def test_a_finished_run_does_nothing_again(default_task, tmp_path, capsys):
  files = ('gin/runs/pretrain.gin', 'gin/objectives/mlm.gin')
  assert train(tmp_path / 'run', *files, **HOME) == 0
  before = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
  assert train(tmp_path / 'run', *files, **HOME) == 0
  assert 'is trained: 2 of 2 steps' in capsys.readouterr().out
  assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == before


def test_metrics_beyond_the_checkpoint_are_taken_back(tmp_path):
  writer = metrics.MetricsWriter(str(tmp_path), 0)
  for step in range(1, 5):
    writer.write(step, {'loss': float(step)})
  writer.close()
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 5, "lo')  # cut off by a crash
  writer = metrics.MetricsWriter(str(tmp_path), 2)
  writer.write(3, {'loss': 30.0})
  writer.close()
  assert [(row['step'], row['loss']) for row in metrics.read(str(tmp_path))] == [(1, 1.0), (2, 2.0), (3, 30.0)]
