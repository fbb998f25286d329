"""Reserved ids for somebody else's vocabulary: ids it does not use get the names that objectives need.

A vocabulary has ids to spare where its makers left some: '<unused0>', '[unused1]', '<extra_id_0>',
'<|reserved_special_token_0|>', or pieces of SentencePiece's type UNUSED. A model trained with it has rows for them that
mean nothing, so its size stays. Where there are too few, new ids can be added behind all others.
"""

import dataclasses
import json
import re
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from .. import UserError
from . import vocabularies
from .hugging_face import BEGINS, ENDS, RESERVED_LIKE, added_token, names

_UNKNOWN, _CONTROL, _USER, _UNUSED = 2, 3, 4, 5  # SentencePiece's types of pieces


@dataclasses.dataclass(frozen=True)
class Reserved:
  """What was done.

  Attributes:
    content: of the converted file.
    size: ids before.
    taken: (id, its name before, its name now) of ids that were there.
    added: (id, its name) of new ids.
  """

  content: bytes
  size: int
  taken: tuple[tuple[int, str, str], ...]
  added: tuple[tuple[int, str], ...]


def convert(content: bytes, where: str, append: bool) -> Reserved:
  """A vocabulary's file with the reserved ids.

  Args:
    content: a SentencePiece model or a 'tokenizer.json'.
    where: named in errors.
    append: whether new ids may be added where there are none to spare.

  Raises:
    UserError: it is neither, or has too few ids to spare, or cannot have them.
  """
  if content.lstrip()[:1] == b'{':
    return _of_json(content, where, append)
  proto = sentencepiece_model_pb2.ModelProto()
  try:
    proto.ParseFromString(content)
    sentencepiece.SentencePieceProcessor(model_proto=content).encode('a')
  except Exception as error:  # protobuf's and sentencepiece's own kinds
    raise UserError(f'{where} is neither a SentencePiece model nor a tokenizer.json.') from error
  return _of_pieces(proto, where, append)


def _of_pieces(proto: Any, where: str, append: bool) -> Reserved:
  names = [piece.piece for piece in proto.pieces]
  trainer = proto.trainer_spec
  if proto.pieces[0].type not in (_UNKNOWN, _CONTROL, _UNUSED):
    raise UserError(f'{where} has the piece {names[0]!r} at id 0, which is padding here: it cannot be used.')
  control = {i for i, piece in enumerate(proto.pieces) if piece.type == _CONTROL}
  wanted = [name for name in vocabularies.RESERVED if name not in names or names.index(name) not in control]
  bos, eos = (_piece_id(names, name) for name in (trainer.bos_piece or '<s>', trainer.eos_piece or '</s>'))
  if eos is None or not eos:
    raise UserError(f'{where} has no end-of-text piece: it cannot be used.')
  if bos is None:
    wanted.append(trainer.bos_piece or '<s>')
  is_spare = lambda i, piece: (
    piece.type == _UNUSED or (piece.type in (_CONTROL, _USER) and RESERVED_LIKE.search(piece.piece))
  )
  kept = {0, bos, eos, *(i for i, name in enumerate(names) if name in vocabularies.RESERVED and i in control)}
  spare = [i for i, piece in enumerate(proto.pieces) if i not in kept and is_spare(i, piece)]
  taken, added = _assign(wanted, spare, names, where, append)
  for i, _, name in taken:
    proto.pieces[i].piece, proto.pieces[i].type, proto.pieces[i].score = name, _CONTROL, 0.0
  for _, name in added:
    proto.pieces.add(piece=name, type=_CONTROL, score=0.0)
  if bos is None:
    trainer.bos_piece = wanted[-1]
  trainer.vocab_size = len(proto.pieces)
  content = proto.SerializeToString()
  vocabularies.check_reserved(content, where)
  return Reserved(content, len(names), tuple(taken), tuple(added))


def _piece_id(names: list[str], name: str) -> int | None:
  return names.index(name) if name in names else None


def _assign(
  wanted: list[str], spare: list[int], names: list[str] | dict[int, str], where: str, append: bool
) -> tuple[list[tuple[int, str, str]], list[tuple[int, str]]]:
  """Which spare id gets which name, and which names get new ids."""
  if len(wanted) > len(spare) and not append:
    have = f'only {len(spare)}' if spare else 'none'
    raise UserError(
      f'{where} needs {len(wanted)} reserved ids and has {have} to spare; --append adds new ones behind its '
      f'{len(names):,} ids (a model trained with it gets rows for them when it is imported).'
    )
  taken = [(i, names[i], name) for i, name in zip(spare, wanted, strict=False)]
  rest = wanted[len(taken) :]
  size = max(names) + 1 if isinstance(names, dict) else len(names)
  return taken, [(size + n, name) for n, name in enumerate(rest)]


def _of_json(content: bytes, where: str, append: bool) -> Reserved:
  try:
    whole = json.loads(content)
    named, listed, added_tokens = names(whole), whole['model']['vocab'], whole.setdefault('added_tokens', [])
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise UserError(f'{where} is no tokenizer.json ({type(error).__name__}: {error}).') from error
  known = set(named.values())
  special = {int(entry['id']) for entry in added_tokens if entry.get('special')}
  mine = {i for i in special if named[i] in vocabularies.RESERVED}
  wanted = [name for name in vocabularies.RESERVED if name not in {named[i] for i in mine}]
  if not known & set(ENDS):
    raise UserError(f'{where} has no end-of-text token ({", ".join(ENDS)}): it cannot be used.')
  if not known & set(BEGINS):
    wanted.append('<s>')
  used = json.dumps(whole.get('post_processor'))
  spare = [i for i in sorted(named) if _is_spare(named[i], i in special, used) and i not in mine | {0}]
  taken, added = _assign(wanted, spare, named, where, append)
  for i, before, name in taken:
    if isinstance(listed, dict) and before in listed:
      listed[name] = listed.pop(before)
    elif isinstance(listed, list) and i < len(listed):
      listed[i][0] = name
  changed = {i: name for i, _, name in taken} | dict(added)
  others = [entry for entry in added_tokens if int(entry['id']) not in changed]
  gaps = vocabularies.RESERVED[:1] + vocabularies.RESERVED[2:]
  entries = [added_token(i, name, lstrip=name in gaps) for i, name in changed.items()]
  whole['added_tokens'] = sorted([*others, *entries], key=lambda entry: int(entry['id']))
  dumped = json.dumps(whole, ensure_ascii=False, indent=2).encode()
  return Reserved(dumped, len(named), tuple(taken), tuple(added))


def _is_spare(name: str, is_special: bool, used: str) -> bool:
  """BERT's [unused1] are ordinary entries; others are special tokens. What a text is wrapped in is in use."""
  plain = re.fullmatch(r'[\[<]unused_?\d+[\]>]', name) is not None
  return (plain or (is_special and RESERVED_LIKE.search(name) is not None)) and json.dumps(name) not in used
