"""Cells that start from other cells: which, what is refused, and the order in which they are run here."""

import contextlib
import dataclasses
import pathlib
import types

import pytest
from unmask import UserError
from unmask.launch.sweeping import axes, chains, local, plans
from unmask.launch.sweeping.cells import Cell

AXES = axes.parse({'stage': {'first': [], 'then': [], 'last': []}, 'size': {'s': [], 'l': []}}, [0, 1])
TWO = [({'stage': 'then'}, {'stage': 'first'}), ({'stage': 'last'}, {'stage': 'then'})]


def test_a_cell_starts_from_the_one_that_is_like_it_otherwise():
  choices = axes.grid(AXES, None, [])
  name = lambda choice: tuple(str(option.label) for option in choice.values())
  found = chains.starts(choices, TWO, AXES)
  before = {'then': 'first', 'last': 'then'}
  for choice, start in zip(choices, found, strict=True):
    stage, size, seed = name(choice)
    assert {binding: name(choices[number]) for binding, number in start.items()} == (
      {chains.WEIGHTS: (before[stage], size, seed)} if stage in before else {}
    )


def test_a_third_part_names_what_is_bound_to_another_cell():
  """Beside the weights; the first entry of each name holds, and circles are seen through both."""
  choices = axes.grid(AXES, None, [])
  beside = ({'stage': 'last'}, {'stage': 'first'}, 'Frozen.checkpoint')
  found = chains.starts(choices, [*TWO, beside, ({'stage': 'last'}, {'stage': 'then'}, 'Frozen.checkpoint')], AXES)
  number = {tuple(str(option.label) for option in choice.values()): i for i, choice in enumerate(choices)}
  assert found[number['last', 'l', '1']] == {
    chains.WEIGHTS: number['then', 'l', '1'],
    'Frozen.checkpoint': number['first', 'l', '1'],
  }
  with pytest.raises(UserError, match='in a circle: stage=first, size=s, seed=0 from stage=last, size=s, seed=0 from'):
    chains.starts(choices, [({'stage': 'first'}, {'stage': 'last'}), beside], AXES)


@pytest.mark.parametrize(
  ('entries', 'sign'),
  [
    ([({'stage': 'then'},)], 'sweep.starts holds'),
    ([(*TWO[0], {})], 'sweep.starts holds'),
    ([({'stag': 'then'}, {})], "sweep.starts names the axis 'stag'"),
    ([({'stage': 'then'}, {'stage': 'frist'})], "sweep.starts names 'frist' of the axis 'stage'"),
    ([({'stage': 'then'}, {'stage': 'last'}), TWO[1]], 'in a circle: stage=then, size=s, seed=0 from stage=last'),
    ([({'stage': 'then'}, {})], 'in a circle: stage=then, size=s, seed=0 from stage=then'),
    ([({'stage': 'last'}, {'stage': 'first', 'size': 's'})], 'which is no cell of the sweep'),
  ],
)
def test_what_is_no_chain_is_refused(entries, sign):
  choices = axes.grid(AXES, None, [{'stage': 'first', 'size': 's'}])
  with pytest.raises(UserError, match=sign):
    chains.starts(choices, entries, AXES)


@dataclasses.dataclass
class _Board:
  rows: dict = dataclasses.field(default_factory=dict)
  told: list = dataclasses.field(default_factory=list)

  def to(self, plan, state):
    self.told.append((plan.cell.row, state))

  def refresh(self):
    pass

  def showing(self):
    return contextlib.nullcontext()


def _plan(folder: pathlib.Path, name: str, start: str | None) -> plans.Plan:
  place = folder / name
  place.mkdir(exist_ok=True)
  cell = Cell(
    row=name, options={}, model_dir=str(place), starts={} if start is None else {chains.WEIGHTS: str(folder / start)}
  )
  return plans.Plan(
    cell=cell, command=(), train_steps=1, update_tokens=1, update_flops=None, learning_rate=1.0, facts={}
  )


def test_each_cell_waits_for_its_start_and_falls_with_it(tmp_path, monkeypatch):
  """The last cell of a chain is listed first; of another chain the first cell fails; then the same call goes on."""
  broken = {'x'}

  def start(plan, share, attempt):
    status = int(plan.cell.row in broken)

    def poll():
      if not status:
        (pathlib.Path(plan.cell.model_dir) / 'done.json').write_text('{}')
      return status

    process = types.SimpleNamespace(poll=poll, returncode=status, wait=lambda: status)
    return local._Running(plan, process, share, str(tmp_path / 'log'), attempt)

  monkeypatch.setattr(local, '_start', start)
  monkeypatch.setattr(local, '_POLL', 0.0)
  chain = [('c', 'b'), ('b', 'a'), ('y', 'x'), ('z', 'y'), ('a', None), ('x', None)]
  listed = [_plan(tmp_path, *one) for one in chain]
  board = _Board()
  failed = local.run(listed, [None, None], board, lambda plan: None)
  assert [row for row, state in board.told if state == 'running'] == ['a', 'x', 'b', 'c']
  assert sorted(one.cell.row for one in failed) == ['x', 'y', 'z']
  broken.clear()
  board = _Board()
  assert local.run(listed, [None, None], board, lambda plan: None) == []
  assert [row for row, state in board.told if state == 'running'] == ['x', 'y', 'z']
