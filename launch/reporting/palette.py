"""How cells look in every plot: a colour for those who see it, a marker and a dash for those who do not, and for print.

Colours are Okabe and Ito's ("Color Universal Design", 2008; Wong 2011, Nature Methods 8, 441), without their yellow,
which is too pale on paper. Heat maps use cividis, whose lightness rises evenly for every kind of sight (Nunez, Anderton
and Renslow 2018, PLoS ONE 13, e0199239).
"""

from collections.abc import Iterator
from typing import Any

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', 'p', '<', '>', '*')
DASHES = ('-', '--', '-.', ':', (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
HEAT = 'cividis'
INK, GRID, BASELINE = '#1c1c1e', '#dddddd', '#555555'

COLUMN_INCHES, PAGE_INCHES = 3.35, 6.9
"""Widths of one and of both columns of a paper; plots are made for the second."""
SMALL, NORMAL = 8.0, 9.0
"""Points of the smallest letters and of the others, at the width for which a plot is made."""

STYLE: dict[str, Any] = {
  'font.family': 'DejaVu Sans',
  'font.size': SMALL,
  'axes.titlesize': NORMAL,
  'axes.labelsize': SMALL,
  'xtick.labelsize': SMALL,
  'ytick.labelsize': SMALL,
  'legend.fontsize': SMALL,
  'axes.titlelocation': 'left',
  'axes.titleweight': 'bold',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.edgecolor': INK,
  'axes.labelcolor': INK,
  'axes.grid': True,
  'axes.axisbelow': True,
  'grid.color': GRID,
  'grid.linewidth': 0.6,
  'lines.linewidth': 1.3,
  'lines.markersize': 5.0,
  'errorbar.capsize': 2.5,
  'legend.frameon': False,
  'figure.constrained_layout.use': True,
  'svg.hashsalt': 'unmask',
  'svg.fonttype': 'path',
  'pdf.fonttype': 42,
}


def looks(names: list[str]) -> dict[str, dict[str, Any]]:
  """What to give to matplotlib for each name; no two share colour and marker, up to 77 of them."""
  return dict(zip(names, _looks(), strict=False))


def _looks() -> Iterator[dict[str, Any]]:
  number = 0
  while True:
    yield {
      'color': COLOURS[number % len(COLOURS)],
      'marker': MARKERS[number % len(MARKERS)],
      'linestyle': DASHES[number % len(DASHES)],
      'markeredgecolor': INK,
      'markeredgewidth': 0.6,
    }
    number += 1
