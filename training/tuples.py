"""Read what a teacher wrote: a list of (mention, type) tuples, however it is spelled.

Python tuples, JSON lists and JSON objects all occur, with prose around them and cut
ends. Nothing is ever evaluated, and nothing raises. Knows nothing of passages:
whether a mention stands in the text is decided in `cleaning`.
"""

from dataclasses import dataclass
from typing import List, Tuple

from spacy_uniner.answers import read_string

MAX_CHARS = 65_536  # characters of an answer that are looked at
MAX_TUPLES = 1000  # tuples of an answer that are kept
OPENING, CLOSING = "([{", ")]}"
MENTION_KEYS = {"entity", "mention", "name", "text", "word", "span"}


@dataclass(frozen=True)
class Tuples:
    """What was read from an answer.

    pairs (Tuple[Tuple[str, str], ...]): (mention, type or definition), in order.
    unreadable (int): Groups that are no pair; 1 for an answer without a list.
    truncated (bool): Whether the list has no end; an unfinished pair is dropped.
    """

    pairs: Tuple[Tuple[str, str], ...] = ()
    unreadable: int = 0
    truncated: bool = False

    @property
    def status(self) -> str:
        """RETURNS (str): "ok", "truncated" or "unreadable", as in answer files."""
        if self.unreadable and not self.pairs:
            return "unreadable"
        return "truncated" if self.truncated else "ok"


def read_tuples(text: str) -> Tuples:
    """Read an answer.

    text (str): What the teacher wrote.
    RETURNS (Tuples): The pairs that it lists.
    """
    begin = text.find("[", 0, MAX_CHARS)
    if begin < 0:
        return Tuples(unreadable=1)
    pairs: List[Tuple[str, str]] = []
    unreadable, at = 0, begin + 1
    limit = min(len(text), MAX_CHARS)
    groups: List[List[str]] = []  # strings of the groups that are open, inmost last
    while at < limit and len(pairs) < MAX_TUPLES:
        char = text[at]
        if char in "\"'":
            item = read_string(text, at)
            if item is None:
                break
            if groups:
                groups[-1].append(item.text.replace("\\'", "'").strip())
            else:
                unreadable += 1
            at = item.end
            continue
        if char in OPENING:
            groups.append([])
        elif char in CLOSING:
            if not groups:
                return Tuples(tuple(pairs), unreadable)
            strings = groups.pop()
            pair = _as_pair(strings, is_object=char == "}")
            if all(pair):
                pairs.append(pair)
            else:
                unreadable += bool(strings)
        at += 1
    return Tuples(tuple(pairs), unreadable, truncated=True)


def _as_pair(strings: List[str], *, is_object: bool) -> Tuple[str, str]:
    """Take a mention and its type from a group; blanks if it is something else."""
    if is_object and len(strings) == 4:
        first, second = strings[:2], strings[2:]
        if second[0].lower() in MENTION_KEYS:
            first, second = second, first
        return first[1], second[1]
    return (strings[0], strings[1]) if len(strings) == 2 else ("", "")
