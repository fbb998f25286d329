"""Exporting holds a part of the model in memory, not the model: measured in a process of its own."""

import json
import os
import subprocess
import sys

import exports
from unmask.models.config import DecoderConfig

MODEL = {'embed_dim': 512, 'num_layers': 8, 'num_heads': 8, 'num_kv_heads': 8, 'head_dim': 64, 'mlp_dim': 2048}
MEASURE = """
import json, pathlib, sys
from etils import epath
from unmask.launch.exporting import hugging_face, llama, parameters
from unmask.models.config import DecoderConfig

def kilobytes(name):
  return int(next(line for line in open('/proc/self/status') if line.startswith(name)).split()[1])

shape, checkpoint, out, warm = sys.argv[1:]
model = DecoderConfig(**json.loads(shape), vocab_size=8192, tied_embeddings=False)
small = DecoderConfig(embed_dim=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=16, vocab_size=128)
hugging_face.write_weights(small, parameters.Stored(epath.Path(warm)), warm, 'float32', 10**9)  # threads, libraries
stored = parameters.Stored(epath.Path(checkpoint))
pathlib.Path('/proc/self/clear_refs').write_text('5')  # the highest so far is forgotten
before = kilobytes('VmRSS')
hugging_face.write_weights(model, stored, out, 'float32', 50_000_000)
print('MEASURED', json.dumps({
  'grown': (kilobytes('VmHWM') - before) * 1024, 'model': 4 * llama.sizes(llama.tensors(model))
}))
"""


def test_a_sharded_checkpoint_is_exported_a_part_at_a_time(tmp_path):
  model = DecoderConfig(**MODEL, vocab_size=8192, tied_embeddings=False)
  small = DecoderConfig(
    embed_dim=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=16, vocab_size=128
  )
  exports.save(tmp_path / 'small', small, exports.random_params(small))
  exports.save(tmp_path / 'run', model, exports.random_params(model), fsdp=8)
  (tmp_path / 'out').mkdir()
  checkpoints = [str(tmp_path / name / 'checkpoints' / '1') for name in ('run', 'small')]
  command = [sys.executable, '-c', MEASURE, json.dumps(MODEL), checkpoints[0], str(tmp_path / 'out'), checkpoints[1]]
  held = os.environ | {'MALLOC_MMAP_THRESHOLD_': '65536'}  # what is freed is given back: held memory is measured
  done = subprocess.run(command, capture_output=True, text=True, check=True, env=held)
  found = json.loads(done.stdout.rpartition('MEASURED')[2])
  print(found)
  assert found['model'] > 160e6
  assert sum(path.stat().st_size for path in (tmp_path / 'out').iterdir()) > found['model']
  assert found['grown'] < 0.35 * found['model']
