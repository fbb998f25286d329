"""What each part of a mixture really got: its share of rows, tokens and scored positions since the run began.

A part's counts are metrics named 'part/rows', 'part/tokens' and 'part/scored': of the objectives of a mixture by their
names, of the corpora of one as 'corpus/NAME/tokens'.
"""

from collections.abc import Mapping

_COUNTS = ('rows', 'tokens', 'scored')


class Shares:
  """Counts of all updates so far.

  Attributes:
    totals: by name of the metric.
  """

  def __init__(self, totals: Mapping[str, float]):
    """Goes on from the totals of a checkpoint, or from none."""
    self.totals = dict(totals)

  def count(self, values: Mapping[str, float]) -> None:
    """Adds an update's counts."""
    for name in values:
      if _is_count(name):
        self.totals[name] = self.totals.get(name, 0.0) + values[name]

  def shown(self, values: Mapping[str, float]) -> dict[str, float]:
    """An update's metrics with each part's share so far beside its counts.

    Means over nothing are left out: those of a part that scored nothing in this update.
    """
    idle = {name.rpartition('/')[0] for name, value in values.items() if name.endswith('/scored') and not value}
    shown = {name: value for name, value in values.items() if _is_count(name) or name.partition('/')[0] not in idle}
    for name in values:
      if _is_count(name):
        part, _, what = name.rpartition('/')
        of = sum(total for other, total in self.totals.items() if _alike(name, other))
        shown[f'{part}/share_of_{what}'] = self.totals[name] / max(1.0, of)
    return shown


def _is_count(name: str) -> bool:
  return '/' in name and name.rpartition('/')[2] in _COUNTS


def _alike(name: str, other: str) -> bool:
  """Whether two counts are of parts of the same whole: the same thing counted, of corpora or of objectives."""
  is_corpus = [one.startswith('corpus/') for one in (name, other)]
  return is_corpus[0] == is_corpus[1] and name.rpartition('/')[2] == other.rpartition('/')[2]
