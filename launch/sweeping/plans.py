"""What each cell will do: its command, checked ahead by reading its gin configuration as the run itself will.

Nothing is opened and no device is touched: the runs need them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ... import UserError
from .. import config, flags, frozen, loop, opening, precompiling, program
from .budget import Budget
from .cells import Cell

# Facts in which cells may differ by an axis of their own alone, never by their objective's file.
_FACTS = {
  'model': 'the model (DecoderConfig)',
  'pipeline': 'the corpus, its order or its rows (Pipeline)',
  'batch_size': 'BATCH_SIZE',
  'optimizer': 'the optimizer',
  'z_loss': 'z_loss',
  'budget': 'the budget',
}
# Updates of a run whose number is to be found: so many that no stage of an objective is left without one.
_PROBED = 1_000_000
# Of messages about a name that nothing has.
_UNKNOWN = ('Nothing uses', "doesn't have a parameter", 'No configurable matching')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A cell that can be run.

  Attributes:
    cell: which.
    command: arguments of `unmask train`, without the learning rate where that is tuned.
    train_steps: updates.
    update_tokens: tokens of the corpus that an update reads.
    update_flops: model FLOPs of an update; None where the vocabulary's size is not known, or a frozen network's shape.
    learning_rate: the peak that is bound.
    facts: what cells that differ in their objective must have alike.
  """

  cell: Cell
  command: tuple[str, ...]
  train_steps: int
  update_tokens: int
  update_flops: float | None
  learning_rate: float
  facts: dict[str, str]

  @property
  def tokens(self) -> int:
    """Of the corpus, all updates."""
    return self.train_steps * self.update_tokens

  @property
  def flops(self) -> float | None:
    """Model FLOPs of all updates."""
    return None if self.update_flops is None else self.train_steps * self.update_flops


def command(run: str, search_paths: Sequence[str], cell: Cell, lines: Sequence[str]) -> tuple[str, ...]:
  """Arguments of `unmask train` for a cell; `lines` are those of all cells, before its own."""
  return (
    f'--gin_search_paths={",".join(search_paths)}',
    f'--gin_file={run}',
    *(f'--gin_file={file}' for file in cell.gin_files),
    *as_flags((*lines, *cell.lines)),
    *(f'--gin.{binding}={start}' for binding, start in cell.starts.items()),
    f'--gin.MODEL_DIR={cell.model_dir}',
  )


def as_flags(lines: Sequence[str]) -> list[str]:
  """Lines 'NAME = VALUE' as flags of a command."""
  return [f'--gin.{name.strip()}={value.strip()}' for name, _, value in (line.partition('=') for line in lines)]


def with_steps(arguments: Sequence[str], steps: int) -> tuple[str, ...]:
  """The command with a number of updates of its own."""
  return (*arguments, f'--gin.TRAIN_STEPS={steps}')


def with_learning_rate(arguments: Sequence[str], rate: float) -> tuple[str, ...]:
  """The command with a peak learning rate of its own."""
  return (*arguments, f'--gin.LEARNING_RATE={rate!r}')


def plan(cell: Cell, arguments: tuple[str, ...], budget: Budget, tuned: bool) -> Plan:
  """Reads the gin configuration of a cell.

  Args:
    cell: whose.
    arguments: of `command`.
    budget: of every cell.
    tuned: whether LEARNING_RATE will be bound.

  Raises:
    UserError: something is misspelt, missing or of another type; names the cell, and the axis if it is one's fault.
  """
  try:
    if budget.unit != 'steps':
      arguments = with_steps(arguments, _PROBED)  # that there is such a macro is seen here
    bound = _bound(with_learning_rate(arguments, 1e-3) if tuned else arguments)
    text_length, batch_size = bound['pipeline'].text_length, bound['batch_size']
    opening.check_numbers(TRAIN_STEPS=bound['train_steps'], BATCH_SIZE=batch_size)
    bound['objective'].check(text_length)
    flops = _flops(bound, text_length, batch_size)
    steps = budget.steps(bound['train_steps'], batch_size * text_length, flops)
    if budget.unit != 'steps':
      arguments = with_steps(arguments[:-1], steps)
      bound = _bound(with_learning_rate(arguments, 1e-3) if tuned else arguments)
  except UserError as error:
    raise UserError(f'{_at_fault(cell, str(error))}: {error}') from error
  facts = {name: repr(bound[name]) for name in ('model', 'pipeline', 'batch_size', 'optimizer', 'z_loss')}
  if budget.unit != 'flops':
    facts['budget'] = f'{steps * batch_size * text_length:,} tokens'
  return Plan(
    cell=cell,
    command=arguments,
    train_steps=steps,
    update_tokens=batch_size * text_length,
    update_flops=flops,
    learning_rate=bound['optimizer'].schedule.peak,
    facts=facts,
  )


def _bound(arguments: Sequence[str]) -> dict[str, Any]:
  """What `unmask train` would be called with."""
  options = flags.parse(flags.parser('train', ''), arguments)
  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  return loop.bound()


def _flops(bound: dict[str, Any], text_length: int, batch_size: int) -> float | None:
  try:
    model = precompiling.with_vocabulary(bound['model'], bound['pipeline'])
    objective = frozen.settled(bound['objective'], bound['model_dir'])
  except UserError:
    return None
  return program.update_flops(model, objective, text_length, batch_size)


def _at_fault(cell: Cell, message: str) -> str:
  """The cell, and the axis whose file or binding a message is about."""
  for axis, option in cell.options.items():
    names = [*option.files, *(line.partition('=')[0].strip() for line in option.lines)]
    if not any(name in message for name in names):
      continue
    if names == [axis] and any(words in message for words in _UNKNOWN):
      return f'The axis {axis!r} does not exist'
    return f'The option {option.label!r} of the axis {axis!r} (cell {cell.name})'
  return f'Cell {cell.name}'


def check_fair(plans: Sequence[Plan]) -> None:
  """Raises UserError if cells that differ in their objective alone have not the same model, corpus order and budget."""
  alike: dict[tuple, Plan] = {}
  for one in plans:
    key = tuple((axis, label) for axis, label in one.cell.labels.items() if axis != 'objective')
    other = alike.setdefault(key, one)
    for name, title in _FACTS.items():
      if one.facts.get(name) != other.facts.get(name):
        raise UserError(
          f'{one.cell.name} and {other.cell.name} differ in more than their objective: {title} is '
          f'{one.facts.get(name)} and {other.facts.get(name)}. Bind it for all by BINDINGS, or give it '
          'an axis of its own.'
        )
