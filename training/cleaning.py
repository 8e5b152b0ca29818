"""Clean a teacher's answers: the paper's filters, and one name for each type.

Dropped: answers that can't be read, mentions that are not in English, types that
say nothing, mentions that are not in the passage; what stands there in another
spelling is repaired. Everything dropped or changed is counted by reason. Knows
nothing of sampling.

SOURCE: arXiv 2308.03279, section 3.1 ("Data processing").
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional

from spacy_uniner.align import find_exact, find_folded, fold
from spacy_uniner.prompt import MAX_TYPE_CHARS, is_printable_phrase

from .files import InputError, read_rows
from .sets import Labelled
from .tuples import read_tuples
from .turns import in_order

# types that say nothing of what they hold
VAGUE = frozenset(
    "none na n/a nan null nil misc misc. miscellaneous else other others unknown "
    "undefined unspecified entity entities thing type concept x".split()
)
MAX_MENTION = 200  # characters; longer ones are sentences, not mentions
BLANKS = re.compile(r"[\s_]+")


@dataclass(frozen=True)
class Cleaning:
    """How answers are cleaned.

    english (bool): Drop mentions whose letters are not Latin, as the paper does.
    repair (bool): Take a mention that stands in the passage in another spelling
        (case, blanks, Unicode forms) as it stands there.
    merge (Dict[str, str]): Type -> the type that it is called by instead.
    definitions (bool): Types are sentences; their case is kept.
    """

    english: bool = True
    repair: bool = True
    merge: Dict[str, str] = field(default_factory=dict)
    definitions: bool = False


def read_merges(path: Optional[Path]) -> Dict[str, str]:
    """Read a list of types that are called by another name.

    path (Optional[Path]): JSON lines of {"type", "merge_into"}; none for none.
    RETURNS (Dict[str, str]): Type -> its name, both as `canonical` spells them.
    RAISES (InputError): If a name is itself merged into another.
    """
    rows = read_rows(path, fields=["type", "merge_into"]) if path else []
    merges = {canonical(r["type"]): canonical(r["merge_into"]) for r in rows}
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

    row (dict): The answer, with what the teacher wrote ("raw") or with what was
        read from it ("entities").
    cleaning (Cleaning): How.
    counts (Counter): What was kept, repaired and dropped, and why; added to.
    RETURNS (Optional[Labelled]): The passage with its mentions; none if the whole
        answer is of no use.
    """
    counts["answers"] += 1
    pairs = row.get("entities")
    status = row.get("status", "ok")
    if pairs is None and isinstance(row.get("raw"), str):
        tuples = read_tuples(row["raw"])
        pairs, status = [list(pair) for pair in tuples.pairs], tuples.status
    if not isinstance(pairs, list) or status not in ("ok", "truncated"):
        counts[f"answer dropped: {status if pairs is not None else 'no list'}"] += 1
        return None
    counts[f"answer {status}"] += 1
    text, found = row["text"], {}  # type: str, Dict[str, List[str]]
    for entry in pairs:
        # more than one type may follow a mention
        if not isinstance(entry, (list, tuple)) or len(entry) < 2:
            counts["dropped: no pair"] += 1
            continue
        mention = _clean_mention(text, entry[0], cleaning, counts)
        for kind in entry[1:] if mention else ():
            name = _clean_type(kind, cleaning, counts)
            if name and mention:
                known = found.setdefault(name, [])
                counts["mentions" if mention not in known else "named twice"] += 1
                known.append(mention)
    return Labelled(text, in_order(text, found))


def _clean_mention(
    text: str, mention: object, cleaning: Cleaning, counts: Counter
) -> str:
    """RETURNS (str): The mention as it stands in the passage; "" if it is dropped."""
    if not isinstance(mention, str) or not mention.strip():
        counts["dropped: no mention"] += 1
        return ""
    mention = mention.strip()
    if len(mention) > MAX_MENTION:
        counts["dropped: too long"] += 1
        return ""
    if cleaning.english and not is_latin(mention):
        counts["dropped: not English"] += 1
        return ""
    if find_exact(text, mention):
        return mention
    places = find_folded(text, fold(text), mention) if cleaning.repair else []
    if not places:
        counts["dropped: not in the passage"] += 1
        return ""
    counts["repaired"] += 1
    return text[slice(*places[0])].strip()


def _clean_type(kind: object, cleaning: Cleaning, counts: Counter) -> str:
    """RETURNS (str): The name of the type; "" if it is dropped."""
    if not isinstance(kind, str):
        counts["dropped: no type"] += 1
        return ""
    name = canonical(kind)
    name = cleaning.merge.get(name, name)
    if name in VAGUE or not name:
        counts["dropped: vague type"] += 1
        return ""
    if cleaning.definitions:
        name = BLANKS.sub(" ", kind).strip()
    if not is_printable_phrase(name, MAX_TYPE_CHARS) or "?" in name:
        counts["dropped: type that can't be asked"] += 1
        return ""
    return name


def is_latin(mention: str) -> bool:
    """Tell whether a mention could stand in English text.

    mention (str): A mention.
    RETURNS (bool): Whether most of its letters are Latin, or Greek ones beside
        others ("β-carotene"); true without letters.
    """
    letters = [c for c in mention if c.isalpha()]
    latin = sum("LATIN" in unicodedata.name(c, "") for c in letters)
    return 2 * latin >= len(letters) or mention.isascii() or len(letters) == 1
