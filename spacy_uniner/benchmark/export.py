"""Give a split as `.spacy`, for `spacy train` and others who want annotated documents."""

from pathlib import Path
from typing import Iterable

import spacy
from spacy.tokens import Doc, DocBin
from spacy.util import filter_spans

from .examples import Example
from .running import make_doc


def save_docs(examples: Iterable[Example], path: Path) -> int:
    """Write passages with their entities; all spans, nested ones included, are under
    `doc.spans["gold"]`.

    examples (Iterable[Example]): The passages. path (Path): A .spacy file.
    RETURNS (int): Spans that are not in `doc.ents`, as they are nested in another.
    """
    nlp, packed, nested = spacy.blank("en"), DocBin(), 0
    for example in examples:
        doc: Doc = make_doc(nlp, example)
        spans = [
            doc.char_span(start, end, label=kind, alignment_mode="expand")
            for start, end, kind in example.spans
        ]
        doc.spans["gold"] = [span for span in spans if span is not None]
        doc.ents = filter_spans(doc.spans["gold"])
        nested += len(example.spans) - len(doc.ents)
        packed.add(doc)
    packed.to_disk(path)
    return nested
