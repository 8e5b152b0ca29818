"""Read what a teacher wrote: a list of (mention, type) tuples, however it is spelled.

Python tuples, JSON lists and JSON objects all occur, with prose around them and cut
ends. Nothing is ever evaluated, and nothing raises. Knows nothing of passages:
whether a mention stands in the text is decided in `cleaning`.
"""

import re
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Dict, List, Tuple

MAX_CHARS = 65_536  # characters of an answer that are looked at
MAX_TUPLES = 1000  # tuples of an answer that are kept
LIST = re.compile(r"\[\s*(?=[\[({\]\"'])")  # "[1]" is none
MORE = re.compile(r"\[\s*(?=[\[({])")
OPENING, CLOSING = "([{", ")]}"
MENTION_KEYS = {"entity", "mention", "name", "text", "word", "span", "value"}
TYPE_KEYS = {"type", "types", "label", "labels", "category", "class", "entity_type"}
# an apostrophe is part of a string unless something follows that ends one
SINGLE_QUOTED = re.compile(
    r"'((?:[^'\\]|\\.|'(?!\s*[,\])}:]))*)'(?=\s*[,\])}:])", re.DOTALL
)
DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Tuples:
    """What was read from an answer.

    pairs (Tuple[Tuple[str, str], ...]): (mention, type or definition), in order.
    unreadable (int): Groups that are no pair; 1 for an answer without a list.
    truncated (bool): Whether the list has no end, or too many; an unfinished pair is
        dropped.
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


@dataclass
class _Group:
    """A group that is open: its strings, and those of objects by key."""

    is_object: bool
    strings: List[str] = field(default_factory=list)
    values: Dict[str, List[str]] = field(default_factory=dict)
    inner: List[str] = field(default_factory=list)
    key: str = ""

    def add(self, text: str, *, is_key: bool) -> None:
        if self.is_object and is_key:
            self.key = text.lower()
        elif self.is_object:
            self.values.setdefault(self.key, []).append(text)
        else:
            self.strings.append(text)

    def take(self, inner: "_Group") -> bool:
        """Take a list of types that stands in a pair; false if it is none."""
        if not inner.strings or inner.is_object or inner.inner:
            return False
        if self.is_object and self.key in TYPE_KEYS:
            self.values.setdefault(self.key, []).extend(inner.strings)
            return True
        if not self.is_object and len(self.strings) == 1:
            self.inner = inner.strings
            return True
        return False

    def pairs(self) -> List[Tuple[str, str]]:
        """RETURNS (List[Tuple[str, str]]): A mention with each of its types."""
        if not self.is_object:
            kinds = self.inner or self.strings[1:]
            fits = len(self.strings) == (1 if self.inner else 2)
            found = [(self.strings[0], kind) for kind in kinds] if fits else []
        else:
            types = [v for k, v in self.values.items() if k in TYPE_KEYS]
            names = [v for k, v in self.values.items() if k in MENTION_KEYS]
            fits = len(types) == 1 and len(names) == 1 and len(names[0]) == 1
            found = [(names[0][0], kind) for kind in types[0]] if fits else []
        return [pair for pair in found if all(pair)]


def read_tuples(text: str) -> Tuples:
    """Read an answer.

    text (str): What the teacher wrote.
    RETURNS (Tuples): The pairs that it lists; of all its lists, if it has several.
    """
    text = text[:MAX_CHARS]
    begin = LIST.search(text)
    if not begin:
        return Tuples(unreadable=1)
    pairs: List[Tuple[str, str]] = []
    unreadable, at = 0, begin.end()
    groups: List[_Group] = []  # those that are open, inmost last
    while at < len(text) and len(pairs) < MAX_TUPLES:
        char = text[at]
        if char in "\"'":
            string, end = _read_string(text, at)
            if not end:
                break
            if groups:
                is_key = text[end : end + 10].lstrip().startswith(":")
                groups[-1].add(string.strip(), is_key=is_key)
            else:
                unreadable += 1
            at = end
            continue
        at += 1
        if char in OPENING:
            groups.append(_Group(char == "{"))
        elif char in CLOSING and groups:
            group = groups.pop()
            if not (groups and groups[-1].take(group)):
                found = group.pairs()
                pairs += found
                unreadable += not found and bool(group.strings or group.values)
        elif char in CLOSING:
            more = MORE.search(text, at)
            if not more:
                return Tuples(tuple(pairs), unreadable)
            at = more.end()
    return Tuples(tuple(pairs[:MAX_TUPLES]), unreadable, truncated=True)


def _read_string(text: str, at: int) -> Tuple[str, int]:
    """Read the string that opens at a quote, of JSON or of Python.

    RETURNS (Tuple[str, int]): The string, and where it ends; 0 if it never does.
    """
    if text[at] == '"':
        try:
            # not strict: models write raw line breaks
            return scanstring(text, at + 1, False)
        except ValueError:
            match = DOUBLE_QUOTED.match(text, at)
    else:
        match = SINGLE_QUOTED.match(text, at)
    return (ESCAPE.sub(_unescape, match[1]), match.end()) if match else ("", 0)


def _unescape(match: "re.Match[str]") -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else ESCAPED.get(match[3], match[3])
