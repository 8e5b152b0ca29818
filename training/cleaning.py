"""Clean a teacher's answers: the paper's filters, and one name for each type.

Dropped: answers that can't be read, mentions and types that are not in English,
types that say nothing, mentions that are not in the passage; what stands there in
another spelling is repaired. Everything dropped or changed is counted by reason. Knows
nothing of sampling.

SOURCE: arXiv 2308.03279, section 3.1 ("Data processing").
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from spacy_uniner.align import find_exact, find_folded, fold
from spacy_uniner.prompt import MAX_TYPE_CHARS, is_printable_phrase

from .files import SURROGATE, InputError, read_rows
from .sets import Labelled
from .tuples import read_tuples
from .turns import in_order

# types that say nothing of what they hold
VAGUE = frozenset(
    "none na n/a nan null nil misc misc. miscellaneous else other others unknown "
    "undefined unspecified entity entities".split()
)
MAX_MENTION = 200  # characters; longer ones are sentences, not mentions
BLANKS = re.compile(r"[\s_]+")


@dataclass(frozen=True)
class Cleaning:
    """How answers are cleaned.

    english (bool): Drop mentions and types whose letters are not Latin, as the paper
        drops what is not English.
    repair (bool): Take a mention that stands in the passage in another spelling
        (case, blanks, Unicode forms) as it stands there.
    definitions (bool): Types are sentences; their case is kept.
    merge (Dict[str, str]): Type -> the type that it is called by instead.
    """

    english: bool = True
    repair: bool = True
    definitions: bool = False
    merge: Dict[str, str] = field(default_factory=dict)


def read_merges(path: Optional[Path]) -> Dict[str, str]:
    """Read a list of types that are called by another name.

    path (Optional[Path]): JSON lines of {"type", "merge_into"}; none for none.
    RETURNS (Dict[str, str]): Type -> its name, both as `canonical` spells them.
    RAISES (InputError): If a name is itself merged into another.
    """
    rows = read_rows(path, fields=["type", "merge_into"]) if path else []
    pairs = [(canonical(r["type"]), canonical(r["merge_into"])) for r in rows]
    merges = {kind: name for kind, name in pairs if kind != name}
    chained = sorted(set(merges.values()) & set(merges))
    if chained:
        raise InputError(f"{path} merges into {chained[0]!r}, which it also merges.")
    return merges


def canonical(kind: str) -> str:
    """Spell a type as all others are spelled.

    kind (str): A type as a teacher wrote it.
    RETURNS (str): In lower case, with single blanks, without quotes at its ends.
    """
    return BLANKS.sub(" ", kind).strip(" \"'`.,;:").lower()


def clean_answer(row: dict, cleaning: Cleaning, counts: Counter) -> Optional[Labelled]:
    """Clean one answer.

    row (dict): The answer: with what the teacher wrote ("raw"), which is read again,
        or with what it names ("entities").
    cleaning (Cleaning): How.
    counts (Counter): What was kept, repaired and dropped, and why; added to.
    RETURNS (Optional[Labelled]): The passage with its mentions; none if the whole
        answer is of no use.
    """
    counts["answers"] += 1
    entries, status = _read_entries(row, counts)
    if not is_text(row["text"]):
        status = "no text"
    if status not in ("ok", "truncated"):
        counts[f"answer dropped: {status}"] += 1
        return None
    counts[f"answer {status}"] += 1
    passage = _Passage(row["text"], cleaning, counts)
    for entry in entries:
        # more than one type may follow a mention
        if not isinstance(entry, (list, tuple)) or len(entry) < 2:
            counts["dropped: no pair"] += 1
        else:
            passage.add(entry[0], entry[1:])
    return passage.labelled(cut=status == "truncated")


def _read_entries(row: dict, counts: Counter) -> Tuple[list, str]:
    """RETURNS (Tuple[list, str]): What an answer lists, and its status."""
    status = row.get("status", "ok")
    if isinstance(row.get("raw"), str) and status in ("ok", "truncated", "unreadable"):
        tuples = read_tuples(row["raw"])
        counts["dropped: no pair"] += tuples.unreadable
        # the end of a list that was cut may look whole
        return list(tuples.pairs), "truncated" if status[0] == "t" else tuples.status
    entities = row.get("entities")
    if status in ("ok", "truncated") and not isinstance(entities, list):
        return [], "no list"
    return entities, status


def is_text(text: object) -> bool:
    """RETURNS (bool): Whether something is a string that can be written to a file."""
    return isinstance(text, str) and not SURROGATE.search(text)


class _Passage:
    """A passage, and what is found of what was said about it."""

    def __init__(self, text: str, cleaning: Cleaning, counts: Counter) -> None:
        self.text, self.cleaning, self.counts = text, cleaning, counts
        self.found: Dict[str, Dict[str, None]] = {}  # sets that keep their order
        self.doubtful: Dict[str, None] = {}
        self.folded: Optional[Tuple[str, List[int]]] = None

    def add(self, mention: object, kinds: List[object]) -> None:
        """Add a mention with its types, as far as they are of use."""
        place = self._place(mention)
        for kind in kinds:
            name, reason = self._name(kind)
            if name and place:
                known = self.found.setdefault(name, {})
                self.counts["named twice" if place in known else "mentions"] += 1
                known[place] = None
            elif name:  # it is there, but nobody knows where
                self.doubtful[name] = None
            elif place:
                self.counts[f"dropped: {reason}"] += 1

    def labelled(self, *, cut: bool) -> Labelled:
        """RETURNS (Labelled): All that was added."""
        found = {kind: list(places) for kind, places in self.found.items()}
        doubtful = [kind for kind in self.doubtful if kind not in found]
        return Labelled(
            self.text, in_order(self.text, found), doubtful=doubtful, cut=cut
        )

    def _place(self, mention: object) -> str:
        """RETURNS (str): The mention as it stands in the passage; "" if dropped."""
        if not is_text(mention) or not str(mention).strip():
            self.counts["dropped: no mention"] += 1
            return ""
        mention = str(mention).strip()
        if len(mention) > MAX_MENTION:
            self.counts["dropped: too long"] += 1
            return ""
        if self.cleaning.english and not is_latin(mention):
            self.counts["dropped: not English"] += 1
            return ""
        if find_exact(self.text, mention):
            return mention
        if self.cleaning.repair:
            self.folded = self.folded or fold(self.text)
            places = find_folded(self.text, self.folded, mention)
            repaired = self.text[slice(*places[0])].strip() if places else ""
            if repaired:
                self.counts["repaired"] += 1
                return repaired
        self.counts["dropped: not in the passage"] += 1
        return ""

    def _name(self, kind: object) -> Tuple[str, str]:
        """RETURNS (Tuple[str, str]): The name of the type, or "" and what is wrong."""
        if not is_text(kind):
            return "", "no type"
        name = canonical(str(kind))
        if name in self.cleaning.merge:
            name = self.cleaning.merge[name]
        elif self.cleaning.definitions:
            name = BLANKS.sub(" ", str(kind)).strip()
        if not name or name in VAGUE:
            return "", "vague type"
        if self.cleaning.english and not is_latin(name):
            return "", "type not English"
        if not is_printable_phrase(name, MAX_TYPE_CHARS) or "?" in name:
            return "", "type that can't be asked"
        return name, ""


def is_latin(phrase: str) -> bool:
    """Tell whether a phrase could stand in English text.

    phrase (str): A mention or a type.
    RETURNS (bool): Whether at least half of its letters are Latin ("β-carotene"), or
        it is a single Greek one; true without letters.
    """
    letters = [unicodedata.name(c, "") for c in phrase if c.isalpha()]
    latin = sum("LATIN" in name or name == "MICRO SIGN" for name in letters)
    is_symbol = len(letters) == 1 and letters[0].startswith("GREEK")
    return 2 * latin >= len(letters) or is_symbol
