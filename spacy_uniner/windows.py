"""Cut a document into passages that fit the student, and lose nothing.

Long documents become overlapping windows, cut at the end of a sentence where
there is one, else between tokens, else (a token longer than a window) between
characters. Knows nothing of prompts or models but how long a text is.
"""

from dataclasses import dataclass
from typing import Callable, Dict, List

from spacy.tokens import Doc

from .types import Passage

SENTENCE_ENDS = frozenset(".!?…。！？")


@dataclass(frozen=True)
class Unit:
    """A stretch of text that is not cut.

    start, end (int): In characters of the document, trailing blanks included.
    size (int): In the student's tokens.
    opens (bool): Whether a sentence begins here.
    """

    start: int
    end: int
    size: int
    opens: bool


def make_windows(
    doc: Doc,
    count_tokens: Callable[[str], int],
    *,
    max_tokens: int,
    overlap: int,
) -> List[Passage]:
    """Cut a document into passages.

    doc (Doc): The document.
    count_tokens (Callable[[str], int]): Length of a text in the student's tokens.
    max_tokens (int): Longest passage, in the student's tokens.
    overlap (int): What neighbours share at least, in the student's tokens, as far
        as units allow; half a window at most.
    RETURNS (List[Passage]): Passages that together cover all but blank text;
        none for a blank document.
    """
    text = doc.text
    if not text.strip():
        return []
    # no token is shorter than a byte, so short texts need no counting
    if len(text.encode("utf8")) <= max_tokens or count_tokens(text) <= max_tokens:
        return [Passage(text, 0)]
    units = _make_units(doc, count_tokens, max_tokens)
    overlap = min(overlap, max_tokens // 2)  # or windows would hardly advance
    passages: List[Passage] = []
    first = 0
    while first < len(units):
        last = _fill(units, first, max_tokens)
        if last < len(units):
            last = _back_to_sentence(units, first, last)
        start, end = units[first].start, units[last - 1].end
        read = text[start:end].removesuffix(" ")  # the blank was not measured
        if read.strip():
            passages.append(Passage(read, start))
        if last >= len(units):
            break
        first = _step_back(units, first, last, overlap)
    return passages


def _make_units(
    doc: Doc, count_tokens: Callable[[str], int], max_tokens: int
) -> List[Unit]:
    """Measure each token, and cut the ones that fit no window."""
    sizes: Dict[str, int] = {}
    units: List[Unit] = []
    has_sentences = doc.has_annotation("SENT_START")
    opens, blank = True, ""
    for token in doc:
        # a blank belongs to the piece that follows it
        read, written = blank + token.text, token.text_with_ws
        before, blank = blank, token.whitespace_
        if read not in sizes:
            sizes[read] = count_tokens(read)
        start, size = token.idx, sizes[read]
        opens = bool(token.is_sent_start) if has_sentences else opens
        if size <= max_tokens:
            units.append(Unit(start, start + len(written), size, opens))
        else:
            units += _split_token(before, written, start, count_tokens, max_tokens)
        opens = token.text[-1] in SENTENCE_ENDS or "\n" in token.text
    return units


def _split_token(
    blank: str,
    written: str,
    start: int,
    count_tokens: Callable[[str], int],
    max_tokens: int,
) -> List[Unit]:
    """Cut an over-long token into stretches of a quarter of a window. The blank
    before it is measured with the first."""
    units = []
    at = 0
    while at < len(written):
        size = max(1, max_tokens // 4)
        while size > 1 and count_tokens(blank + written[at : at + size]) > max_tokens:
            size //= 2
        part = written[at : at + size]
        end = start + at + len(part)
        units.append(Unit(start + at, end, count_tokens(blank + part), False))
        at += len(part)
        blank = ""
    return units


def _fill(units: List[Unit], first: int, max_tokens: int) -> int:
    """Find how far a window reaches: the unit after its last."""
    room, last = max_tokens, first
    while last < len(units) and units[last].size <= room:
        room -= units[last].size
        last += 1
    return max(last, first + 1)


def _back_to_sentence(units: List[Unit], first: int, last: int) -> int:
    """Move the end of a window back to a sentence, but by no more than a half."""
    for end in range(last, first + (last - first) // 2, -1):
        if units[end].opens:
            return end
    return last


def _step_back(units: List[Unit], first: int, last: int, overlap: int) -> int:
    """Find where the next window begins: before the cut, but after this one's start."""
    begin, shared = last, 0
    while begin - 1 > first and shared < overlap:
        begin -= 1
        shared += units[begin].size
    return begin
