"""The report as files: a page that stands alone and is sound HTML, Markdown, CSV and figures that say the same."""

import base64
import csv
import io
import itertools
import json
import re
import shutil
import warnings
import xml.etree.ElementTree

import numpy as np
import pytest
import report_cells
from matplotlib import colors
from PIL import Image
from unmask.launch import cli, reporting
from unmask.launch.reporting import palette, reading, tables

with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  import html5lib

CELLS = {
  'mlm': {'skill': 0.0, 'home': 'masked', 'sees': 'left and right'},
  'meap': {'skill': 0.8},
  'causal_masked': {'skill': 0.05, 'home': 'infill', 'sees': 'left and right'},
}
RATES = {
  f'mlm-rate{rate}': {'skill': float(rate), 'axes': {'objective': 'mlm', 'rate': rate}}
  for rate in ('0.15', '0.30', '0.40')
}
FEW = ('left_to_right', 'key_value')
FIGURES = {
  *(f'tests-{part}' for part in ('held_out', 'infill', 'cloze', 'retrieval', 'grammar', 'tracking', 'probes')),
  *('heat-key_value', 'phenomenon-blimp', 'moves-entity_tracking', 'learning_rate-probe_topic', 'infill-length'),
  *('curves-tokens', 'curves-flops'),
}  # fmt: skip


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  reporting.report(report_cells.write(folder / 'cells', CELLS), str(folder / 'out'))
  return folder / 'out'


def _parsed(page):
  """The page's tree; any error against the HTML standard is raised."""
  parser = html5lib.HTMLParser(html5lib.getTreeBuilder('etree'), strict=True, namespaceHTMLElements=False)
  return parser.parse(page.read_text())


def _text(element) -> str:
  return ' '.join(''.join(element.itertext()).split())


def test_the_page_is_sound_and_stands_alone(made):
  page = (made / 'report.html').read_text()
  tree = _parsed(made / 'report.html')
  ids = [element.get('id') for element in tree.iter() if element.get('id')]
  assert len(ids) == len(set(ids))
  links = [element.get('href') for element in tree.iter('a')]
  assert links
  assert {link.removeprefix('#') for link in links} <= set(ids), 'a link leads nowhere, or out of the page'
  assert not list(tree.iter('script'))
  assert {element.get('href') for element in tree.iter('link')} == {'data:,'}
  assert 'http' not in re.sub(r'base64,[A-Za-z0-9+/=]+', '', page), 'the page needs the network'
  assert 'url(' not in page
  assert '@import' not in page


def test_every_figure_is_there_and_has_a_size_and_a_name(made):
  images = list(_parsed(made / 'report.html').iter('img'))
  names = set()
  for image in images:
    kind, data = image.get('src').split(',', 1)
    assert kind == 'data:image/svg+xml;base64'
    drawn = xml.etree.ElementTree.fromstring(base64.b64decode(data))
    width, height = (float(number) for number in drawn.get('viewBox').split()[2:])
    assert width / height == pytest.approx(int(image.get('width')) / int(image.get('height')), rel=0.01)
    assert sum(1 for _ in drawn.iter()) > 30, 'an empty drawing'
    assert len(image.get('alt')) > 30
  names = {figure.get('id') for figure in _parsed(made / 'report.html').iter('figure')}
  assert names == FIGURES
  assert {path.stem for path in (made / 'figures').glob('*.png')} == FIGURES
  assert {path.stem for path in (made / 'figures').glob('*.pdf')} == FIGURES
  for path in (made / 'figures').glob('*.png'):
    with Image.open(path) as image:
      assert image.width == round(palette.PAGE_INCHES * 300)
      assert len(np.unique(np.asarray(image.convert('L')))) > 10, f'{path.name} is blank'
  for path in (made / 'figures').glob('*.pdf'):
    assert path.read_bytes().startswith(b'%PDF-')


def test_the_page_says_what_it_must(made):
  tree = _parsed(made / 'report.html')
  sections = {element.get('id'): _text(element) for element in tree.iter('section')}
  assert set(sections) == {
    *('findings', 'run', 'results', 'curves', 'cost', 'threats', 'statistics', 'configurations'),
  }
  assert 'meap is best' in sections['findings']
  for fact in ('default_text-1', '512 ids', '2 layers of 32', '20,000 tokens a run', '0, 1 and 2',
               '0.003, shared by choice', 'some processor', 'jax 0.10.2', '2026-11-22', '120'):  # fmt: skip
    assert fact in sections['run'], fact
  for word in ('Holm', 'Shaffer', 'Student', 'bootstrap', 'paired t-test'):
    assert word in sections['statistics'], word
  for head in (
    'Seeds',
    'Scale',
    'Learning rate',
    'What a model may see',
    'Home tests',
    'Generated tests',
    'Many tests',
  ):
    assert head in sections['threats'], head
  for head in ('tokens read', 'supervised', 'model TFLOPs', 'seconds', 'tokens/s', 'MFU', '0.148 (0.150)'):
    assert head in sections['cost'], head
  assert sections['configurations'].count('LEARNING_RATE = 0.003') == 9, 'a configuration is missing'
  assert "MODEL_DIR = '<mlm> & seed 0'" in sections['configurations'], 'not escaped'


def test_only_what_is_told_apart_is_marked(made):
  rows = list(_parsed(made / 'report.html').iter('tr'))
  best = [td for tr in rows for td in tr.iter('td') if td.get('class') == 'best' and '±' in _text(td)]
  heads = [_text(next(tr.iter('th'))) for tr in rows for td in tr.iter('td') if td in best]
  assert set(heads) == {'meap'}
  assert len(best) == 9, 'meap is 0.75 nats ahead in each of nine tests'
  assert all('▲' in _text(td) for td in best), 'the mark is in colour alone'


def test_markdown_says_the_same_as_the_page(made):
  markdown = (made / 'report.md').read_text()
  tree = _parsed(made / 'report.html')
  for element in itertools.chain(tree.iter('dd'), tree.iter('h2')):
    assert _text(element) in ' '.join(markdown.split()) or _text(element) == 'Configurations'
  figures = re.findall(r'\]\((figures/[^)]+)\)', markdown)
  assert {name.removeprefix('figures/').removesuffix('.png') for name in figures} == FIGURES
  assert all((made / name).exists() for name in figures)
  assert '| **' in markdown
  assert '| mlm |' in markdown


def test_the_csv_holds_every_figure_of_every_run(made):
  rows = list(csv.DictReader(io.StringIO((made / 'report.csv').read_text())))
  assert set(rows[0]) == {'cell', 'objective', 'seed', 'test', 'grouping', 'group', 'figure', 'value', 'se'}
  assert {(row['cell'], row['seed']) for row in rows} == {(cell, str(seed)) for cell in CELLS for seed in range(3)}
  run = reading.read(str(made.parent / 'cells' / 'meap-seed2'))
  found = {(row['test'], row['grouping'], row['group'], row['figure']): row for row in rows
           if (row['cell'], row['seed']) == ('meap', '2')}  # fmt: skip
  for name, test in run.tests.items():
    for figure, value in test.figures.items():
      if not figure.endswith('_se'):
        assert float(found[name, '', '', figure]['value']) == value
    for grouping, groups in test.groups.items():
      for group, figures in groups.items():
        assert float(found[name, grouping, group, 'accuracy']['value']) == figures['accuracy']
        assert float(found[name, grouping, group, 'accuracy']['se']) == figures['accuracy_se']
  assert float(found['cost', '', '', 'tokens_per_second']['value']) == 5200
  assert float(found['realised', 'configured', '', 'corrupted']['value']) == 0.15
  pairs = list(csv.DictReader(io.StringIO((made / 'comparisons.csv').read_text())))
  assert len(pairs) == 9 * 3
  assert {row['found'] for row in pairs if 'meap' in (row['first'], row['second'])} == {'1'}
  curves = list(csv.DictReader(io.StringIO((made / 'curves.csv').read_text())))
  assert sum(row['split'] == 'held_out' for row in curves) == 9 * 4


def test_the_same_runs_give_the_same_report(made, tmp_path):
  cells = [str(made.parent / 'cells' / f'{cell}-seed{seed}') for cell in CELLS for seed in range(3)]
  reporting.report(cells, str(tmp_path))
  for path in made.rglob('*'):
    if path.is_file():
      assert path.read_bytes() == (tmp_path / path.relative_to(made)).read_bytes(), path.name


def test_one_seed_has_no_interval_and_it_says_why(tmp_path):
  reporting.report(report_cells.write(tmp_path / 'cells', CELLS, seeds=1, asked=FEW), str(tmp_path))
  tree = _parsed(tmp_path / 'report.html')
  flags = next(_text(element) for element in tree.iter('section') if element.get('id') == 'flags')
  assert 'one seed only, so intervals over seeds are not shown' in flags
  cells = [
    _text(td) for table in tree.iter('table') if table.get('id', '').startswith('results-') for td in table.iter('td')
  ]
  assert not [text for text in cells if '±' in text]
  assert 'eans over seeds' not in _text(tree)
  assert any('questions 5.' in text for text in cells)
  assert not list(tree.iterfind('.//td[@class="best"]/..[@class="results"]'))
  assert '▲' not in (tmp_path / 'report.md').read_text()
  assert '△' in (tmp_path / 'report.md').read_text()


def test_two_seeds_are_too_few_to_test(tmp_path):
  reporting.report(report_cells.write(tmp_path / 'cells', CELLS, seeds=2, asked=FEW), str(tmp_path))
  said = (tmp_path / 'report.md').read_text()
  assert 'Two seeds' in said
  assert '±' in said
  assert not re.search('[▲△≈]', said)
  assert 'too few seeds' in said


def test_a_numeric_axis_is_drawn(tmp_path):
  reporting.report(report_cells.write(tmp_path / 'cells', RATES, seeds=3, asked=FEW), str(tmp_path))
  drawn = {path.stem for path in (tmp_path / 'figures').glob('axis-*.png')}
  assert drawn == {'axis-rate-held_out', 'axis-rate-retrieval'}
  assert 'axes: objective (mlm); rate (0.15, 0.30, 0.40)' in (tmp_path / 'report.md').read_text()


def test_a_sweep_directory_is_reported_as_far_as_it_is(tmp_path, capsys):
  made = report_cells.write(tmp_path / 'sweep', CELLS, seeds=3, asked=FEW)
  (tmp_path / 'sweep' / 'tuning').mkdir()
  shutil.rmtree(f'{made[0]}/evaluation')
  (tmp_path / 'sweep' / 'mlm-seed1' / 'done.json').unlink()
  assert cli.main(['report', f'--sweep_dir={tmp_path / "sweep"}']) == 0
  said = capsys.readouterr().out
  assert 'mlm-seed0 (not judged)' in said
  assert 'mlm-seed1 (not trained)' in said
  assert '2 cells are not in this report' in (tmp_path / 'sweep' / 'report.html').read_text()
  runs = {
    row['cell'] + row['seed'] for row in csv.DictReader(io.StringIO((tmp_path / 'sweep' / 'report.csv').read_text()))
  }
  assert runs == {'mlm2', *(f'{cell}{seed}' for cell in ('meap', 'causal_masked') for seed in range(3))}


def test_what_a_cell_was_not_asked_is_one_sentence(tmp_path):
  dirs = report_cells.write(tmp_path / 'cells', {'meap': {}}, seeds=1, asked=(*FEW, 'entity_tracking'))
  dirs += report_cells.write(tmp_path / 'cells', {'mlm': {}}, seeds=1, asked=FEW)
  dirs += report_cells.write(tmp_path / 'cells', {'electra': {}}, seeds=1, asked=('entity_tracking',))
  reporting.report(dirs, str(tmp_path))
  said = [line for line in (tmp_path / 'report.md').read_text().splitlines() if 'not asked of' in line]
  assert [line.lstrip('- ') for line in said] == [
    'Left to right; Key-value retrieval were not asked of electra.',
    'Entity tracking was not asked of mlm.',
  ]


def test_what_differs_is_flagged(tmp_path):
  other = {
    'model.json': {'num_layers': 3, 'corpus': 'other_text', 'vocabulary': 'xyz', 'text_length': 64, 'batch_size': 4},
    'cell.json': {'budget': {'unit': 'tokens', 'amount': 40000}, 'learning_rate': {'value': 0.1, 'how': 'tuned'}},
    'realised.json': {'rows_dropped': 0.25},
  }
  dirs = report_cells.write(tmp_path / 'cells', {'mlm': {}, 'meap': {'files': other}}, seeds=2, asked=FEW)
  judged = tmp_path / 'cells' / 'meap-seed0' / 'evaluation' / '20.json'
  facts = json.loads(judged.read_text())
  facts['tests']['key_value']['overlap'] = 0.125
  judged.write_text(json.dumps(facts))
  with open(f'{dirs[0]}/metrics.jsonl', 'a') as file:
    file.write('{"step": 30, "loss": 5.0, "total_tokens": 30000.0}\n')
  reporting.report(dirs, str(tmp_path))
  tree = _parsed(tmp_path / 'report.html')
  flags = next(_text(element) for element in tree.iter('section') if element.get('id') == 'flags')
  for sign in ('not of one shape', '3 layers', 'different corpora', 'other_text', 'different vocabularies',
               'different lengths', 'different batch sizes', 'different budgets', 'found in different ways',
               'Key-value retrieval 12.5%', 'judged at update 20 and trained to 30'):  # fmt: skip
    assert sign in flags, sign
  assert 'meap (25%)' in _text(tree)


def _linear(colour: str) -> np.ndarray:
  channels = np.array(colors.to_rgb(colour))
  return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
  """CIE Lab, D65."""
  to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
  ratio = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
  f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, IEEE TVCG 15, 1291: severity 1, on linear RGB.
SIGHT = {
  'everyone': np.eye(3),
  'protanopia': np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
  ),
  'deuteranopia': np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
  ),
  'tritanopia': np.array(
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
  ),
}


@pytest.mark.parametrize('sight', SIGHT)
def test_colours_are_told_apart_by_every_kind_of_sight(sight):
  seen = {colour: _lab(SIGHT[sight] @ _linear(colour)) for colour in palette.COLOURS}
  least = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
  assert min(least.values()) > (15 if sight != 'tritanopia' else 10), min(least, key=least.get)


def test_without_colour_cells_are_told_apart_by_marker_and_dash():
  looks = list(palette.looks([str(number) for number in range(11)]).values())
  assert len({look['marker'] for look in looks}) == 11
  many = palette.looks([str(number) for number in range(77)]).values()
  assert len({(look['color'], look['marker']) for look in many}) == 77
  assert all(look['markeredgecolor'] == palette.INK for look in looks), 'pale colours need an edge on white'
  assert _lab(_linear(palette.INK))[0] < 20


def test_heat_maps_rise_evenly_in_grey():
  import matplotlib

  grey = np.array(
    [_lab(_linear(colors.to_hex(colour)))[0] for colour in matplotlib.colormaps[palette.HEAT](np.linspace(0, 1, 64))]
  )
  assert (np.diff(grey) > 0).all()
  assert grey[-1] - grey[0] > 60


def test_letters_are_large_enough_at_a_papers_width(made):
  sizes = [value for name, value in palette.STYLE.items() if name.endswith('size') and name != 'lines.markersize' and
           name != 'errorbar.capsize']  # fmt: skip
  assert min(sizes) >= 8
  assert palette.PAGE_INCHES <= 7.0
  for image in _parsed(made / 'report.html').iter('img'):
    drawn = xml.etree.ElementTree.fromstring(base64.b64decode(image.get('src').split(',', 1)[1]))
    assert drawn.get('width') == f'{palette.PAGE_INCHES * 72:g}pt'


def test_marks_have_symbols_and_words():
  from unmask.launch.reporting import page

  assert set(tables.SYMBOLS) == set(page.LEGEND)
  assert all(tables.SYMBOLS.values())
