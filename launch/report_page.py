"""The report's text: a Markdown table and a self-contained HTML page."""

import html
import math

from .results import Run, best, figure, titles

_STYLE = """
:root { color-scheme: light; --ink: #1c1c1e; --dim: #6b6b70; --line: #e3e3e6; --best: #e8f4ea; }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); margin: 2.5rem auto; padding: 0 1.2rem }
body { max-width: 1120px }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem }
p { max-width: 62rem } .dim { color: var(--dim) } img { max-width: 100%; display: block; margin: .6rem 0 }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .38rem .6rem; border-bottom: 1px solid var(--line); text-align: right }
th, td { white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; vertical-align: bottom }
tr.base td { color: var(--dim) } td.best { background: var(--best); font-weight: 600 }
.home { color: #888; margin-left: .25em }
td .more { display: block; color: var(--dim); font-size: .82em; font-weight: 400 }
pre { background: #f7f7f8; padding: .8rem; overflow-x: auto; font-size: .8rem }
summary { cursor: pointer; padding: .25rem 0 }
"""


def _costs(runs: list[Run]) -> dict[str, float]:
  """Means over seeds of what a run read, supervised and took."""
  count = len(runs)
  total = lambda key: sum(run.done[key] for run in runs) / count
  flops = sum(run.done['train_flops'] for run in runs) / count
  return {
    'read': total('tokens_read'),
    'supervised': total('tokens_supervised'),
    'rate': total('tokens_per_second'),
    'flops': flops,
    'seconds': total('train_seconds'),
    'mfu': sum(run.done.get('mfu', float('nan')) for run in runs) / count,
  }


def markdown(groups: dict[str, list[Run]]) -> str:
  """One table: losses with 95% intervals, exact matches, costs."""
  tests = titles(groups)
  head = ['objective', 'sees', *[f'{title}: loss / exact' for title in tests.values()]]
  head += ['text tokens read', 'tokens supervised', 'tokens/s', 'model TFLOPs']
  lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
  lowest = {test: best(groups, test)[1] for test in tests}
  for name, runs in groups.items():
    cells = [name, runs[0].evaluation['sees']]
    for test in tests:
      loss = figure(runs, test, 'loss').text()
      exact = figure(runs, test, 'exact').text(100, 1)
      mark = '**' if name in lowest[test] else ''
      home = ' ◆' if runs[0].evaluation['home'] == test else ''
      cells.append(f'{mark}{loss}{mark}{home} / {exact} %')
    cost = _costs(runs)
    cells += [
      f'{cost["read"]:,.0f}',
      f'{cost["supervised"]:,.0f}',
      f'{cost["rate"]:,.0f}',
      f'{cost["flops"] / 1e12:,.1f}',
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  first = next(iter(groups.values()))[0].evaluation['tests']
  base = [f'{first[test]["unigram_loss"]:.2f} / –' for test in tests]
  lines.append('| ' + ' | '.join(['unigram baseline', 'nothing', *base, '', '', '', '']) + ' |')
  return '\n'.join(
    [*lines, '', f'Losses in nats a token with 95 % intervals {_intervals(groups)}. ◆ what the objective trains.', '']
  )


def _intervals(groups: dict[str, list[Run]]) -> str:
  seeds = {len(runs) for runs in groups.values()}
  if seeds == {1}:
    return 'over questions; one seed a cell, so differences between training runs are not in them'
  return f'over {"/".join(map(str, sorted(seeds)))} seeds'


def html_table(groups: dict[str, list[Run]]) -> str:
  """The judge's table."""
  tests = titles(groups)
  lowest = {test: best(groups, test)[1] for test in tests}
  rows = [f'<tr><th>objective</th><th>sees</th>{"".join(f"<th>{title}</th>" for title in tests.values())}</tr>']
  for name, runs in groups.items():
    cells = [f'<td>{html.escape(name)}</td><td>{runs[0].evaluation["sees"]}</td>']
    for test in tests:
      best_here = ' class="best"' if name in lowest[test] else ''
      home = '<span class="home">◆</span>' if runs[0].evaluation['home'] == test else ''
      more = f'exact {figure(runs, test, "exact").text(100, 1)} %'
      top = f'tokens {100 * figure(runs, test, "token_top1").mean:.1f} %'
      loss = figure(runs, test, 'loss').text()
      cells.append(f'<td{best_here}>{loss}{home}<span class="more">{more}</span><span class="more">{top}</span></td>')
    rows.append(f'<tr>{"".join(cells)}</tr>')
  first = next(iter(groups.values()))[0].evaluation['tests']
  base = ''.join(f'<td>{first[test]["unigram_loss"]:.2f}</td>' for test in tests)
  rows.append(f'<tr class="base"><td>unigram baseline</td><td>nothing</td>{base}</tr>')
  return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _cost_table(groups: dict[str, list[Run]]) -> str:
  head = [
    'objective',
    'text tokens read',
    'supervised',
    'a token read',
    'corrupted',
    'padding',
    'model TFLOPs',
    'tokens/s',
    'MFU',
    'training',
  ]
  rows = ['<tr>' + ''.join(f'<th>{h}</th>' for h in head) + '</tr>']
  for name, runs in groups.items():
    cost, real = _costs(runs), runs[0].realised
    cells = [
      html.escape(name),
      f'{cost["read"]:,.0f}',
      f'{cost["supervised"]:,.0f}',
      f'{cost["supervised"] / max(1, cost["read"]):.3f}',
      f'{real["corrupted"]:.3f}',
      f'{real["padding"]:.3f}',
      f'{cost["flops"] / 1e12:,.1f}',
      f'{cost["rate"]:,.0f}',
      '–' if math.isnan(cost['mfu']) else f'{cost["mfu"]:.0%}',
      f'{cost["seconds"]:,.0f} s',
    ]
    rows.append('<tr>' + ''.join(f'<td>{cell}</td>' for cell in cells) + '</tr>')
  return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def html_page(title: str, body: str) -> str:
  """A page that needs nothing else."""
  return (
    f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f'<title>{title}</title><style>{_STYLE}</style></head><body>{body}</body></html>'
  )


def _conclusions(groups: dict[str, list[Run]]) -> str:
  """One sentence a test: who is best, or who cannot be told apart."""
  items = []
  for test, title in titles(groups).items():
    first, near = best(groups, test)
    loss = figure(groups[first], test, 'loss')
    base = groups[first][0].evaluation['tests'][test]['unigram_loss']
    others = sorted(near - {first})
    tie = f', not told apart from {", ".join(others)} on the same questions' if others else ''
    gain = base - loss.mean
    items.append(
      f'<li><b>{title}:</b> {html.escape(first)} at {loss.text()} nats a token, '
      f'{abs(gain):.2f} {"below" if gain > 0 else "above"} the unigram baseline{tie}.</li>'
    )
  return f'<ul>{"".join(items)}</ul>'


def _order(groups: dict[str, list[Run]]) -> str:
  """Who read what in which order."""
  drops = {name: runs[0].realised['rows_dropped'] for name, runs in groups.items() if runs[0].realised['rows_dropped']}
  if not drops:
    return 'Every model read the same rows in the same order'
  less = ', '.join(f'{html.escape(name)} ({share:.0%} of them)' for name, share in drops.items())
  return f'Every model read the same rows in the same order, without those that hold no example of its own: {less}'


def html_body(groups: dict[str, list[Run]], curves: str, tests: str) -> str:
  """The page's content."""
  runs = [run for group in groups.values() for run in group]
  model = runs[0].model
  shape = (
    f'{model["num_layers"]} layers of {model["embed_dim"]}, {model["num_heads"]} heads, MLP {model["mlp_dim"]}, '
    f'{model["vocab_size"]:,} ids, {runs[0].done["parameters"]:,} parameters'
  )
  questions = runs[0].evaluation['questions']
  counts = runs[0].evaluation['tests']
  asked = ', '.join(f'{titles(groups)[name].lower()} {test["gaps"]:,} gaps' for name, test in counts.items())
  configs = ''.join(
    f'<details><summary>{html.escape(run.model_dir)}</summary><pre>{html.escape(run.operative)}</pre></details>'
    for run in runs
  )
  return f"""
<h1>One decoder, {len(groups)} objectives</h1>
<p class="dim">{shape}. {_order(groups)}, and answered the same held-out questions (seed
{questions['seed']}: {asked}).</p>
<h2>What the judge found</h2>{_conclusions(groups)}
{html_table(groups)}
<p class="dim">Loss in nats a token with 95 % intervals {_intervals(groups)}; below it the share of gaps that greedy
decoding fills exactly, and of tokens. Green: lowest, or not to be told apart from it by the difference on the same
questions. ◆ what the objective trains. Each model answers through its own scorer: a left-to-right model sees only what
stands before a gap, a masked model sees both sides with all gaps hidden, a causal-masked model sees both sides of one
gap at a time and, unlike a masked one, is not told how long it is. So a row says what a model can do, and a column what
the task needs.</p>
<img src="{tests}" alt="Losses of each test with intervals; dashed: unigram; diamonds: what the objective trains">
<h2>What it cost</h2>{_cost_table(groups)}
<p class="dim">Text tokens are those of the corpus's rows, without the ids that an objective adds; model FLOPs are 6 a
parameter and position plus attention, causal attention counted half, the output head only where something is scored,
and nothing for padding; MFU is their rate over the devices' peak, of which a CPU's is measured.</p>
<h2>How each learned</h2> <p class="dim">Training losses of different objectives are different quantities, so each has
axes of its own: do not compare them.</p> <img src="{curves}" alt="Training and held-out loss of each objective, on
axes of their own"> <h2>Configurations</h2>{configs}
"""


def page(groups: dict[str, list[Run]], curves: str, tests: str) -> str:
  """The whole report."""
  return html_page('unmask report', html_body(groups, curves, tests))
