"""spaCy's own binary files: a `DocBin` with docs and their entities."""

from pathlib import Path
from typing import Iterator, Sequence

from spacy.tokens import DocBin
from spacy.vocab import Vocab

from .row import Reader, Row, malformed, readers


@readers.register("spacy-uniner.docbin.v1")
def make_docbin(*, spans_key: str = "") -> Reader:
    """Create a reader of `.spacy` files.

    spans_key (str): Group of `doc.spans` that holds the mentions, which may be nested;
        empty for `doc.ents`.
    RETURNS (Reader): The reader.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            try:
                docs = DocBin().from_bytes(path.read_bytes())
            except (ValueError, TypeError, KeyError) as err:
                raise malformed(path, 1, f"no DocBin ({err!r})") from err
            for doc in docs.get_docs(Vocab()):
                found = doc.spans.get(spans_key, []) if spans_key else doc.ents
                spans = sorted((e.start_char, e.end_char, e.label_) for e in found)
                yield Row(doc.text, spans)

    return read
