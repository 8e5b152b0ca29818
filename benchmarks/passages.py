"""What is measured on: real passages of the CrossNER tests with their own types, and
joins of them to reach a length. Gold mentions play no part."""

import random
from pathlib import Path
from typing import List, Tuple

from spacy_uniner.students.local import LocalStudent
from training.sets import read_set, set_types

SETS = (
    "crossner_ai",
    "crossner_literature",
    "crossner_music",
    "crossner_politics",
    "crossner_science",
)
MORE = ("mit_movie", "mit_restaurant")  # whose types fill up long lists

Asked = Tuple[str, List[str]]


def own_questions(data: Path, n: int) -> List[Asked]:
    """Take passages as they are, each set with its own types.

    data (Path): Folder with ner/.
    n (int): How many, spread evenly over the sets.
    RETURNS (List[Asked]): Passages with types.
    """
    out: List[Asked] = []
    for name in SETS:
        folder = data / "ner" / name
        rows = list(read_set(folder, "test", spaced=True))[: n // len(SETS)]
        out += [(row.text, set_types(folder)) for row in rows]
    random.Random(0).shuffle(out)  # whoever reads a few reads of all sets
    return out


def all_types(data: Path) -> List[str]:
    """RETURNS (List[str]): The types of all sets, none twice."""
    names = [t for name in (*SETS, *MORE) for t in set_types(data / "ner" / name)]
    return list(dict.fromkeys(names))


def joined(
    data: Path, student: LocalStudent, *, n: int, n_tokens: int, n_types: int
) -> List[Asked]:
    """Join passages to a length, cut at a word.

    data (Path): Folder with ner/.
    student (LocalStudent): Whose tokens are counted.
    n (int): How many.
    n_tokens (int): Length, in tokens.
    n_types (int): Types asked about each.
    RETURNS (List[Asked]): Passages of at most, and nearly, that length.
    """
    types = all_types(data)[:n_types]
    rows = [
        r.text for s in SETS for r in read_set(data / "ner" / s, "test", spaced=True)
    ]
    words = iter(" ".join(rows).split())
    out: List[Asked] = []
    while len(out) < n:
        text, size = "", 0
        for word in words:
            more = student.count_tokens(" " + word)
            if size + more > n_tokens:
                break
            text, size = f"{text} {word}".strip(), size + more
        out.append((text, types))
    return out
