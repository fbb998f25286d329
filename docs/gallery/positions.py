"""Where objectives corrupt and what they score, by position in the row, counted over real rows: a figure.

A mask that avoids the ends of a row, or prefers them, is a fault that no average shows.

    python docs/gallery/positions.py --png=docs/images/positions.png
"""

import argparse

import matplotlib
import numpy as np
import unmask
from unmask.tasks.default_text import DefaultText

matplotlib.use('Agg')
from matplotlib import pyplot

LENGTH = 64
OBJECTIVES = {
  'mlm': unmask.objectives.MaskedLM(),
  'pmi_masking': unmask.objectives.PMIMasking(),
  'random_span': unmask.objectives.RandomSpan(),
  'meap': unmask.objectives.MEAP(),
}


def shares(source, objective: unmask.objectives.Objective, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Shares of rows in which each position is corrupted, and supervised, [LENGTH] each; of full rows of one document."""
  corrupted, supervised, rows = np.zeros(LENGTH), np.zeros(LENGTH), 0
  for row in source.corrupted(objective, 'train').as_numpy_iterator():
    if (row['segment_ids'] != 1).any():
      continue
    corrupted += row['corrupted'] > 0
    supervised += row['decoder_loss_weights'] > 0
    rows += 1
    if rows == count:
      break
  return corrupted / rows, supervised / rows


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--png', default='positions.png')
  flags.add_argument('--rows', type=int, default=5000)
  flags.add_argument('--data_dir', default='data')
  options = flags.parse_args()
  corpus = DefaultText(download_dir=f'{options.data_dir}/downloads')
  task = unmask.tasks.TextTask(name='default_text', corpus=corpus, data_dir=options.data_dir)
  lengths = {'targets': LENGTH}
  source = unmask.tasks.Pipeline(mixture_or_task_name='default_text', task_feature_lengths=lengths, task=task).open()
  figure, axes = pyplot.subplots(1, len(OBJECTIVES), figsize=(12, 2.6), sharey=True, layout='constrained')
  for axis, (name, objective) in zip(axes, OBJECTIVES.items(), strict=True):
    corrupted, supervised = shares(source, objective, options.rows)
    axis.plot(supervised, color='#0072B2', label='scored', drawstyle='steps-mid')
    axis.plot(corrupted, color='#D55E00', label='corrupted', drawstyle='steps-mid')
    axis.axhline(0.15, color='0.6', linewidth=0.8, linestyle='--')
    axis.set(title=name, xlabel='position in the row')
    inner = corrupted[1:-1]  # of a full row the first token is <s>, and MEAP keeps the last
    print(f'{name:12} corrupted {corrupted.mean():.4f}, by position {inner.min():.3f} to {inner.max():.3f}')
  axes[0].set_ylabel(f'share of {options.rows:,} rows')
  axes[0].legend(frameon=False)
  figure.savefig(options.png, dpi=160)


if __name__ == '__main__':
  main()
