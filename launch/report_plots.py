"""The report's plots, as SVG."""

import base64
import io
import math

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from .results import Run, figure, titles

# Okabe and Ito's palette: told apart by colour-blind readers.
COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#7F7F7F', '#332288', '#882255', '#44AA99']
_STYLE = {
  'font.size': 9,
  'font.family': 'sans-serif',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#e5e5e5',
  'grid.linewidth': 0.6,
  'svg.hashsalt': 'unmask',
  'svg.fonttype': 'path',
}


def _image(figure: plt.Figure) -> str:
  """A data URI of the figure, which is then closed."""
  data = io.BytesIO()
  figure.savefig(data, format='svg', metadata={'Date': None})
  plt.close(figure)
  return 'data:image/svg+xml;base64,' + base64.b64encode(data.getvalue()).decode()


def _label(name: str) -> str:
  return name.replace('_', ' ')


def curves(groups: dict[str, list[Run]]) -> str:
  """Each objective's own loss over tokens read, on axes of its own: training thin, held-out marked."""
  columns = min(3, len(groups))
  lines = math.ceil(len(groups) / columns)
  with plt.rc_context(_STYLE):
    page, axes = plt.subplots(lines, columns, figsize=(3.4 * columns, 2.4 * lines), squeeze=False, layout='constrained')
    for axis in axes.flat[len(groups) :]:
      axis.set_visible(False)
    for (name, runs), axis, colour in zip(groups.items(), axes.flat, COLOURS * 9, strict=False):
      for run in runs:
        train = [(row['total_tokens'] / 1e6, row['loss']) for row in run.rows if 'total_tokens' in row]
        held = [(row['eval/total_tokens'] / 1e6, row['eval/loss']) for row in run.rows if 'eval/loss' in row]
        axis.plot(*zip(*train, strict=True), color=colour, alpha=0.35, linewidth=0.9, label='training')
        if held:
          axis.plot(*zip(*held, strict=True), color=colour, marker='o', markersize=2.8, linewidth=1.3, label='held out')
      axis.set_title(_label(name), loc='left', fontsize=10, fontweight='bold')
      axis.set_xlabel('million tokens read')
      axis.set_ylabel('its own loss (nats)')
    handles, labels = axes.flat[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.flat[0].legend(unique.values(), unique.keys(), frameon=False, fontsize=8)
    return _image(page)


def tests(groups: dict[str, list[Run]]) -> str:
  """The judge's losses, a panel a test, with 95% intervals; the dashed line is the unigram baseline."""
  asked = titles(groups)
  names = list(asked)
  with plt.rc_context(_STYLE):
    height = 0.9 + 0.3 * len(groups)
    page, axes = plt.subplots(
      1, len(names), figsize=(2.6 * len(names), height), sharey=True, layout='constrained', squeeze=False
    )
    axes = axes[0]
    for axis, test in zip(axes, names, strict=True):
      for place, ((_, runs), colour) in enumerate(zip(groups.items(), COLOURS * 9, strict=False)):
        value = figure(runs, test, 'loss')
        home = runs[0].evaluation['home'] == test
        axis.errorbar(
          value.mean,
          place,
          xerr=value.half,
          fmt='D' if home else 'o',
          color=colour,
          markersize=6,
          capsize=3,
          elinewidth=1.2,
        )
      base = next(iter(groups.values()))[0].evaluation['tests'][test]['unigram_loss']
      axis.axvline(base, color='#444444', linestyle='--', linewidth=0.9)
      axis.set_title(asked[test], loc='left', fontsize=10, fontweight='bold')
      axis.set_xlabel('nats a token, lower is better')
      axis.grid(axis='y', visible=False)
    axes[0].set_yticks(range(len(groups)), [_label(name) for name in groups])
    axes[0].invert_yaxis()
    return _image(page)
