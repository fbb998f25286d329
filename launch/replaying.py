"""One update of a run once more: from the newest checkpoint before it, through the same batches, bit for bit.

A second time gives the same numbers where the program is the same: same devices, same mesh, same versions.
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import rich.console
import rich.table

from .. import UserError
from ..tasks.pipeline import Source
from . import diagnosis, files, identity, initial, loop, metrics, opening
from . import mesh as mesh_lib
from .checkpoints import Checkpoints
from .diagnosis import Tensor


def replay(model_dir: str, step: int, rows: int = 2) -> None:
  """Prints what the update did, and what it was made of; the run is only read.

  Args:
    model_dir: of the run whose bindings are loaded.
    step: the update, from 1.
    rows: of its batch, shown as text.

  Raises:
    UserError: there is no checkpoint before it and the run did not begin with this configuration, or no such update.
  """
  settings = loop.bound()
  if not 1 <= step <= settings['train_steps']:
    raise UserError(f'--step={step} is no update of this run; it has updates 1 to {settings["train_steps"]}.')
  program, training = opening.make_program(**settings), identity.of_training(**settings)
  source, program = opening.opened(model_dir, settings['pipeline'], program, training, save=False)
  saved = Checkpoints(model_dir)
  found = saved.restore(program.state_shapes(), before=step)
  saved.close()
  with program.context():
    first, state = (0, None) if found is None else found[:2]
    if state is None:
      weights = initial.given(settings['initial_weights'], program.model, source)
      state = initial.state(program, settings['seed'], weights)
    print(f'update {step}, from {f"checkpoint {first}" if first else "the start"} on', flush=True)
    batches = source.batches(
      program.objective, program.batch_size, skip=first, host=jax.process_index(), num_hosts=jax.process_count()
    )
    update, sound = program.compile(), jax.device_put(np.bool_(True), mesh_lib.replicated(program.mesh))
    for number, batch in enumerate(batches, first + 1):
      on_device = mesh_lib.put_batch(program.mesh, batch)
      if number == step:
        break
      state, _ = update(state, on_device, sound)
    _show_batch(source, batch, rows)
    _show_tensors(diagnosis.tensors(program, state, on_device))
    _, found = update(state, on_device, sound)
    _show_metrics({name: float(value) for name, value in found.items()}, _logged(model_dir, step))


def _logged(model_dir: str, step: int) -> dict[str, Any]:
  """What the run itself wrote of the update, in its metrics or as an anomaly."""
  for row in metrics.read(model_dir):
    if row['step'] == step and 'loss' in row:
      return row
  for kind in ('nonfinite', 'spike'):
    path = files.path(model_dir) / 'anomalies' / f'{kind}-{step:08d}' / 'report.json'
    if path.exists():
      return {name: _number(value) for name, value in json.loads(path.read_text()).items()}
  return {}


def _number(value: Any) -> Any:
  """JSON's 'nan' and 'inf' as numbers."""
  return float(value) if isinstance(value, str) and value in ('nan', 'inf', '-inf') else value


def _show_batch(source: Source, batch: dict[str, np.ndarray], rows: int) -> None:
  ids = batch['example_id']
  print(f'examples {", ".join(map(str, ids.tolist()))}')
  for number in range(min(rows, len(ids))):
    tokens = batch['decoder_input_tokens'][number][batch['decoder_segment_ids'][number] > 0]
    print(f'  {ids[number]}: {source.vocabulary.decode(tokens.tolist())[:300]!r}')


def _show_tensors(tensors: Iterable[Tensor]) -> None:
  """The first that is not finite and what led to it; of a finite update, the largest of each kind."""
  seen: list[Tensor] = []
  for tensor in tensors:
    seen.append(tensor)
    if tensor.bad:
      break
  bad = seen[-1].bad
  shown = seen[-8:] if bad else list(_largest(seen))
  table = rich.table.Table('tensor', 'largest', 'not finite', title='up to the first bad one' if bad else 'all finite')
  for tensor in shown:
    table.add_row(tensor.name, f'{tensor.largest:.4g}', f'{tensor.bad:,}')
  rich.console.Console(width=110).print(table)


def _largest(tensors: list[Tensor]) -> Iterator[Tensor]:
  for kind in ('parameter', 'output', 'loss', 'gradient'):
    of_kind = [tensor for tensor in tensors if tensor.name.startswith(kind)]
    yield from sorted(of_kind, key=lambda tensor: -tensor.largest)[:4]


def _show_metrics(now: dict[str, float], before: dict[str, Any]) -> None:
  for name, value in now.items():
    if name not in before:
      print(f'  {name:16} {value!r}')
      continue
    same = value == before[name] or (math.isnan(value) and math.isnan(before[name]))
    print(f'  {name:16} {value!r}' + (', as the run had it' if same else f'; the run had {before[name]!r}'))
