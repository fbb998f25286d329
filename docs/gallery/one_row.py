"""The same row of text under six objectives, as a picture: what each reads, what it must predict.

python docs/gallery/one_row.py --svg=docs/images/one_row.svg --row=8
"""

import argparse

import rich.console
import unmask
from unmask.launch import inspection
from unmask.tasks.default_text import DefaultText

OBJECTIVES = {
  'next_token': unmask.objectives.NextToken(),
  'causal_masked': unmask.objectives.CausalMasked(spans_per_row=4),
  'mlm': unmask.objectives.MaskedLM(),
  'pmi_masking': unmask.objectives.PMIMasking(),
  'salient_span': unmask.objectives.SalientSpan(),
  'meap': unmask.objectives.MEAP(),
}


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--svg', help='also draw it into this file')
  flags.add_argument(
    '--row', type=int, default=8, help='which of the rows with a name or a date, in the order of training'
  )
  flags.add_argument('--tokens', type=int, default=40, help='of the row')
  flags.add_argument('--data_dir', default='data')
  options = flags.parse_args()

  corpus = DefaultText(download_dir=f'{options.data_dir}/downloads')
  task = unmask.tasks.TextTask(name='default_text', corpus=corpus, data_dir=options.data_dir)
  source = unmask.tasks.Pipeline(
    mixture_or_task_name='default_text', task_feature_lengths={'targets': options.tokens}, task=task
  ).open()
  # All read the same rows in the same order, but salient-span masking leaves out those without a name or a date.
  named = source.corrupted(OBJECTIVES['salient_span'], 'train').skip(options.row)
  number = next(named.as_numpy_iterator())['example_id']
  console = rich.console.Console(width=118, highlight=False, record=True)
  for name, objective in OBJECTIVES.items():
    rows = source.corrupted(objective, 'train').filter(lambda row: row['example_id'] == number)
    row = next(rows.as_numpy_iterator())
    sees = 'the past' if objective.attention.kind == 'causal' else 'both sides'
    console.print(f'\n[bold underline]{name}[/] sees {sees}')
    for part in (inspection.reads(source, row), inspection.predicts(source, row)):
      console.print(part[: part.plain.index('\n')])
  if options.svg:
    inspection.draw(console, 'one row, six objectives', options.svg)


if __name__ == '__main__':
  main()
