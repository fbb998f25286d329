"""Data sets with prompts that any corpus of documents gives: topic, title, what a text is about, how it begins.

None needs a download: a document's title and label, and the text itself, are the answers. Question and answer are of
one document, so documents that are held out give held-out examples. The last prompt of each is held out too.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence

from ..corpora import Document
from .prompt import Prompt

_WORDS = 40  # of a text that are read: rows may be short
_OTHERS = 3  # wrong titles beside the right one
_SENTENCE = re.compile(r'(?<=[a-z0-9)][.!?])\s')
Example = dict[str, str]


@dataclasses.dataclass(frozen=True)
class DataSet:
  """Examples of documents, and prompts over their fields.

  Attributes:
    examples: of documents, in their order.
    prompts: by name.
  """

  examples: Callable[[Sequence[Document]], list[Example]]
  prompts: dict[str, Prompt]


def _text(document: Document) -> str:
  """How it begins, without its title."""
  text, title = document['text'], document.get('title')
  text = text[len(title) :] if title and text.startswith(f'{title}\n') else text
  return ' '.join(text.split()[:_WORDS])


def _number(text: str) -> int:
  return int.from_bytes(hashlib.sha1(f'prompt {text}'.encode()).digest()[:8], 'big')


def _others(documents: Sequence[Document], document: Document, count: int) -> list[str]:
  """Titles of other documents, by a hash of this one's id."""
  start = _number(document['id'])
  found = (documents[(start + 7919 * i) % len(documents)]['title'] for i in range(8 * count))
  return [title for title in dict.fromkeys(found) if title != document['title']][:count]


def _titled(documents: Sequence[Document]) -> list[Document]:
  return [one for one in documents if one.get('title') and _text(one)]


def _topic(documents: Sequence[Document]) -> list[Example]:
  """The label that came with a document, among all labels."""
  labelled = [one for one in documents if one.get('label')]
  choices = '|||'.join(sorted({one['label'] for one in labelled}))
  return [{'id': one['id'], 'text': _text(one), 'answer': one['label'], 'choices': choices} for one in labelled]


def _title(documents: Sequence[Document]) -> list[Example]:
  titled = _titled(documents)
  return [
    {
      'id': one['id'],
      'text': _text(one),
      'answer': one['title'],
      'choices': '|||'.join([one['title'], *_others(titled, one, _OTHERS)]),
    }
    for one in titled
  ]


def _about(documents: Sequence[Document]) -> list[Example]:
  """A document's own title, or another's with the same chance."""
  titled, found = _titled(documents), []
  for one in titled:
    other = _others(titled, one, 1)
    is_own = _number(f'own {one["id"]}') % 2 == 0 or not other
    title = one['title'] if is_own else other[0]
    found.append({'id': one['id'], 'text': _text(one), 'title': title, 'answer': 'yes' if is_own else 'no'})
  return found


def _opening(documents: Sequence[Document]) -> list[Example]:
  """The first sentence behind a title; an open question."""
  return [
    {'id': one['id'], 'title': one['title'], 'answer': _SENTENCE.split(_text(one))[0]} for one in _titled(documents)
  ]


DATA_SETS = {
  'topic': DataSet(
    _topic,
    {
      'topic_is': Prompt('{text}\n\nThe topic of this text is', choices='{choices}'),
      'which': Prompt('{text}\n\nWhich topic is this text about?', choices='{choices}'),
      'filed': Prompt('{text}\n\nAn editor would file this text under', choices='{choices}', held_out=True),
    },
  ),
  'title': DataSet(
    _title,
    {
      'title_is': Prompt('{text}\n\nThe title of this text is', choices='{choices}'),
      'give': Prompt('{text}\n\nGive this text a title.', choices='{choices}'),
      'called': Prompt('{text}\n\nWhat is this text called?', choices='{choices}', held_out=True),
    },
  ),
  'about': DataSet(
    _about,
    {
      'is_about': Prompt('{text}\n\nIs this text about {title}?', choices='yes ||| no'),
      'title_fits': Prompt('{text}\n\nDoes the title {title} fit this text?', choices='yes ||| no'),
      'describes': Prompt('{text}\n\nDoes this text describe {title}?', choices='yes ||| no', held_out=True),
    },
  ),
  'opening': DataSet(
    _opening,
    {
      'first': Prompt('Write the first sentence of a text on {title}.'),
      'begins': Prompt('How does a text on {title} begin?'),
      'describe': Prompt('Describe {title} in a sentence.', held_out=True),
    },
  ),
}
