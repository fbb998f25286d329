"""What a user of `unmask precompile` can get wrong: one line that names the numbers, status 2, no compilation."""

import os

import pytest
from unmask.launch import precompile

PLAIN = ['--gin_file=gin/runs/pretrain.gin', '--gin_file=gin/objectives/next_token.gin']


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ([], 'Give --topology=KIND:AxB'),
    (['--topology=v5e'], '--topology=v5e is not KIND:AxB'),
    (['--topology=v9:2x2'], 'names the chip v9; known are v4, v5e, v5p, v6e'),
    (['--topology=v5p:2x2'], 'has 2 axes; a slice of v5p is v5p:AxBxC'),
    (['--topology=v5e:32x16'], '512 chips in a slice; the largest of v5e has 256'),
    (['--topology=v5e:3x3'], 'libtpu has no slice v5e:3x3'),
    (['--topology=v5e:2x2', '--mesh=fsdp=3'], 'fsdp=3, sequence=1, tensor=1 does not fit 4 devices'),
    (['--topology=v5e:2x2', '--mesh=rows=3'], "'rows=3' is not AXIS=N"),
    (['--topology=v5e:4x4', '--mesh=tensor=16'], 'num_heads=4 does not divide over tensor=16'),
    (['--topology=v5e:2x2', '--gin.BATCH_SIZE=6'], 'BATCH_SIZE=6 does not divide over 4 devices'),
    (
      ['--topology=v5e:2x2', '--mesh=sequence=4', "--gin.TASK_FEATURE_LENGTHS={'targets': 126}"],
      'model length=126 does not divide over sequence=4',
    ),
    (['--topology=2xv5e:2x2', '--mesh=data=1,fsdp=8'], 'data=1 must be a multiple of 2'),
    (['--topology=v5e:2x2', '--gin.BATCHSIZE=8'], 'Nothing uses BATCHSIZE (did you mean BATCH_SIZE?)'),
    (['--topology=v5e:2x2', '--gin.BATCH_SIZE=0'], 'batch_size=0 must be a whole number'),
    (['--topology=v5e:2x2', '--json=nowhere/x.json'], '--json=nowhere/x.json cannot be written'),
    (['--topology=v5e:2x2', '--topology=v5e:2x4', '--search'], '--search is for one topology'),
    (['--topology=v5e:2x2', '--search_remat=full'], '--search_remat is of --search'),
    (['--topology=v5e:2x2', '--write=x.gin'], '--write is of --search'),
    (['--topology=v5e:2x2', '--search', '--markdown'], '--markdown is not for --search'),
    (['--topology=v5e:2x2', '--search', '--search_remat=half'], '--search_remat has half'),
    (['--topology=v5e:2x2', '--search', '--search_mesh=fsdp=3'], 'does not fit 4 devices'),
    (
      ['--topology=v5e:2x2', '--gin_file=gin/tasks/registered.gin', '--gin.MIXTURE_OR_TASK_NAME=nobodys'],
      "The vocabulary of 'nobodys' is not known without its text; give its size: --gin.DecoderConfig.vocab_size=N.",
    ),
  ],
)
def test_one_line(arguments, said, capsys):
  assert precompile.main([*PLAIN, *arguments]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert error.count('\n') == 1


def test_no_compiler(monkeypatch, capsys):
  monkeypatch.delenv('TPU_LIBRARY_PATH', raising=False)
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  assert precompile.main([*PLAIN, '--topology=v5e:2x2']) == 2
  assert 'requirements-tpu-compile.txt' in capsys.readouterr().err
  monkeypatch.setenv('TPU_LIBRARY_PATH', '/nowhere/libtpu.so')
  assert precompile.main([*PLAIN, '--topology=v5e:2x2']) == 2
  assert 'TPU_LIBRARY_PATH=/nowhere/libtpu.so is not there' in capsys.readouterr().err


def test_no_text_is_read(capsys, tmp_path):
  """The vocabulary's size comes from the task's settings; the text may not even exist."""
  arguments = [*PLAIN, '--gin_file=gin/tasks/local_text.gin', '--gin.TEXT_PATTERN=/nowhere/*.txt', '--mesh=fsdp=3']
  # What is bound to train itself is used, though train is not called.
  assert precompile.main([*arguments, '--topology=v5e:2x2', '--gin.loop.train.z_loss=1e-4']) == 2
  assert 'does not fit 4 devices' in capsys.readouterr().err
  assert not os.listdir(tmp_path)
