"""Screenshots of a report in headless Chromium, in pieces that a person can look at, and in print and in grey.

python tests/benchmarks/look_at_report.py runs/core/report.html OUT
"""

import base64
import io
import pathlib
import sys

from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import browser

_PIECE = 1500


def main(page: str, out: str) -> None:
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  with browser.browser() as tab:
    for width in (1280, 400):
      tab.open(pathlib.Path(page).resolve().as_uri(), width)
      image = Image.open(io.BytesIO(tab.screenshot()))
      for number, top in enumerate(range(0, image.height, _PIECE)):
        piece = image.crop((0, top, image.width, min(top + _PIECE, image.height)))
        piece.save(folder / f'{width}-{number:02d}.png')
        if width == 1280:
          piece.convert('L').save(folder / f'grey-{number:02d}.png')
    printed = tab.call('Page.printToPDF', printBackground=False, preferCSSPageSize=True)['data']
    (folder / 'print.pdf').write_bytes(base64.b64decode(printed))
  print(f'{len(list(folder.glob("*.png")))} pictures and print.pdf in {folder}; complaints: {tab.complaints or "none"}')


if __name__ == '__main__':
  main(*sys.argv[1:])
