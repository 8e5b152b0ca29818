"""Standoff: text and, apart from it, mentions by characters (PubTator, brat).

Reads mentions only; relations and events are for others.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from .row import (
    Reader,
    Row,
    Span,
    check_span,
    malformed,
    read_lines,
    read_text,
    readers,
)
from .sentences import cut_row, split_sentences

MENTION = re.compile(r"T\S*\t(\S+) (\d+) ([\d; ]*?)(\d+)(?:\t|$)")


@readers.register("spacy-uniner.pubtator.v1")
def make_pubtator(*, sentences: bool = True) -> Reader:
    """Create a reader of PubTator files.

    sentences (bool): Whether a passage is a sentence; else it is a title or abstract.
    RETURNS (Reader): The reader.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            for title, abstract, spans in _read_abstracts(path):
                text = f"{title} {abstract}"
                bounds = [(0, len(title)), (len(title) + 1, len(text))]
                for bound in bounds:
                    found = next(cut_row(text, spans, [bound]))
                    yield from _cut(found, sentences)

    return read


@readers.register("spacy-uniner.brat.v1")
def make_brat(
    *, sentences: bool = False, dropped_suffixes: Sequence[str] = ()
) -> Reader:
    """Create a reader of brat files: each `x.txt` among the files has its mentions in
    `x.ann`. A passage is a line.

    sentences (bool): Whether lines are split into sentences.
    dropped_suffixes (Sequence[str]): Endings that are cut off from labels.
    RETURNS (Reader): The reader.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            if path.suffix == ".txt":
                text = read_text(path)
                spans = _read_mentions(path.with_suffix(".ann"), text, dropped_suffixes)
                lines = [m.span() for m in re.finditer(r"[^\n]*\S[^\n]*", text)]
                for line in cut_row(text, spans, lines):
                    yield from _cut(line, sentences)

    return read


def _cut(row: Row, sentences: bool) -> Iterator[Row]:
    """YIELDS (Row): The sentences of a row, or itself, without blanks at the edges."""
    text = row.text
    bounds = split_sentences(text, row.spans) if sentences else [(0, len(text))]
    return cut_row(text, row.spans, bounds)


def _read_abstracts(path: Path) -> Iterator[Tuple[str, str, List[Span]]]:
    """YIELDS (Tuple[str, str, List[Tuple[int, int, str]]]): Title, abstract, mentions;
    one blank lies between title and abstract."""
    parts: Dict[str, str] = {}
    spans: List[Span] = []
    for number, line in read_lines(path):
        head = re.match(r"(\w+)\|([ta])\|", line)
        if head and head[2] == "t" and parts:
            yield parts["t"], parts.get("a", ""), spans
            parts, spans = {}, []
        if head:
            parts[head[2]] = line[head.end() :]
        elif line.strip():
            text = f"{parts.get('t', '')} {parts.get('a', '')}"
            spans += _read_mention(path, number, line.split("\t"), text)
    if parts:
        yield parts["t"], parts.get("a", ""), spans


def _read_mention(path: Path, number: int, columns: List[str], text: str) -> List[Span]:
    """RETURNS (List[Tuple[int, int, str]]): The mention of a line; none if the line
    tells of a relation."""
    if len(columns) >= 4 and not columns[1].isdigit():
        return []
    if len(columns) < 5 or not columns[2].isdigit():
        raise malformed(path, number, "neither a text, a mention nor a relation")
    span = (int(columns[1]), int(columns[2]), columns[4])
    return [check_span(path, number, span, text)]


def _read_mentions(path: Path, text: str, suffixes: Sequence[str]) -> List[Span]:
    """RETURNS (List[Tuple[int, int, str]]): The mentions of a brat file, but for those
    in several pieces."""
    spans = []
    for number, line in read_lines(path):
        if not line.startswith("T"):
            continue
        found = MENTION.match(line)
        if not found:
            raise malformed(
                path, number, "no mention such as 'T1<TAB>LABEL 0 3<TAB>abc'"
            )
        label, start, pieces, end = found.groups()
        for suffix in suffixes:
            label = label.removesuffix(suffix)
        span = check_span(path, number, (int(start), int(end), label), text)
        if ";" not in pieces:
            spans.append(span)
    return spans
