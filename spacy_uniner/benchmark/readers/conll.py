"""Columns: one token a line with its tag, passages parted by blank lines.

Reads BIO, IOB1, IOB2, IOBES, BILOU and IO tags alike, separated by tabs, blanks or
commas. Leaves what a label means to the set.
"""

import csv
from pathlib import Path
from typing import Container, Iterator, List, Literal, Optional, Sequence, Tuple

from .row import Reader, Row, Span, join_tokens, malformed, read_lines, readers

DOCUMENT = "-DOCSTART-"
OPENING = ("B", "S", "U")  # begin a mention, whatever stands before
INSIDE = ("I", "M", "E", "L")  # go on with a mention of the same label, or begin one
CLOSING = ("S", "U", "E", "L")  # end a mention

Line = Tuple[str, str, int]  # token, tag, number of the line


@readers.register("spacy-uniner.conll.v1")
def make_conll(
    *,
    separator: Optional[str] = None,
    token: int = 0,
    tag: int = -1,
    row: Literal["sentence", "document"] = "sentence",
    headers: Sequence[str] = (),
    comment: str = "",
    ignored: Sequence[str] = (),
    bare: bool = False,
) -> Reader:
    """Create a reader of column files.

    separator (Optional[str]): Between columns. None for a tab where a line has one,
        and any white space where it has none.
    token (int): Column of the token, counted from 0.
    tag (int): Column of the tag; -1 for the last.
    row (str): What a passage is: a "sentence" ends at a blank line or at a line with
        an empty token, a "document" at -DOCSTART- only.
    headers (Sequence[str]): Passages that begin with one of these tokens are dropped.
    comment (str): Lines that begin so are dropped; empty for none.
    ignored (Sequence[str]): Tags that are errors of the source, read as "O".
    bare (bool): Whether tags are labels without a prefix.
    RETURNS (Reader): The reader.
    """
    prefix = "I-" if bare else ""
    nothing = {"O", "o", *ignored}

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            lines = _read_columns(path, separator, token, tag, comment)
            for passage in _part(lines, row):
                if passage[0][0] not in headers:
                    tags = [
                        (w, t if t in nothing else prefix + t, n) for w, t, n in passage
                    ]
                    spans = decode(path, tags, nothing)
                    yield join_tokens([found for found, _, _ in passage], spans)

    return read


@readers.register("spacy-uniner.conll-layers.v1")
def make_conll_layers(*, separator: Optional[str] = None) -> Reader:
    """Create a reader of nested mentions: all files of a split are column files with
    the same tokens, and each adds its mentions.

    separator (Optional[str]): As for `make_conll`.
    RETURNS (Reader): The reader.
    """
    read_layer = make_conll(separator=separator)

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        layers = [list(read_layer([path])) for path in paths]
        for number in range(max(map(len, layers), default=0)):
            rows = [layer[number] for layer in layers if number < len(layer)]
            texts = {row.text for row in rows}
            if len(rows) < len(layers) or len(texts) > 1:
                reason = f"its passage {number + 1} is not in all of the files"
                raise malformed(paths[0], 1, reason)
            spans = sorted({span for row in rows for span in row.spans})
            yield rows[0]._replace(spans=spans)

    return read


def _read_columns(
    path: Path, separator: Optional[str], token: int, tag: int, comment: str
) -> Iterator[Line]:
    """YIELDS (Tuple[str, str, int]): Token, tag, line; the token is empty where a
    sentence ends."""
    for number, line in read_lines(path):
        if comment and line.startswith(comment):
            continue
        if not line.strip():
            yield "", "", number
            continue
        if line.startswith(DOCUMENT):
            yield DOCUMENT, "", number
            continue
        columns = _split(path, number, line, separator)
        if len(columns) < 2 or not -len(columns) <= tag < len(columns) > token:
            reason = f"{len(columns)} column(s), which are too few for token and tag"
            raise malformed(path, number, reason)
        yield columns[token], columns[tag], number


def _split(path: Path, number: int, line: str, separator: Optional[str]) -> List[str]:
    """RETURNS (List[str]): The columns of a line."""
    if separator != ",":
        return line.split("\t" if separator is None and "\t" in line else separator)
    try:
        return next(csv.reader([line]))
    except csv.Error as err:
        raise malformed(path, number, f"no cells ({err})") from err


def _part(lines: Iterator[Line], row: str) -> Iterator[List[Line]]:
    """YIELDS (List[Tuple[str, str, int]]): The lines of each passage that has any."""
    passage: List[Line] = []
    for found in lines:
        if found[0] and found[0] != DOCUMENT:
            passage.append(found)
        elif passage and (row == "sentence" or found[0] == DOCUMENT):
            yield passage
            passage = []
    if passage:
        yield passage


def decode(
    path: Path, passage: Sequence[Line], nothing: Container[str] = ("O", "o")
) -> List[Span]:
    """Find the mentions of a passage, whatever dialect its tags are.

    path (Path): Where it is from.
    passage (Sequence[Tuple[str, str, int]]): Token, tag, line.
    nothing (Container[str]): Tags outside of mentions.
    RETURNS (List[Tuple[int, int, str]]): First token, last + 1, raw label.
    RAISES (ValueError): U073, if a tag is none.
    """
    spans: List[Span] = []
    is_open = False
    for at, (_, tag, number) in enumerate(passage):
        if tag in nothing:
            is_open = False
            continue
        prefix, _, label = tag.partition("-")
        if not label or prefix not in OPENING + INSIDE:
            raise malformed(path, number, f"{tag!r} is no tag such as O, B-X or I-X")
        if is_open and prefix in INSIDE and spans[-1][2] == label:
            spans[-1] = (spans[-1][0], at + 1, label)
        else:
            spans.append((at, at + 1, label))
        is_open = prefix not in CLOSING
    return spans
