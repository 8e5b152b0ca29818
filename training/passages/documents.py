"""Read documents: files and folders in, one document after the other out.

Reads plain text and JSON lines, gzipped or not, and spaCy's `.spacy`. Whatever is
wrong with a file is written down and the rest goes on. Holds one block of a file
in memory, except that a `.spacy` file is read whole. Cuts no passages.

Plain text comes in two layouts. Where lines are wrapped (there are blank lines, and
most lines have at most 120 characters), a document ends at a blank line; else each
line is a document. The first 64 KiB decide.
"""

import codecs
import gzip
import itertools
import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from statistics import median
from typing import Callable, Dict, Iterator, List, Tuple, Union

from ..files import SURROGATE, InputError, read_rows

BLOCK = 1 << 16  # bytes read at a time, at least
LONGEST = 1 << 20  # characters; longer documents come in pieces
WRAPPED = 120  # characters; longer lines were not wrapped by an editor
BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


@dataclass(frozen=True)
class Document:
    """A document, or a piece of a very long one.

    text (str): As it stands in the file.
    source (str): File, "#", and its number in the file, from 1.
    start (int): Where the piece begins, in characters of the document.
    """

    text: str
    source: str
    start: int = 0


@dataclass
class Faults:
    """What could not be read.

    files (Dict[str, str]): File -> why the rest of it was left out.
    rows (Counter): Kind of fault -> rows and documents left out.
    other (int): Files of other formats, in folders.
    """

    files: Dict[str, str] = field(default_factory=dict)
    rows: Counter = field(default_factory=Counter)
    other: int = 0


def list_files(path: Path, faults: Faults) -> List[Path]:
    """List what can be read.

    path (Path): A file, or a folder that is searched to any depth, but not behind
        links to folders.
    faults (Faults): Where the rest is written down.
    RETURNS (List[Path]): The files, sorted.
    RAISES (InputError): If there is no such path, or it is a file of another format.
    """
    if path.is_file():
        if not _reader_of(path):
            raise InputError(
                f"{path} is of no format that can be read. Give files that end in "
                f"{', '.join(READERS)}, or a folder."
            )
        return [path]
    if not path.is_dir():
        raise InputError(f"There is no file or folder {path}.")
    files = []

    def note(error: OSError) -> None:
        name = os.fsencode(error.filename).decode("utf8", "replace")
        faults.files[name] = error.strerror or repr(error)

    for folder, _, names in os.walk(path, onerror=note):
        for file in (Path(folder, name) for name in names):
            if _reader_of(file) and file.is_file():
                files.append(file)
            else:
                faults.other += 1
    return sorted(files)


def read_documents(
    path: Path, name: str, faults: Faults, *, field: str = "text"
) -> Iterator[Document]:
    """Read the documents of a file.

    path (Path): The file; its name tells the format.
    name (str): What the file is called in sources and in faults.
    faults (Faults): Where faults are written down.
    field (str): Where the text stands in JSON lines.
    YIELDS (Document): What is not blank. What precedes a fault of the file counts.
    """
    reader = READERS[_reader_of(path)]
    number = 0
    try:
        for text, start in reader(path, faults, field):
            number += not start
            if fault := _fault_of(text):
                faults.rows[fault] += 1
            elif text.strip():
                yield Document(text, f"{name}#{number}", start)
    except (OSError, EOFError, zlib.error, InputError) as error:
        faults.files[name] = getattr(error, "strerror", None) or str(error)


def _reader_of(path: Path) -> str:
    """RETURNS (str): The ending that tells how a file is read; empty if none does."""
    known = (s for s in READERS if path.name.endswith(s))
    return "" if path.name.startswith(".") else next(known, "")


def _fault_of(text: str) -> str:
    """RETURNS (str): What makes a text unusable; empty if nothing does."""
    if "\0" in text:
        return "binary (a NUL character)"
    if not text.isascii() and SURROGATE.search(text):
        return "an unpaired surrogate"
    return ""


Pieces = Iterator[Tuple[str, int]]  # text, and where it begins in its document


def _read_text(path: Path, faults: Faults, field: str) -> Pieces:
    with _open(path) as stream:
        blocks = _decode(_blocks(stream))
        first = next(blocks, "")
        lines = _lines(itertools.chain([first], blocks))
        yield from _join_lines(lines, _is_wrapped(first))


def _read_json_lines(path: Path, faults: Faults, field: str) -> Pieces:
    for row in read_rows(path, fields=[field], faults=faults.rows):
        if isinstance(row[field], str):
            yield row[field], 0
        else:
            faults.rows[f"{field} is no text"] += 1


def _read_docs(path: Path, faults: Faults, field: str) -> Pieces:
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    try:
        docs = DocBin().from_bytes(path.read_bytes()).get_docs(Vocab())
        yield from ((doc.text, 0) for doc in docs)
    except (zlib.error, LookupError, TypeError, ValueError) as error:
        raise InputError(f"no DocBin of spaCy: {error}") from None


READERS: Dict[str, Callable[[Path, Faults, str], Pieces]] = {
    ".txt": _read_text,
    ".txt.gz": _read_text,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".spacy": _read_docs,
}


def _open(path: Path) -> Union[gzip.GzipFile, BufferedReader]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _blocks(stream: Union[gzip.GzipFile, BufferedReader]) -> Iterator[bytes]:
    """YIELDS (bytes): At least 64 KiB, or the end, also what precedes a torn end."""
    data, fault = b"", None
    try:
        while more := stream.read1(BLOCK):
            data += more
            if len(data) >= BLOCK:
                yield data
                data = b""
    except (OSError, EOFError, zlib.error) as error:
        fault = error
    if data:
        yield data
    if fault:
        raise fault


def _decode(blocks: Iterator[bytes]) -> Iterator[str]:
    """YIELDS (str): The characters of each block.

    RAISES (InputError): If they are not UTF-8, with the place.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0  # bytes, without those that the decoder holds back
    for block in itertools.chain(blocks, [b""]):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            yield error.object[: error.start].decode("utf8")
            raise InputError(f"not UTF-8 at byte {done + error.start}") from None
        yield text if done else text.removeprefix("\ufeff")
        done += held + len(block) - len(decoder.getstate()[0])


def _is_wrapped(beginning: str) -> bool:
    """RETURNS (bool): Whether blank lines, and not lines, tell documents apart."""
    lengths = [len(line) for line in beginning.split("\n") if line.strip()]
    has_blank_line = BLANK_LINE.search(beginning.strip()) is not None
    return has_blank_line and median(lengths) <= WRAPPED


def _lines(blocks: Iterator[str]) -> Iterator[str]:
    """YIELDS (str): A line with its end; a very long one in parts."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        yield from (line + "\n" for line in lines)
        while len(rest) > LONGEST:
            end = rest.rfind(" ", 0, LONGEST) + 1 or LONGEST
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _join_lines(lines: Iterator[str], is_wrapped: bool) -> Pieces:
    """Make documents of lines, and pieces of documents that are very long."""
    parts: List[str] = []
    size = start = 0  # characters
    for line in lines:
        is_blank = line.isspace()
        if is_blank and not parts and not start:
            continue
        parts.append(line)
        size += len(line)
        is_whole = line.endswith("\n")
        is_end = is_blank if is_wrapped else is_whole
        if is_end or not is_whole or size >= LONGEST:
            yield "".join(parts), start
            start = 0 if is_end else start + size
            parts, size = [], 0
    if parts:
        yield "".join(parts), start
