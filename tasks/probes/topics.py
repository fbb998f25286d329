"""Classification of a corpus's documents by the labels that came with them.

The default corpus has them for Wikipedia's vital articles: the eleven topics under which its editors list them. A JSON
line of a local corpus has its 'label' (`LocalText.label_field`).
"""

from collections.abc import Iterator

from ... import UserError
from . import examples
from .examples import Example
from .material import Material

NAME = 'probe_topic'


def topic(material: Material) -> examples.ProbeTask:
  """The probe; a label that no training document has is no class, and its documents are left out.

  Raises:
    UserError: no document has a label, or all have the same.
  """
  documents = material.documents
  classes = sorted({document['label'] for document in documents['train'] if document.get('label')})
  if not classes:
    raise UserError(
      f'No training document of the corpus has a label, so there is no {NAME}; give JSON lines a "label" field '
      '(LocalText.label_field), or take another probe.'
    )
  number = {label: i for i, label in enumerate(classes)}

  def labelled(split: str) -> Iterator[Example]:
    for document in documents[split]:
      if document.get('label') in number:
        yield Example(document['id'], document['id'], (document['text'],), number[document['label']])

  parts = {split: labelled(split) for split in examples.SPLITS}
  return examples.build(NAME, 'Topic of a text', 'classification', parts, material.sizes, classes)
