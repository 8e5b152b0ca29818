"""What every reader gives and is made of: passages, lines of a file, what is wrong.

Knows no format.
"""

import csv
import gzip
import zlib
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Protocol, Sequence, Tuple

import catalogue

from ...errors import Errors

Span = Tuple[int, int, str]  # first, last + 1, raw label
readers = catalogue.create("spacy_uniner", "readers", entry_points=True)


class Row(NamedTuple):
    """A passage as its set has it.

    text (str): The passage. If it was published as tokens, they are joined by blanks.
    spans (List[Tuple[int, int, str]]): First character, last + 1, raw label; sorted.
    is_tokenized (bool): Whether blanks separate tokens of the set.
    answers (Optional[Dict[str, List[str]]]): For sets that tell strings, not places:
        type -> its mentions, as published.
    """

    text: str
    spans: List[Span]
    is_tokenized: bool = False
    answers: Optional[Dict[str, List[str]]] = None


class Reader(Protocol):
    """What reads the files of a split."""

    def __call__(self, paths: Sequence[Path]) -> Iterator[Row]:
        """Read files.

        paths (Sequence[Path]): The files, in the order of the set's description.
        YIELDS (Row): Passages, in the order of the files.
        RAISES (ValueError): U073, with file and line, if one can't be read.
        """


def malformed(path: Path, line: int, reason: str) -> ValueError:
    """Make the error that names a file and a line.

    path (Path): The file. line (int): Counted from 1. reason (str): What is wrong.
    RETURNS (ValueError): U073, to be raised.
    """
    return ValueError(Errors.U073.format(line=line, path=str(path), reason=reason))


def read_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """Read a text file, packed by gzip or not. Only line feeds end a line: tokens may
    be any other character that Unicode calls a line break.

    path (Path): The file, in UTF-8.
    YIELDS (Tuple[int, str]): Number, counted from 1, and line without its end.
    RAISES (ValueError): U073, if the file is damaged or a line is not UTF-8.
    """
    lines = read_text(path).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        yield number, line.rstrip("\r")


def read_text(path: Path) -> str:
    """Read a whole text file. Line ends stay as they are, since offsets count them.

    path (Path): The file, in UTF-8, packed by gzip or not.
    RETURNS (str): Its text.
    RAISES (ValueError): U073, if the file is damaged or a line is not UTF-8.
    """
    found = path.read_bytes()
    if path.suffix == ".gz":
        try:
            found = gzip.decompress(found)
        except (gzip.BadGzipFile, EOFError, zlib.error) as err:
            raise malformed(path, 1, f"the archive is damaged ({err})") from err
    try:
        return found.decode("utf8").removeprefix("\ufeff")
    except UnicodeDecodeError as err:
        number = found.count(b"\n", 0, err.start) + 1
        raise malformed(path, number, f"it is not UTF-8 ({err})") from err


def read_table(path: Path, *columns: str) -> Iterator[Tuple[int, List[str]]]:
    """Read a table with a header, its cells parted by commas.

    path (Path): The file, in UTF-8, packed by gzip or not.
    columns (str): Names of the columns to read.
    YIELDS (Tuple[int, List[str]]): Last line of a row, and its cells of those columns.
    RAISES (ValueError): U073, if a row has no such cells.
    """
    table = csv.DictReader(read_text(path).splitlines(keepends=True))
    try:
        for cells in table:
            found = [cells.get(column) for column in columns]
            texts = [text for text in found if text is not None]
            if len(texts) < len(columns):
                reason = f"no columns {', '.join(columns)}"
                raise malformed(path, table.line_num, reason)
            yield table.line_num, texts
    except csv.Error as err:
        raise malformed(path, table.line_num, f"no row of a table ({err})") from err


def join_tokens(tokens: Sequence[str], spans: Sequence[Span]) -> Row:
    """Join tokens by single blanks.

    tokens (Sequence[str]): The tokens of a passage.
    spans (Sequence[Tuple[int, int, str]]): First token, last + 1, raw label.
    RETURNS (Row): The passage, with spans in characters.
    """
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token) + 1
    found = [
        (starts[a], starts[b - 1] + len(tokens[b - 1]), raw) for a, b, raw in spans
    ]
    return Row(" ".join(tokens), sorted(found), is_tokenized=True)


def check_span(path: Path, line: int, span: Span, text: Sequence[str]) -> Span:
    """RETURNS (Tuple[int, int, str]): The span, if it lies in the text (or tokens).
    RAISES (ValueError): U073, if it does not."""
    start, end, label = span
    if not 0 <= start < end <= len(text):
        reason = f"span {start}-{end} does not lie within 0-{len(text)}"
        raise malformed(path, line, reason)
    return start, end, label
