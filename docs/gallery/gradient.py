"""From text files to a falling loss without gin: the same rows, decoder and update under two objectives.

python docs/gallery/gradient.py 'docs/*.md'
"""

import argparse
import itertools
import tempfile

import jax
import unmask
from unmask.launch import mesh, optimizers, state, step
from unmask.models.config import DecoderConfig
from unmask.models.decoder import Decoder

LENGTH, BATCH = 128, 16
SMALL = DecoderConfig(embed_dim=64, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=32, mlp_dim=192, scan_unroll=2)


def train(objective: unmask.objectives.Objective, source, steps: int) -> list[float]:
  """The loss of each update."""
  decoder = Decoder(SMALL.with_vocabulary(source.vocabulary.vocab_size))
  optimizer = optimizers.Optimizer(schedule=optimizers.Schedule(peak=1e-2, warmup_steps=5)).build(steps)
  scoring = step.Scoring(objective, objective.max_supervised(LENGTH))
  devices = mesh.MeshConfig().build()
  losses = []
  with mesh.context(devices):
    current = state.create(decoder, optimizer, devices, seed=0)
    update = jax.jit(step.make_train_step(decoder, scoring, optimizer), donate_argnums=0)
    for batch in itertools.islice(source.batches(objective, BATCH), steps):
      current, metrics = update(current, mesh.put_batch(devices, batch), True)
      losses.append(float(metrics['loss']))
  return losses


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('pattern', help='of text files')
  flags.add_argument('--steps', type=int, default=60)
  options = flags.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    corpus = unmask.tasks.LocalText(pattern=options.pattern)
    task = unmask.tasks.TextTask(name='files', corpus=corpus, data_dir=folder, vocabulary_size=None)  # bytes
    lengths = {'targets': LENGTH}
    source = unmask.tasks.Pipeline(mixture_or_task_name='files', task_feature_lengths=lengths, task=task).open()
    for name, objective in {'next_token': unmask.objectives.NextToken(), 'mlm': unmask.objectives.MaskedLM()}.items():
      losses = train(objective, source, options.steps)
      told = ', '.join(
        f'{number}: {losses[number - 1]:.3f}' for number in range(1, options.steps + 1, options.steps // 6)
      )
      print(f'{name:12} {told}, {options.steps}: {losses[-1]:.3f}')


if __name__ == '__main__':
  main()
