"""Sentences of running text, for sets that publish whole documents.

A rule and no model: the same cuts on every machine and with every version.
"""

import re
from typing import Iterator, List, Sequence, Tuple

from .row import Row, Span

CUT = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]])) +(?=[\"'(\[]?[A-Z0-9])")
ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|al|approx|ca|cf|Co|Corp|Dr|e\.g|Eqs?|Figs?|i\.e|Inc|Ltd|Mr|No|pp|Prof|Ref"
    r"|spp?|Sr|St|v|ver|Vol|vs)\.$"
)


def split_sentences(text: str, spans: Sequence[Span] = ()) -> List[Tuple[int, int]]:
    """Split after a full stop, exclamation or question mark, before a capital or digit;
    but not after an abbreviation or within a mention.

    text (str): Running text.
    spans (Sequence[Tuple[int, int, str]]): Its mentions.
    RETURNS (List[Tuple[int, int]]): First character, last + 1, without white space at
        the edges; no sentence is empty.
    """
    bounds, start = [], 0
    for cut in CUT.finditer(text):
        before, after = cut.span()
        is_short = ABBREVIATION.search(text[max(0, before - 8) : before])
        if not is_short and not any(s < after and before < e for s, e, _ in spans):
            bounds.append((start, before))
            start = after
    bounds.append((start, len(text)))
    return [_trim(text, a, b) for a, b in bounds if text[a:b].strip()]


def cut_row(
    text: str, spans: Sequence[Span], bounds: Sequence[Tuple[int, int]]
) -> Iterator[Row]:
    """Cut a document into passages.

    text (str): The document.
    spans (Sequence[Tuple[int, int, str]]): Its mentions.
    bounds (Sequence[Tuple[int, int]]): First character, last + 1 of each passage.
    YIELDS (Row): The passages. A mention that crosses a bound is in none of them.
    """
    for start, end in bounds:
        inside = [s for s in spans if start <= s[0] and s[1] <= end]
        moved = sorted((a - start, b - start, label) for a, b, label in inside)
        yield Row(text[start:end], moved)


def _trim(text: str, start: int, end: int) -> Tuple[int, int]:
    """RETURNS (Tuple[int, int]): The bounds without white space at the edges."""
    found = text[start:end]
    return end - len(found.lstrip()), start + len(found.rstrip())
