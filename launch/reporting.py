"""The report: what each model was trained on, what the judge found, at what cost. One HTML page and one Markdown table.

Training losses of different objectives are different quantities: each has axes of its own. Only the judge's figures,
which are about the same held-out tokens, stand side by side.
"""

import os
from collections.abc import Sequence

from .. import UserError
from . import files, report_page, report_plots, results


def report(model_dirs: Sequence[str], out: str) -> str:
  """Writes 'report.html' and 'report.md' into `out`, and says where; returns the page's path.

  Raises:
    UserError: a directory is not trained or not judged, or the models were asked different questions.
  """
  runs = [results.Run.read(model_dir) for model_dir in model_dirs]
  asked = {run.evaluation['asked'] for run in runs}
  if len(asked) > 1:
    raise UserError(
      'These models were asked different questions (another corpus, row length or setting); they cannot be compared.'
    )
  groups = results.group(runs)
  markdown = report_page.markdown(groups)
  page = report_page.page(groups, report_plots.curves(groups), report_plots.tests(groups))
  folder = files.path(out)
  try:
    if not files.is_remote(folder):
      folder.mkdir(parents=True, exist_ok=True)
    for name, text in (('report.md', markdown), ('report.html', page)):
      (folder / name).write_text(text)
  except Exception as error:
    raise UserError(f'The report cannot be written to {out!r}: {files.reason(error)}.') from error
  print(markdown)
  print(f'The report is {folder / "report.html"} (its table: {os.path.join(out, "report.md")}).')
  return os.path.join(out, 'report.html')
