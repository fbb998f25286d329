"""The files for schedulers, read by the schedulers' own code."""

import json
import os
import pathlib
import subprocess

import kubeflow_trainer_api.models as jobset_models
import pinned
import pytest
import yaml
from unmask import UserError
from unmask.launch import cli, exits, flags
from unmask.launch.sweeping import cells, jobset, skypilot

BINDINGS = '["BATCH_SIZE = 8", "TASK_FEATURE_LENGTHS = {\'targets\': 64}"]'


def _write(folder: pathlib.Path, engine: str, *more: str, sweep_dir: str | None = None) -> int:
  argv = ['sweep', '--gin_file=gin/sweeps/masking_rate.gin', f'--gin.BINDINGS={BINDINGS}', f'--engine={engine}']
  return cli.main([*argv, f'--write={folder / engine}', f'--gin.SWEEP_DIR={sweep_dir or folder / "shared"}', *more])


@pytest.fixture(scope='module')
def sky() -> pathlib.Path:
  """The Python of a virtual environment in which SkyPilot is installed."""
  return pinned.python('skypilot', 'requirements-skypilot.txt')


READ = """
import json, sys, sky, yaml
from sky.utils import schemas
recovery = [one for one in schemas.get_resources_schema()['properties']['job_recovery']['anyOf'] if 'properties' in one]
answers = []
for path in sys.argv[1:]:
  try:
    task = sky.Task.from_yaml_config(yaml.safe_load(open(path)))
    (resources,) = task.resources
    answers.append({
      'name': task.name, 'run': task.run, 'setup': task.setup, 'spot': resources.use_spot, 'region': resources.region,
      'accelerators': resources.accelerators, 'recovery': resources.job_recovery, 'nodes': task.num_nodes,
      'known': sorted(recovery[0]['properties']),
    })
  except ValueError as error:
    answers.append({'error': str(error)})
print('ANSWERS' + json.dumps(answers))
"""


def _read_by_sky(sky: pathlib.Path, home: pathlib.Path, paths: list[pathlib.Path]) -> list[dict]:
  outside = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
  environment = outside | {'HOME': str(home), 'SKYPILOT_DISABLE_USAGE_COLLECTION': '1'}
  done = subprocess.run(
    [sky, '-c', READ, *map(str, paths)], capture_output=True, text=True, check=True, cwd=home, env=environment
  )
  return json.loads(done.stdout.rpartition('ANSWERS')[2])


def test_skypilot_reads_its_files(sky, tmp_path):
  assert _write(tmp_path, 'skypilot', '--accelerator=v5e:4x4', '--infra=gcp/us-west4') == 0
  paths = sorted((tmp_path / 'skypilot').glob('*.yaml'))
  assert len(paths) == 9
  broken = tmp_path / 'broken.yaml'
  broken.write_text(paths[0].read_text().replace('accelerators:', 'acelerators:'))
  *read, refused = _read_by_sky(sky, tmp_path, [*paths, broken])
  assert 'acelerators' in refused['error']
  for path, task in zip(paths, read, strict=True):
    assert task['name'] == path.stem
    assert (task['accelerators'], task['spot'], task['region']) == ({'tpu-v5litepod-16': 1}, True, 'us-west4')
    assert task['nodes'] == 1
    assert set(task['recovery']) <= set(task['known'])
    again = task['recovery']['recover_on_exit_codes']
    assert {exits.HUNG, exits.PREEMPTED} <= set(again)
    assert exits.MISTAKE not in again
    assert 'requirements-tpu-compile.txt' in task['setup']
    assert task['run'].split()[:2] == ['.venv-job/bin/unmask', 'train']


def test_what_a_file_runs_is_the_cell(tmp_path):
  """The command in the file, read as a shell reads it, binds what the local engine's would."""
  assert _write(tmp_path, 'skypilot', '--accelerator=H100:8', '--no-spot') == 0
  document = yaml.safe_load((tmp_path / 'skypilot' / 'shared-random-span-rate0-30-seed0.yaml').read_text())
  assert document['resources']['accelerators'] == 'H100:8'
  assert document['resources']['use_spot'] is False
  assert "'jax[cuda12]'" in document['setup']
  said = document['run'].replace('.venv-job/bin/unmask train', r"printf '%s\n'")
  argv = subprocess.run(['bash', '-c', said], capture_output=True, text=True, check=True).stdout.strip().split('\n')
  options = flags.parse(flags.parser('train', ''), argv)
  model_dir = tmp_path / 'shared' / 'random_span-rate0.30-seed0'
  assert options.gin_file == ['gin/runs/ablation.gin', 'gin/objectives/random_span.gin']
  assert options.gin_bindings == [
    'BATCH_SIZE = 8',
    "TASK_FEATURE_LENGTHS = {'targets': 64}",
    'RandomSpan.rate = 0.30',
    'SEED = 0',
    f"MODEL_DIR = '{model_dir}'",
  ]
  begun = cells.read(str(model_dir))
  assert (begun['name'], begun['axes']['rate']) == ('random_span-rate0.30', '0.30')


def _same(document: dict) -> bool:
  """Whether JobSet's models know every field: they leave out what they do not know."""
  return jobset_models.JobsetV1alpha2JobSet.from_dict(document).to_dict() == document


@pytest.mark.parametrize(
  ('accelerator', 'slices', 'hosts', 'chips', 'selector'),
  [
    ('v5e:1x1', 1, 1, 1, ('tpu-v5-lite-podslice', '1x1')),
    ('v5e:2x4', 1, 1, 8, ('tpu-v5-lite-podslice', '2x4')),
    ('2xv5e:4x4', 2, 4, 4, ('tpu-v5-lite-podslice', '4x4')),
    ('v6e:16x16', 1, 64, 4, ('tpu-v6e-slice', '16x16')),
    ('v5p:2x2x1', 1, 1, 4, ('tpu-v5p-slice', '2x2x1')),
    ('3xv4:4x4x4', 3, 16, 4, ('tpu-v4-podslice', '4x4x4')),
  ],
)
def test_jobset_reads_its_files(accelerator, slices, hosts, chips, selector, tmp_path):
  more = ['--image=registry.example/unmask:1', f'--accelerator={accelerator}', '--service_account=trainer']
  assert _write(tmp_path, 'jobset', *more) == 0
  paths = sorted((tmp_path / 'jobset').glob('*.yaml'))
  assert len(paths) == 9
  for path in paths:
    document = yaml.safe_load(path.read_text())
    assert _same(document)
    assert document['metadata']['name'] == path.stem
    assert len(f'{path.stem}-slice-{slices}-{hosts}') <= 63  # of a pod's host name
    (job,) = document['spec']['replicatedJobs']
    spec = job['template']['spec']
    pod = spec['template']['spec']
    assert job['replicas'] == slices
    assert (spec['parallelism'], spec['completions'], spec['backoffLimit']) == (hosts, hosts, 0)
    assert pod['containers'][0]['resources']['limits'] == {'google.com/tpu': chips}
    assert pod['nodeSelector'] == {
      'cloud.google.com/gke-tpu-accelerator': selector[0],
      'cloud.google.com/gke-tpu-topology': selector[1],
      'cloud.google.com/gke-spot': 'true',
    }
    (rule,) = spec['podFailurePolicy']['rules']
    assert exits.MISTAKE in rule['onExitCodes']['values']
    assert not {exits.HUNG, exits.PREEMPTED} & set(rule['onExitCodes']['values'])
    assert document['spec']['failurePolicy']['rules'][0]['onJobFailureReasons'] == ['PodFailurePolicy']
    flags.parse(flags.parser('train', ''), pod['containers'][0]['args'])
  job['template']['spec']['paralelism'] = 3
  assert not _same(document)


def test_every_cell_and_how_to_submit_it_is_in_the_readme(tmp_path):
  assert _write(tmp_path, 'jobset', '--image=i', '--accelerator=v5e:2x2') == 0
  done = tmp_path / 'shared' / 'mlm-rate0.15-seed0'
  (done / 'done.json').write_text('{}')
  assert _write(tmp_path, 'jobset', '--image=i', '--accelerator=v5e:2x2') == 0
  paths = {path.name for path in (tmp_path / 'jobset').glob('*.yaml')}
  assert len(paths) == 8
  readme = (tmp_path / 'jobset' / 'README.md').read_text()
  assert {line.split()[-1] for line in readme.split('\n') if 'kubectl apply' in line} == paths


@pytest.mark.parametrize(
  ('engine', 'more', 'sign'),
  [
    ('skypilot', [], 'needs --accelerator'),
    ('skypilot', ['--accelerator=2xv5e:4x4'], 'no job of several slices'),
    ('skypilot', ['--accelerator=v9:4x4'], '--accelerator=v9:4x4 names the chip v9'),
    ('skypilot', ['--accelerator=8x H100'], 'neither a TPU slice'),
    ('skypilot', ['--accelerator=H100:8', '--image=i'], '--image is not for --engine=skypilot'),
    ('skypilot', ['--accelerator=H100:8', '--no-judge'], '--no-judge is not for --engine=skypilot'),
    ('local', ['--no-spot'], '--spot is not for --engine=local'),
    ('jobset', ['--accelerator=v5e:4x4'], 'needs --image'),
    ('jobset', ['--accelerator=v5e:1x2', '--image=i'], 'small slices are 1x1, 2x2 and 2x4'),
    ('jobset', ['--accelerator=v5p:1x1x3', '--image=i'], 'no whole number of hosts'),
    ('jobset', ['--accelerator=H100:8', '--image=i'], 'KIND:AxB'),
  ],
)
def test_what_cannot_be_written(engine, more, sign, tmp_path, capsys):
  assert _write(tmp_path, engine, *more) == 2
  assert sign in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_machines_of_a_cluster_need_a_place_they_share(tmp_path, capsys):
  assert _write(tmp_path, 'jobset', '--image=i', '--accelerator=v5e:2x2', sweep_dir='runs/mine') == 2
  assert 'gs://BUCKET/FOLDER' in capsys.readouterr().err
  with pytest.raises(UserError, match='absolute path'):
    skypilot.SkyPilot(folder='x', accelerator='H100:1').check('runs/mine')
  jobset.JobSet(folder='x', accelerator='v5e:2x2', image='i').check('gs://bucket/runs')


@pytest.mark.parametrize(
  ('more', 'sign'),
  [
    (['--gin.MODEL_DIR=runs/mine'], "go to 'runs/mine'"),
    (['--gin.MODEL_DIR=gs://b/r', '--gin.BATCHSIZE=8'], 'Nothing uses BATCHSIZE (did you mean BATCH_SIZE?)'),
    (['--gin.MODEL_DIR=gs://b/r', '--gin.TRAIN_STEPS=0'], 'TRAIN_STEPS=0 must be'),
    (['--gin.MODEL_DIR=gs://b/r', '--accelerator=v5e:3x3'], 'no whole number of hosts'),
  ],
)
def test_a_run_that_cannot_be_written(more, sign, tmp_path, capsys):
  given = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/mlm.gin', f'--write={tmp_path / "jobs"}']
  argv = ['job', '--engine=jobset', '--image=i', '--accelerator=v5e:4x4', *given, *more]
  assert cli.main(argv) == 2
  assert sign in capsys.readouterr().err
  assert not list(tmp_path.iterdir())
