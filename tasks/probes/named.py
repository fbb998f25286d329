"""Probes by name: 'topic', 'span', and 'tfds:NAME' for any that TFDS has."""

from collections.abc import Callable, Mapping

from ... import UserError
from . import cloze, public, topics
from .examples import ProbeTask
from .material import Material

OF_A_CORPUS: Mapping[str, Callable[[Material], ProbeTask]] = {'topic': topics.topic, 'span': cloze.span}
_PUBLIC = 'tfds:'


def check(name: str) -> None:
  """Raises UserError unless a probe can have this name."""
  if name not in OF_A_CORPUS and (not name.startswith(_PUBLIC) or name == _PUBLIC):
    known = ', '.join(map(repr, OF_A_CORPUS))
    raise UserError(f"There is no probe {name!r}; PROBES names {known}, or 'tfds:NAME' such as 'tfds:glue/sst2'.")


def load(name: str, material: Material) -> ProbeTask:
  """The probe of that name; UserError as `check`, or if its examples cannot be had."""
  check(name)
  if name in OF_A_CORPUS:
    return OF_A_CORPUS[name](material)
  return public.tfds(name.removeprefix(_PUBLIC), material)
