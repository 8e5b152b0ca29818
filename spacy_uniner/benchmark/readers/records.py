"""Records: passages as JSON objects or rows of a table, with their mentions.

Reads the layouts in which sets are published; a new one is a new reader.
"""

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from .conll import decode
from .row import (
    Reader,
    Row,
    Span,
    check_span,
    join_tokens,
    malformed,
    read_table,
    read_text,
    readers,
)

KINDS = [int, int, str]  # of a span: first, last + 1, label
# What makes a row of a record: path, line or place in the list, object.
Convert = Callable[[Path, int, Dict[str, Any]], Row]


@readers.register("spacy-uniner.offsets.v1")
def make_offsets(
    *, text: str = "text", tokens: str = "tokens", spans: str = "spans"
) -> Reader:
    """Create a reader of JSON (a list) or JSONL files (an object a line) with spans
    `[first, last + 1, label]` or `{"start", "end", "label"}`.

    text (str): Key of the passage; its spans count characters.
    tokens (str): Key of its tokens, where it has no text; its spans count tokens.
    spans (str): Key of its spans.
    RETURNS (Reader): The reader.
    """

    def convert(path: Path, number: int, found: Dict[str, Any]) -> Row:
        if text in found:
            return Row(found[text], _to_spans(path, number, found[spans], found[text]))
        words = found[tokens]
        return join_tokens(words, _to_spans(path, number, found[spans], words))

    return lambda paths: read_records(paths, convert)


@readers.register("spacy-uniner.tags.v1")
def make_tags(
    *,
    tags: str,
    tokens: str = "tokens",
    names: Sequence[str] = (),
    where: Optional[Dict[str, str]] = None,
) -> Reader:
    """Create a reader of JSON (a list) or JSONL files (an object a line) with tokens
    and a tag for each, as data sets on the Hugging Face Hub have them.

    tags (str): Key of the tags, such as "B-PER".
    tokens (str): Key of the tokens.
    names (Sequence[str]): The tags by number, where numbers stand for them.
    where (Optional[Dict[str, str]]): Keys and values that an object must have to be
        read, such as {"language": "en"}.
    RETURNS (Reader): The reader.
    """

    def convert(path: Path, number: int, found: Dict[str, Any]) -> Row:
        words, marks = found[tokens], found[tags]
        if len(words) != len(marks):
            reason = f"{len(words)} tokens and {len(marks)} tags"
            raise malformed(path, number, reason)
        named = [names[mark] if names else mark for mark in marks]
        passage = [(word, tag, number) for word, tag in zip(words, named)]
        return join_tokens(words, decode(path, passage))

    return lambda paths: read_records(paths, convert, where or {})


@readers.register("spacy-uniner.gliner.v1")
def make_gliner() -> Reader:
    """Create a reader of GLiNER's JSON: a list of `{"sentence", "entities": [{"name",
    "type", "pos": [first, last + 1]}]}`.

    RETURNS (Reader): The reader. A position within a word is wrong there (the string
        was searched from the left): it becomes the next one at the edges of words.
    """

    def convert(path: Path, number: int, found: Dict[str, Any]) -> Row:
        text, spans = found["sentence"], set()
        for entity in found["entities"]:
            name, start = entity["name"], entity["pos"][0]
            pattern = re.compile(rf"(?<!\S){re.escape(name)}(?!\S)")
            place = pattern.search(text, start) or pattern.search(text)
            at = place.start() if place else start
            span = (at, at + len(name), entity["type"])
            spans.add(check_span(path, number, span, text))
        return Row(text, sorted(spans), is_tokenized=True)

    return lambda paths: read_records(paths, convert)


@readers.register("spacy-uniner.csv.v1")
def make_csv(*, text: str, spans: str) -> Reader:
    """Create a reader of tables with a header, in which a cell holds the spans as JSON:
    a list of `{"start", "end", "type"}`.

    text (str): Column of the passage.
    spans (str): Column of its spans.
    RETURNS (Reader): The reader.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            for number, (body, cell) in read_table(path, text, spans):
                marks = parse(path, number, cell)
                if not isinstance(marks, list):
                    raise malformed(path, number, f"no list of spans: {cell[:40]!r}")
                yield Row(body, _to_spans(path, number, marks, body))

    return read


def read_records(
    paths: Sequence[Path], convert: Convert, where: Optional[Dict[str, str]] = None
) -> Iterator[Row]:
    """Read files that hold a list in JSON, or an object a line (JSONL).

    paths (Sequence[Path]): The files.
    convert (Callable[[Path, int, Dict[str, Any]], Row]): What makes a row of an object.
        The number is that of the line; in a list, which may be all on one line, that of
        the object.
    where (Optional[Dict[str, str]]): What an object must have to be read.
    YIELDS (Row): Passages.
    RAISES (ValueError): U073, if a file is no JSON, or its objects have another layout.
    """
    for path in paths:
        text = read_text(path)
        if text.lstrip().startswith("["):
            records = list(enumerate(parse(path, 1, text), 1))
        else:
            lines = enumerate(text.split("\n"), 1)
            records = [(n, parse(path, n, line)) for n, line in lines if line.strip()]
        for number, found in records:
            try:
                if all(found[key] == value for key, value in (where or {}).items()):
                    yield convert(path, number, found)
            except (AttributeError, IndexError, KeyError, TypeError) as err:
                reason = f"it has not the layout of the set ({err!r})"
                raise malformed(path, number, reason) from err


def parse(path: Path, line: int, text: str) -> Any:
    """Parse JSON.

    path (Path): Where it is from. line (int): Its first line there, from 1.
    text (str): The JSON.
    RETURNS (Any): What it holds.
    RAISES (ValueError): U073, if it is none.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        raise malformed(path, line + err.lineno - 1, f"no JSON ({err.msg})") from err
    except RecursionError as err:
        raise malformed(path, line, "JSON that is nested too deep") from err


def _to_spans(
    path: Path, number: int, marks: Sequence[Any], body: Sequence[str]
) -> List[Span]:
    """RETURNS (List[Tuple[int, int, str]]): Spans published as lists or objects, sorted.
    RAISES (ValueError): U073, if one is neither or lies elsewhere."""
    spans = []
    for mark in marks:
        if isinstance(mark, dict):
            label = mark.get("label", mark.get("type"))
            mark = (mark.get("start"), mark.get("end"), label)
        if not isinstance(mark, (list, tuple)) or list(map(type, mark)) != KINDS:
            raise malformed(path, number, f"no first, last + 1 and label: {mark!r}")
        spans.append(check_span(path, number, (mark[0], mark[1], mark[2]), body))
    return sorted(spans)
