"""Writes the table of training FLOPs per token into docs/objectives.md:  python docs/make_flops.py

Of every file of gin/objectives, for the decoder and the rows of gin/runs/ablation.gin. Nothing is compiled and no text
is read. A test holds that the page is up to date.
"""

import dataclasses
import pathlib
import re

from unmask.launch import config, identity, loop, precompiling, program
from unmask.models.config import DecoderConfig
from unmask.objectives import Frozen, Objective

PAGE = pathlib.Path(__file__).parent / 'objectives.md'
RUN = 'gin/runs/ablation.gin'
HEAD = '| gin file | training FLOPs per token, millions | of `next_token` |\n|---|---|---|\n'
TABLE = re.compile(rf'(?m){re.escape(HEAD)}(^\|.*\n)*')


def figures() -> dict[str, float]:
  """Training FLOPs per token by gin file, in order of their names."""
  files = sorted(path.stem for path in (PAGE.parents[1] / 'gin' / 'objectives').glob('*.gin'))
  return {name: _figure(name) for name in files}


def _figure(name: str) -> float:
  config.load([RUN, f'gin/objectives/{name}.gin'], ["MODEL_DIR = 'none'"])
  bound = loop.bound()
  model = precompiling.with_vocabulary(bound['model'], bound['pipeline'])
  return program.token_flops(model, _with_shapes(bound['objective'], model), bound['pipeline'].text_length)


def _with_shapes(objective: Objective, model: DecoderConfig) -> Objective:
  """The objective whose scorer, which another run would have trained, is of the decoder's own shape."""
  free = identity.FREE - {'vocab_size'}
  shape = tuple((name, value) for name, value in dataclasses.asdict(model).items() if name not in free)
  scorers = {name: said for name, said in objective.beside.items() if isinstance(said, Frozen)}
  return dataclasses.replace(
    objective, **{name: dataclasses.replace(said, shape=shape) for name, said in scorers.items()}
  )


def table() -> str:
  """The table's text, from the least to the most."""
  found = figures()
  rows = sorted(found.items(), key=lambda item: (item[1], item[0]))
  return HEAD + ''.join(
    f'| `{name}` | {flops / 1e6:.3f} | {flops / found["next_token"]:.2f} |\n' for name, flops in rows
  )


if __name__ == '__main__':
  page = PAGE.read_text(encoding='utf-8')
  PAGE.write_text(TABLE.sub(lambda _: table(), page, count=1), encoding='utf-8')
  print(f'wrote {PAGE}')
