"""A seqio Task or Mixture by its name, for programs that are given one from outside, such as t5x."""

import seqio

from .. import UserError
from . import prepared, text_task

Corpus = text_task.TextTask | prepared.PreparedTask


def registered(name: str, task: Corpus | None = None) -> str:
  """`name`, under which seqio now knows a Task or Mixture.

  Args:
    name: of a Task or Mixture.
    task: a corpus to register first, and to make if it is not there; None if somebody else registered `name`.

  Raises:
    UserError: nothing has that name; or what `task` needs is missing.
  """
  if task is not None:
    task.prepare()
  known = sorted([*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()])
  if name not in known:
    raise UserError(
      f'No seqio Task or Mixture is named {name!r}; registered: {", ".join(known) or "none"}. Import the module that '
      'registers it, or give the corpus as `task`.'
    )
  return name


def vocabulary(name: str, task: Corpus | None = None) -> seqio.Vocabulary:
  """The vocabulary of the 'targets' of `registered(name, task)`; UserError also if it has no 'targets'."""
  features = seqio.get_mixture_or_task(registered(name, task)).output_features
  if 'targets' not in features:
    raise UserError(f'{name} has no feature "targets"; it has {", ".join(features)}.')
  return features['targets'].vocabulary
