"""Read an input of any size record by record, without looking into the records.

A line of text, a line of JSON or a document of a `DocBin` is a record. Holds one
record in memory, except that a `.spacy` file is read whole. What a record means, and
whether it is any good, is for `documents.py` to say, where many workers can.
"""

import gzip
import os
import zlib
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from ..errors import Errors

# what a record is: a line of text or of JSON, a document in bytes, or a reason why not
TEXT, JSON, DOC, FAULT = "text", "json", "doc", "fault"
KINDS = {
    ".txt": TEXT,
    ".txt.gz": TEXT,
    ".jsonl": JSON,
    ".jsonl.gz": JSON,
    ".spacy": DOC,
}
MAX_LINE = 16 << 20  # bytes; a longer line is set aside unread
TORN = (EOFError, zlib.error, gzip.BadGzipFile)


class Source(NamedTuple):
    """A file of the input.

    path (Path): Where it is.
    size (int): Its size, in bytes.
    modified (int): When it was last changed, in nanoseconds since 1970.
    """

    path: Path
    size: int
    modified: int

    @property
    def identity(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): What tells it from a file that was changed. Not
        its folder: a corpus may be moved."""
        return {
            "file": self.path.name,
            "bytes": self.size,
            "modified_ns": self.modified,
        }


class Record(NamedTuple):
    """A document that was not looked into yet.

    number (int): Its place in the whole input, from 0.
    file (str): The file it comes from.
    line (int): Its line there, or its number in a `.spacy` file, from 1.
    kind (str): "text", "json", "doc", or "fault": then there is none.
    content (bytes): The line, the document, or the reason.
    position (int): How far the input was read to get it, in bytes of the files.
    """

    number: int
    file: str
    line: int
    kind: str
    content: bytes
    position: int


def find_sources(inputs: Iterable[Path], output: Path) -> List[Source]:
    """List the files of an input, each once.

    inputs (Iterable[Path]): Files, in the order given, and folders, searched to any
        depth and sorted; hidden files, and links to folders, are left out there.
    output (Path): The folder that is written; what lies in it is no input.
    RETURNS (List[Source]): The files.
    RAISES (ValueError): U110, if an input is no such file, or a folder without any.
    """
    found: Dict[Path, Source] = {}
    ours = output.resolve()
    for given in inputs:
        paths = [given] if given.is_file() else _list_folder(given)
        paths = [p for p in paths if kind_of(p) and ours not in p.resolve().parents]
        if not paths:
            allowed = ", ".join(KINDS)
            raise ValueError(Errors.U110.format(path=str(given), allowed=allowed))
        for path in paths:
            state = path.stat()
            source = Source(path, state.st_size, state.st_mtime_ns)
            found.setdefault(path.resolve(), source)
    return list(found.values())


def kind_of(path: Path) -> str:
    """RETURNS (str): The kind of record a file holds, by its ending; or ""."""
    return next((kind for end, kind in KINDS.items() if path.name.endswith(end)), "")


def _list_folder(folder: Path) -> List[Path]:
    paths = [Path(at, name) for at, _, names in os.walk(folder) for name in names]
    return sorted(p for p in paths if not p.name.startswith(".") and p.is_file())


def read_records(sources: Iterable[Source]) -> Iterator[Record]:
    """Read the records of files. Blank lines are none; what can't be read of a file
    is one of the kind "fault".

    sources (Iterable[Source]): The files.
    YIELDS (Record): One record.
    RAISES (ValueError): U060, if a file can't be opened, or the disk fails.
    """
    number = before = 0
    for source in sources:
        kind = kind_of(source.path)
        read = _read_docs if kind == DOC else _read_lines
        name = str(source.path)
        try:
            for line, fault, content, at in read(source):
                as_kind = FAULT if fault else kind
                data = fault.encode("utf8") if fault else content
                yield Record(number, name, line, as_kind, data, before + at)
                number += 1
        except OSError as e:
            raise ValueError(Errors.U060.format(path=name, reason=e)) from e
        before += source.size


# line, why there is none, its content, how far the file was read
Read = Iterator[Tuple[int, str, bytes, int]]


def _read_lines(source: Source) -> Read:
    with source.path.open("rb") as raw:
        is_gzip = source.path.suffix == ".gz"
        stream: IO[bytes] = gzip.open(raw) if is_gzip else raw  # type: ignore[assignment]
        number = 0
        try:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    _skip_line(stream, line)
                    fault = f"the line is longer than {MAX_LINE >> 20} MiB"
                    yield number, fault, b"", raw.tell()
                elif line.strip():
                    yield number, "", line, raw.tell()
        except TORN as e:
            fault = f"the file is damaged from here on: {e}"
            yield number + 1, fault, b"", source.size


def _skip_line(stream: IO[bytes], line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE)


def _read_docs(source: Source) -> Read:
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    data = source.path.read_bytes()
    number = 0
    try:
        bin = DocBin().from_bytes(data)
        for number, doc in enumerate(bin.get_docs(Vocab()), 1):
            yield number, "", doc.to_bytes(), source.size * number // len(bin)
    except (zlib.error, LookupError, TypeError, ValueError) as e:
        fault = f"the file is no DocBin, or damaged from here on: {e}"
        yield number + 1, fault, b"", source.size
