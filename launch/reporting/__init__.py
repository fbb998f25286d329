"""The report: what was run, what the judge found, how sure one can be of it, at what cost.

Words used throughout
  run       one trained and judged model directory.
  cell      the runs that differ in nothing but their seed: a row of the report.
  test      one set of held-out questions; its primary figure is a column of the report.
  item      one question; items of one `cluster` are about the same text, and no independent evidence.

`report` is all that others call. Nothing here asks which objective a run has: what differs between cells is what their
files say.
"""

from .writing import report, sweep_cells

__all__ = ['report', 'sweep_cells']
