"""Read the text of an answer: a JSON list of strings, or what a model made of it.

Never raises, whatever the text. Says what it could not read. Knows nothing of
passages: whether a string stands in the text is decided in `align`.
"""

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import List, Tuple

MAX_CHARS = 8192  # characters of an answer that are looked at
MAX_ITEMS = 1000  # strings of an answer that are kept

_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.|'(?!\s*[,\]]))*)'(?=\s*[,\]])", re.DOTALL)
_SKIP = re.compile(r"[^,\[\]{}\"]+")


@dataclass(frozen=True)
class Item:
    """A string of an answer.

    text (str): The string, unescaped.
    start (int): Where its opening quote stands in the answer, in characters.
    end (int): Just past its closing quote.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Reading:
    """What was read from an answer.

    items (Tuple[Item, ...]): The strings, in order.
    unreadable (int): Things in the list that were no usable strings; 1 for an
        answer without a list.
    truncated (int): 1 if the list has no end; an unfinished last string is dropped.
    """

    items: Tuple[Item, ...] = ()
    unreadable: int = 0
    truncated: int = 0


def read_answer(text: str) -> Reading:
    """Read an answer.

    text (str): The text of an answer, after the prompt.
    RETURNS (Reading): The strings that it lists.
    """
    begin = text.find("[", 0, MAX_CHARS)
    if begin < 0:
        return Reading(unreadable=1)
    items: List[Item] = []
    unreadable, at, depth = 0, begin + 1, 1
    limit = min(len(text), MAX_CHARS)
    while at < limit and len(items) < MAX_ITEMS:
        char = text[at]
        if char in " \t\r\n,":
            at += 1
        elif char in "]}":
            depth -= 1
            at += 1
            if depth <= 0:
                return Reading(tuple(items), unreadable)
        elif char in "[{":
            depth, at, unreadable = depth + 1, at + 1, unreadable + 1
        elif char in "\"'":
            item = _read_string(text, at)
            if item is None:
                break
            if depth == 1 and _is_usable(item.text):
                items.append(item)
            else:
                unreadable += depth == 1
            at = item.end
        else:
            skipped = _SKIP.match(text, at)
            at = skipped.end() if skipped else at + 1
            unreadable += depth == 1
    return Reading(tuple(items), unreadable, truncated=1)


def read_official(text: str) -> List[str]:
    """Read an answer as the official evaluation does, faults included.

    text (str): The text of an answer.
    RETURNS (List[str]): The strings; none if anything is amiss.
    SOURCE: universal-ner/universal-ner 844e0e1, src/eval/evaluate.py
    """
    match = re.match(r"\[(.*?)\]", text)
    if not match:
        return []
    try:
        items = json.loads(match.group())
    except (ValueError, RecursionError):
        return []
    return items if all(isinstance(item, str) for item in items) else []


def _read_string(text: str, at: int) -> "Item | None":
    """Read the string that opens at a quote; None if it never ends."""
    if text[at] == "'":
        match = _SINGLE_QUOTED.match(text, at, MAX_CHARS)
        return Item(match[1].replace("\\'", "'"), at, match.end()) if match else None
    try:
        # not strict: models write raw line breaks
        value, end = scanstring(text, at + 1, False)
    except ValueError:
        return _read_badly_escaped(text, at)
    return Item(value, at, end)


def _read_badly_escaped(text: str, at: int) -> "Item | None":
    """Read a string whose escapes are no JSON, such as a Windows path, as it stands."""
    match = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(text, at, MAX_CHARS)
    return Item(match[1], at, match.end()) if match else None


def _is_usable(value: str) -> bool:
    """Whether a string could stand in a text: not blank, valid Unicode."""
    return bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)
