"""Makes the report of some model directories and writes it: all of it, or nothing."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Sequence

from ... import UserError
from .. import files
from ..judging import kept
from . import comparing, detail_plots, inference, long_form, page, plots, reading, tables, words
from .comparing import Sweep


def report(model_dirs: Sequence[str], out: str, missing: Sequence[str] = ()) -> str:
  """Writes 'report.html', 'report.md', three CSV files and 'figures/' into `out`; returns the page's path.

  Args:
    model_dirs: trained and judged, in the order in which cells are shown.
    out: a folder, made if there is none; an earlier report there is replaced when this one is whole.
    missing: what the report says is not in it, such as cells that failed.

  Raises:
    UserError: a directory is not trained or not judged or is damaged; the models were asked different questions; or
      the report cannot be written.
  """
  if not model_dirs:
    raise UserError('There is no model to report on; give --model_dir.')
  sweep = comparing.sweep([reading.read(model_dir) for model_dir in model_dirs], missing)
  made = content(sweep)
  written: dict[str, str | bytes] = {'report.md': page.markdown(made)}
  written |= {'report.csv': long_form.figures(sweep), 'comparisons.csv': long_form.comparisons(made.columns)}
  written |= {'curves.csv': long_form.curves(sweep)}
  for plot in made.plots:
    written |= {f'figures/{plot.name}.png': plot.png, f'figures/{plot.name}.pdf': plot.pdf}
  written['report.html'] = page.html(made)  # last: who finds the page finds the rest
  _write(out, written)
  print(page.summary(made))
  for flag in comparing.flags(sweep):
    print(f'note: {flag}')
  where = os.path.join(out, 'report.html')
  print(f'The report is {files.path(out) / "report.html"} (as text: {os.path.join(out, "report.md")}).')
  return where


def sweep_cells(sweep_dir: str) -> tuple[list[str], list[str]]:
  """The trained and judged cells of a sweep's directory, and in words those that are not.

  Raises:
    UserError: there is no such directory, or no cell in it can be reported.
  """
  folder = files.path(sweep_dir)
  try:
    names = sorted(path.name for path in folder.iterdir() if (path / 'cell.json').exists())
  except Exception as error:
    raise UserError(f'{sweep_dir!r} cannot be read: {files.reason(error)}.') from error
  ready, missing = [], []
  for name in names:
    if not (folder / name / 'done.json').exists():
      missing.append(f'{name} (not trained)')
    elif kept.newest(str(folder / name)) is None:
      missing.append(f'{name} (not judged)')
    else:
      ready.append(os.path.join(sweep_dir, name))
  if not ready:
    what = f'; {"; ".join(missing)}' if missing else ''
    raise UserError(f'{sweep_dir!r} holds no trained and judged cell{what}. Run unmask sweep first.')
  return ready, missing


def content(sweep: Sweep) -> page.Content:
  """Counts, tests and draws everything."""
  columns = inference.columns(sweep)
  details = detail_plots.all_of(sweep)
  parts = []
  for name in sweep.parts:
    title = words.part(name)
    drawn = (plots.tests(sweep, columns, name, title), *details.get(name, ()))
    parts.append(page.Part(name, title, tables.results(sweep, columns, name, title), drawn))
  axes = tuple(
    plots.along(sweep, columns, axis, numbers, part)
    for axis, numbers in sweep.numeric_axes().items()
    for part in sweep.parts
  )
  return page.Content(
    sweep, columns, tuple(parts), axes, tuple(detail_plots.curves(sweep, by) for by in ('tokens', 'flops'))
  )


def _write(out: str, written: dict[str, str | bytes]) -> None:
  """All files are written beside their places first, so that a full disk leaves an earlier report as it was."""
  folder = files.path(out)
  if files.is_remote(folder):  # an object appears whole
    for name, data in written.items():
      files.write_atomically(folder / name, data)
    return
  scratch = folder / f'.report-{uuid.uuid4().hex}'
  try:
    for name, data in written.items():
      (scratch / name).parent.mkdir(parents=True, exist_ok=True)
      (scratch / name).write_bytes(data.encode() if isinstance(data, str) else data)
    for name in written:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (scratch / name).replace(folder / name)
  except Exception as error:
    raise UserError(f'The report cannot be written to {out!r}: {files.reason(error)}.') from error
  finally:
    with contextlib.suppress(OSError):
      shutil.rmtree(scratch)
