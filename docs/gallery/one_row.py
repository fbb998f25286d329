"""The same row of text under six objectives, or the rest of the family: what each reads, what it must predict.

python docs/gallery/one_row.py --svg=docs/images/one_row.svg --row=8
python docs/gallery/one_row.py --svg=docs/images/family.svg --row=8 --family
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
FAMILY = {
  'random_span': unmask.objectives.RandomSpan(),
  'mntp': unmask.objectives.MaskedLM(shifted=True, rate=0.2, mask_prob=1.0, random_prob=0.0),
  'salient_text_to_text': unmask.objectives.SalientTextToText(spans_per_row=4),
  'prefix_lm': unmask.objectives.PrefixLM(),
  'span_corruption': unmask.objectives.SpanCorruption(),
  'budgeted_spans': unmask.objectives.BudgetedSpans(),
  'fill_in_the_middle': unmask.objectives.FillInTheMiddle(rate=1.0),
  'bottleneck': unmask.objectives.Bottleneck(rate=1.0),
  'forgetful_causal': unmask.objectives.ForgetfulCausal(),
  'masked_diffusion': unmask.objectives.MaskedDiffusion(),
  'electra, before its generator': unmask.objectives.Electra(),
  'ernie_gram': unmask.objectives.ERNIEGram(rate=0.3),
  'dup_mae': unmask.objectives.DupMAE(),
  'noise_mixture, masked': unmask.objectives.NoiseStrategies(),
  'noise_mixture, replaced': unmask.objectives.TokenReplacement(rate=0.3),
}


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--svg', help='also draw it into this file')
  flags.add_argument(
    '--row', type=int, default=8, help='which of the rows with a name or a date, in the order of training'
  )
  flags.add_argument('--tokens', type=int, default=40, help='of the row')
  flags.add_argument('--family', action='store_true', help='the other objectives')
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
  for name, objective in (FAMILY if options.family else OBJECTIVES).items():
    rows = source.corrupted(objective, 'train').filter(lambda row: row['example_id'] == number)
    row = next(rows.as_numpy_iterator())
    console.print(f'\n[bold underline]{name}[/] sees {_sees(objective)}')
    for part in (inspection.reads(source, row), inspection.predicts(source, row)):
      console.print(part[: part.plain.index('\n')])
  if options.svg:
    inspection.draw(console, 'one row, the family' if options.family else 'one row, six objectives', options.svg)


def _sees(objective: unmask.objectives.Objective) -> str:
  rule = objective.attention
  if rule.levels:
    return 'both sides in a prefix, the past behind it'
  seen = 'the past' if rule.ordered else 'both sides'
  return seen if rule.table is None else f'{seen}, but for what is hidden'


if __name__ == '__main__':
  main()
