"""The report in headless Chromium: quiet, whole, as wide as its window, with names for who cannot see it."""

import io

import browser
import numpy as np
import pytest
import report_cells
from PIL import Image
from unmask.launch import reporting

CELLS = {
  'mlm': {'home': 'masked', 'sees': 'left and right'},
  'meap': {'skill': 0.8},
  'a_cell_with_a_long_name-rate0.15-selection_pmi': {'skill': 0.1},
}
IMAGES = """[...document.images].map(i => ({
  name: i.closest('figure').id, complete: i.complete, natural: [i.naturalWidth, i.naturalHeight],
  shown: [i.getBoundingClientRect().width, i.getBoundingClientRect().height]}))"""
WIDER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope='module')
def address(tmp_path_factory) -> str:
  folder = tmp_path_factory.mktemp('report')
  reporting.report(report_cells.write(folder / 'cells', CELLS, seeds=3), str(folder))
  return (folder / 'report.html').as_uri()


@pytest.fixture(scope='module')
def tab():
  with browser.browser() as opened:
    yield opened


@pytest.mark.parametrize('scripts', [True, False])
@pytest.mark.parametrize('width', [1280, 400])
def test_the_page_is_quiet_whole_and_no_wider_than_its_window(address, tab, width, scripts):
  tab.open(address, width, scripts)
  assert tab.complaints == []
  assert {request for request in tab.requests if request != 'about:blank'} == {address}
  images = tab.value(IMAGES)
  assert len(images) == 14
  for image in images:
    assert image['complete'], image['name']
    assert min(image['natural']) > 50, image['name']
    assert image['shown'][0] >= min(560, width), image['name']
    assert image['shown'][0] / image['shown'][1] == pytest.approx(image['natural'][0] / image['natural'][1], rel=0.02)
  assert tab.value('document.documentElement.scrollWidth') == width
  assert tab.value(WIDER) == []


def test_links_lead_somewhere_and_details_open(address, tab):
  tab.open(address, 1280)
  assert tab.value("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
  assert tab.value("document.querySelectorAll('details').length") == 9 + 9
  before = tab.value('document.body.scrollHeight')
  tab.value("document.querySelectorAll('details').forEach(d => d.open = true)")
  assert tab.value('document.body.scrollHeight') > before + 1000
  assert tab.value('document.documentElement.scrollWidth') == 1280
  assert tab.complaints == []


def test_a_screen_reader_gets_names(address, tab):
  tab.open(address, 1280)
  nodes = tab.accessibility()
  roles = {node['role'] for node in nodes}
  assert {'main', 'navigation', 'heading', 'table', 'figure', 'image'} <= roles
  for role in ('image', 'table', 'link', 'region', 'heading'):
    found = [node for node in nodes if node['role'] == role]
    assert found, role
    assert all(node['name'].strip() for node in found), role
  assert len([node for node in nodes if node['role'] == 'image']) == 14
  assert tab.value('document.documentElement.lang') == 'en'
  assert tab.value("document.querySelectorAll('table th[scope]').length > 20")


def test_words_stand_out_from_their_ground(address, tab):
  """Every text has WCAG 2's contrast for small letters, 4.5, with the ground it stands on."""
  tab.open(address, 1280)
  found = tab.value("""(() => {
    const ground = e => { for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor
      if (c !== 'rgba(0, 0, 0, 0)') return c }
      return 'rgb(255, 255, 255)' }
    const pairs = new Set()
    for (const e of document.querySelectorAll('body *'))
      if ([...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
        pairs.add(getComputedStyle(e).color + '/' + ground(e))
    return [...pairs] })()""")
  assert len(found) > 4
  for pair in found:
    ink, ground = (_luminance(colour) for colour in pair.split('/'))
    assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, pair


def _luminance(colour: str) -> float:
  channels = np.array([float(part) for part in colour.strip('rgb()').split(',')]) / 255
  linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
  return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_picture_of_it_is_full_of_ink(address, tab):
  tab.open(address, 1280)
  image = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert('L'))
  assert image.shape[1] == 1280
  assert image.shape[0] > 5000
  blank = (image > 250).all(axis=1)
  runs = np.diff(np.flatnonzero(np.concatenate([[True], ~blank, [True]])))
  assert runs.max() < 150, 'a hole in the page'
