"""What the file of a shard holds: JSON lines, a `DocBin`, or a Parquet table.

Each collects documents one by one, in encoded form, and gives the bytes of a file.
Writes nothing.
"""

import json
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Protocol, Tuple

from ..errors import Errors
from ..visual import span_scores

if TYPE_CHECKING:
    from spacy.tokens import Doc

UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)


def to_row(doc: "Doc") -> Dict[str, Any]:
    """Describe a document in the test set format, with probabilities.

    doc (Doc): An annotated document.
    RETURNS (Dict[str, Any]): "text", "spans" (first character, last + 1, label) and
        "scores", which are null where a component told none.
    """
    scores = span_scores(doc)
    spans = [[e.start_char, e.end_char, e.label_] for e in doc.ents]
    found = [scores.get((e.start, e.end, e.label_)) for e in doc.ents]
    known = [None if score is None else round(score, 4) for score in found]
    return {"text": doc.text, "spans": spans, "scores": known}


class Shelf(Protocol):
    """What collects the documents of a shard."""

    def add(self, number: int, doc: "Doc", meta: Dict[str, Any]) -> None:
        """Take a document.

        number (int): Its place in the whole input, from 0.
        doc (Doc): The document, annotated.
        meta (Dict[str, Any]): Other keys of the row it comes from.
        RAISES (TypeError, ValueError, OverflowError, RecursionError): If it can't be
            encoded; it is left out then.
        """

    def to_bytes(self) -> bytes:
        """RETURNS (bytes): A file of all documents, by number."""


class JsonLines:
    """A row a document: {"number", "text", "spans", "scores", "meta"}."""

    def __init__(self) -> None:
        self._rows: List[Tuple[int, bytes]] = []

    def add(self, number: int, doc: "Doc", meta: Dict[str, Any]) -> None:
        row = {"number": number, **to_row(doc), **({"meta": meta} if meta else {})}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        self._rows.append((number, line.encode("utf8")))

    def to_bytes(self) -> bytes:
        return b"".join(line for _, line in sorted(self._rows))


class DocBinFile:
    """A `DocBin` with number and meta in `doc.user_data`."""

    def __init__(self) -> None:
        from spacy.tokens import DocBin

        self._bin = DocBin(store_user_data=True)
        self._numbers: List[int] = []

    def add(self, number: int, doc: "Doc", meta: Dict[str, Any]) -> None:
        import srsly

        doc.user_data["number"] = number
        if meta:
            doc.user_data["meta"] = meta
        # or a document that can't be packed would be half in the DocBin
        srsly.msgpack_dumps(doc.user_data)
        self._bin.add(doc)
        self._numbers.append(number)

    def to_bytes(self) -> bytes:
        from spacy.tokens import DocBin
        from spacy.vocab import Vocab

        if self._numbers != sorted(self._numbers):
            pairs = zip(self._numbers, self._bin.get_docs(Vocab()))
            docs = [doc for _, doc in sorted(pairs, key=lambda pair: pair[0])]
            self._bin = DocBin(docs=docs, store_user_data=True)
            self._numbers.sort()
        return self._bin.to_bytes()


class Parquet:
    """A row a document, as in JSON lines; meta as JSON text."""

    def __init__(self) -> None:
        check_format("parquet")
        self._rows: List[Dict[str, Any]] = []

    def add(self, number: int, doc: "Doc", meta: Dict[str, Any]) -> None:
        row = to_row(doc)
        told = zip(row["spans"], row["scores"])
        spans = [
            {"start": start, "end": end, "label": label, "score": score}
            for (start, end, label), score in told
        ]
        kept = json.dumps(meta, ensure_ascii=False) if meta else None
        self._rows.append(
            {"number": number, "text": row["text"], "spans": spans, "meta": kept}
        )

    def to_bytes(self) -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        span = {"start": pa.int32(), "end": pa.int32(), "label": pa.string()}
        columns = {
            "number": pa.int64(),
            "text": pa.string(),
            "spans": pa.list_(pa.struct({**span, "score": pa.float32()})),
            "meta": pa.string(),
        }
        rows = sorted(self._rows, key=lambda row: row["number"])
        table = pa.Table.from_pylist(rows, schema=pa.schema(columns))
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink)
        return sink.getvalue().to_pybytes()


FORMATS: Dict[str, Callable[[], Shelf]] = {
    "jsonl": JsonLines,
    "spacy": DocBinFile,
    "parquet": Parquet,
}


def check_format(name: str) -> None:
    """Check that files of a format can be written here.

    name (str): The format.
    RAISES (ValueError): U014, if there is none of that name. (ImportError): U038, if
        a package is missing that it needs.
    """
    if name not in FORMATS:
        message = Errors.U014.format(setting="format", allowed=(*FORMATS,), found=name)
        raise ValueError(message)
    if name == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as e:
            message = Errors.U038.format(
                package="pyarrow", purpose="Parquet files", install="pyarrow"
            )
            raise ImportError(message) from e
