"""What the gin files of models/ say of themselves: the slices that they fit."""

import dataclasses
import pathlib
import re

MODELS = pathlib.Path(__file__).resolve().parents[1] / 'gin' / 'models'
_FITS = re.compile(r'^# Fits (\S+), (\S+): ([\d,]+) rows of ([\d,]+) tokens, ([\d,]+) ids\.$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Fits:
  """One line of a file: '# Fits v5e:4x4, fsdp=16: 128 rows of 2,048 tokens, 32,768 ids.'"""

  model: str
  topology: str
  mesh: str
  rows: int
  tokens: int
  ids: int

  def __str__(self) -> str:
    return f'{self.model}-{self.topology}'

  def bindings(self) -> list[str]:
    """What is bound beside gin/runs/pretrain.gin, an objective and the model."""
    return [
      f'DecoderConfig.vocab_size = {self.ids}',
      f'BATCH_SIZE = {self.rows}',
      f"TASK_FEATURE_LENGTHS = {{'targets': {self.tokens}}}",
    ]


def fits() -> list[Fits]:
  """All lines of all files, the smallest model first."""
  found = []
  for file in MODELS.glob('*.gin'):
    lines = _FITS.findall(file.read_text())
    assert lines, f'{file.name} names no slice that it fits'
    found += [
      Fits(file.stem, topology, mesh, *(int(number.replace(',', '')) for number in numbers))
      for topology, mesh, *numbers in lines
    ]
  return sorted(found, key=lambda one: (one.rows * one.tokens * one.ids, one.model))
