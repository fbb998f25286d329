"""A vocabulary as the 'tokenizer.json' that `transformers`' AutoTokenizer loads, made of data alone.

Text becomes the ids that SentencePiece gives: its blank in front of a text and for each space, its merges by score or
its lattice, its bytes for what is in no piece. One thing is meant to differ: the names of special tokens, such as
[MASK], are read as those tokens where they stand in a text; SentencePiece takes them for ordinary letters.

Source: https://huggingface.co/docs/tokenizers/api (the file is a dump of the library's own objects).
"""

import base64
import json
from typing import Any

import seqio
from sentencepiece import sentencepiece_model_pb2

from ... import UserError
from ...objectives.base import SpecialTokens
from ...tasks import vocabularies
from ...tasks.hugging_face import HuggingFaceVocabulary, added_token

_BLANK = '\u2581'
_LITERAL = '\u2047'
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # SentencePiece's types of pieces
_UNIGRAM, _BPE = 1, 2


def files(vocabulary: seqio.Vocabulary, length: int) -> dict[str, bytes]:
  """The files of a tokenizer by name.

  Args:
    vocabulary: with the reserved ids.
    length: positions that the model was trained on.

  Raises:
    UserError: it is of a kind that cannot be said in such a file.
  """
  special = vocabularies.special_tokens(vocabulary)
  more: dict[str, bytes] = {}
  if isinstance(vocabulary, HuggingFaceVocabulary):
    whole = vocabulary.content
  elif isinstance(vocabulary, seqio.SentencePieceVocabulary):
    whole = _of_pieces(vocabulary, special)
    more['tokenizer.model'] = vocabulary.sp_model
  elif isinstance(vocabulary, seqio.ByteVocabulary):
    whole = _of_bytes(vocabulary, special)
  else:
    raise UserError(
      f'A {type(vocabulary).__name__} cannot be exported; SentencePiece, byte and Hugging Face vocabularies can.'
    )
  named = {
    'bos_token': name(vocabulary, special.bos),
    'eos_token': name(vocabulary, special.eos),
    'pad_token': name(vocabulary, special.pad),
    'mask_token': name(vocabulary, special.mask),
  }
  settings = named | {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'additional_special_tokens': [name(vocabulary, token) for token in (special.end_of_span, *special.sentinels)],
    'clean_up_tokenization_spaces': False,
    'model_max_length': length,
    'model_input_names': ['input_ids', 'attention_mask'],
  }
  dump = lambda value: json.dumps(value, indent=2, ensure_ascii=False).encode()
  return {'tokenizer.json': dump(whole), 'tokenizer_config.json': dump(settings), **more}


def name(vocabulary: seqio.Vocabulary, token: int) -> str:
  """A special token as it is written in a text: its own name, or that of what it stands for where it is one of seqio's
  `extra_ids`.
  """
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    processor = vocabulary.tokenizer
    if processor.is_control(token) or processor.is_unknown(token):
      return processor.id_to_piece(token)
  special = vocabularies.special_tokens(vocabulary)
  if token in _reserved(special):
    return vocabularies.token_name(vocabulary, token)
  return '<unk>' if token == vocabulary.unk_id else f'<special:{token}>'


def _reserved(special: SpecialTokens) -> set[int]:
  """All ids that have a name of ours."""
  ours = (special.pad, special.bos, special.eos, special.mask, special.end_of_span)
  return {*ours, *special.sentinels, *special.spare}


def _specials(vocabulary: seqio.Vocabulary, special: SpecialTokens, tokens: list[int]) -> list[dict[str, Any]]:
  """Added tokens; a blank before a gap belongs to it, as in rows, where the word behind it brings its own."""
  gaps = {special.mask, *special.sentinels}
  named = [(token, name(vocabulary, token)) for token in sorted(tokens)]
  return [added_token(token, content, lstrip=token in gaps) for token, content in named]


def _whole(vocabulary: seqio.Vocabulary, special: SpecialTokens, **parts: Any) -> dict[str, Any]:
  """The file; a text begins with `bos`, as every segment of a row does."""
  bos = name(vocabulary, special.bos)
  begin = {'SpecialToken': {'id': bos, 'type_id': 0}}
  text = lambda which: {'Sequence': {'id': which, 'type_id': 0}}
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    **parts,
    'post_processor': {
      'type': 'TemplateProcessing',
      'single': [begin, text('A')],
      'pair': [begin, text('A'), text('B')],
      'special_tokens': {bos: {'id': bos, 'ids': [special.bos], 'tokens': [bos]}},
    },
  }


def _sequence(kind: str, items: list[dict[str, Any]]) -> dict[str, Any] | None:
  return {'type': 'Sequence', kind: items} if items else None


def _replace(old: str | dict, new: str) -> dict[str, Any]:
  return {'type': 'Replace', 'pattern': old if isinstance(old, dict) else {'String': old}, 'content': new}


def _byte_pairs(vocab: dict[str, int], merges: list[list[str]], unknown: str | None, byte_fallback: bool) -> dict:
  return {
    'type': 'BPE',
    'dropout': None,
    'unk_token': unknown,
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': True,
    'byte_fallback': byte_fallback,
    'ignore_merges': False,
    'vocab': vocab,
    'merges': merges,
  }


def _of_bytes(vocabulary: seqio.ByteVocabulary, special: SpecialTokens) -> dict[str, Any]:
  """Every character is unknown and falls back on its bytes."""
  low = special.text[0]
  vocab = {f'<0x{byte:02X}>': low + byte for byte in range(256)}
  others = [token for token in range(vocabulary.vocab_size) if not low <= token < low + 256]
  added = _specials(vocabulary, special, others)
  vocab |= {entry['content']: entry['id'] for entry in added}
  decoders = [{'type': 'ByteFallback'}, {'type': 'Fuse'}]
  return _whole(
    vocabulary,
    special,
    added_tokens=added,
    normalizer=None,
    pre_tokenizer=None,
    decoder=_sequence('decoders', decoders),
    model=_byte_pairs(vocab, [], None, byte_fallback=True),
  )


def _of_pieces(vocabulary: seqio.SentencePieceVocabulary, special: SpecialTokens) -> dict[str, Any]:
  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(vocabulary.sp_model)
  pieces, text = list(proto.pieces), proto.normalizer_spec
  trainer = proto.trainer_spec
  if trainer.model_type not in (_UNIGRAM, _BPE) or trainer.treat_whitespace_as_suffix or not text.escape_whitespaces:
    raise UserError('Only SentencePiece models of the types "unigram" and "bpe" with blanks before words are exported.')
  if any(piece.type == _UNUSED for piece in pieces):
    raise UserError('A SentencePiece model with pieces of the type UNUSED cannot be exported.')
  reserved = _reserved(special)
  controls = [i for i, piece in enumerate(pieces) if i in reserved or piece.type in (_CONTROL, _UNKNOWN)]
  added = _specials(vocabulary, special, controls)
  names = {entry['id']: entry['content'] for entry in added}
  users = [i for i, piece in enumerate(pieces) if piece.type == _USER and i not in reserved]
  added += [added_token(i, pieces[i].piece, special=False) for i in users]
  named = [names.get(i, piece.piece) for i, piece in enumerate(pieces)]
  unknown = next(i for i, piece in enumerate(pieces) if piece.type == _UNKNOWN)
  bytes_too = any(piece.type == _BYTE for piece in pieces)
  if trainer.model_type == _BPE:
    vocab = {piece: i for i, piece in enumerate(named)}
    model = _byte_pairs(vocab, _merges(pieces), named[unknown], bytes_too)
  else:
    scored = [[said, piece.score] for said, piece in zip(named, pieces, strict=True)]
    model = {'type': 'Unigram', 'unk_id': unknown, 'vocab': scored, 'byte_fallback': bytes_too}
  return _whole(
    vocabulary,
    special,
    added_tokens=sorted(added, key=lambda entry: entry['id']),
    normalizer=_normalizer(text),
    pre_tokenizer=_pre_tokenizer() if text.add_dummy_prefix else None,
    decoder=_decoder(text.add_dummy_prefix, None if bytes_too else named[unknown]),
    model=model,
  )


def _normalizer(text: Any) -> dict[str, Any] | None:
  steps: list[dict[str, Any]] = []
  if text.precompiled_charsmap:
    charsmap = base64.b64encode(text.precompiled_charsmap).decode()
    steps.append({'type': 'Precompiled', 'precompiled_charsmap': charsmap})
  if text.remove_extra_whitespaces:
    steps.append({'type': 'Strip', 'strip_left': True, 'strip_right': True})
    steps.append(_replace({'Regex': ' {2,}'}, ' '))
  return _sequence('normalizers', [*steps, _replace(' ', _BLANK)])


def _pre_tokenizer() -> dict[str, Any]:
  """A blank in front of a text, whatever it begins with, and of nothing that follows a special token.

  `Metaspace` leaves out the blank where there is one already, and SentencePiece does not: so the first of these looks
  for, and puts, a space, of which there is none left, and the second makes a blank of it.
  """
  metaspace = lambda replacement, scheme: {
    'type': 'Metaspace',
    'replacement': replacement,
    'prepend_scheme': scheme,
    'split': False,
  }
  return {'type': 'Sequence', 'pretokenizers': [metaspace(' ', 'first'), metaspace(_BLANK, 'never')]}


def _decoder(prefixed: bool, unknown: str | None) -> dict[str, Any] | None:
  steps = [_replace(_BLANK, ' '), {'type': 'ByteFallback'}, {'type': 'Fuse'}]
  if unknown is not None:
    steps.insert(0, _replace(unknown, f' {_LITERAL} '))  # as SentencePiece shows it
  if prefixed:
    steps.append({'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0})
  return _sequence('decoders', steps)


def _merges(pieces: list) -> list[list[str]]:
  """Which pieces merge into which, best first: all ways to cut each ordinary piece in two others, by its score."""
  normal = {piece.piece: i for i, piece in enumerate(pieces) if piece.type == _NORMAL}
  order = sorted((-pieces[i].score, i, piece) for piece, i in normal.items() if len(piece) > 1)
  merges: list[list[str]] = []
  for _, _, piece in order:
    cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
    known = [cut for cut in cuts if cut[0] in normal and cut[1] in normal]
    merges += [list(cut) for cut in sorted(known, key=lambda cut: (normal[cut[0]], normal[cut[1]]))]
  return merges
