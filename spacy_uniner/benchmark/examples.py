"""Test passages with named types: raw files read, labels put in words, passages drawn."""

import random
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from ..errors import Errors
from .fetching import find_files
from .readers import Row, read_part
from .registry import TestSet
from .score import Span


class Example(NamedTuple):
    """A passage of a test set.

    number (int): Its place in the split. text (str): The passage.
    spans (List[Span]): First character, last + 1, type; sorted, none twice.
    is_tokenized (bool): Whether blanks separate tokens of the set.
    answers (Optional[Dict[str, List[str]]]): Type -> mentions, where places are not known.
    """

    number: int
    text: str
    spans: List[Span]
    is_tokenized: bool = False
    answers: Optional[Dict[str, List[str]]] = None


def read_split(test_set: TestSet, split: str, roots: Sequence[Path]) -> List[Example]:
    """Read a split from its raw files.

    test_set (TestSet): The set. split (str): "train", "dev" or "test".
    roots (Sequence[Path]): Where files are looked for.
    RETURNS (List[Example]): Its passages, in order.
    RAISES (FileNotFoundError): U075, if files are missing. (ValueError): U072, U073, U074,
        U076, if they are others, can't be read, hold other labels, or nothing.
    """
    paths = find_files(test_set, split, roots)
    rows = list(read_part(test_set.reader, test_set.options, paths, split))
    if not rows:
        raise ValueError(
            Errors.U076.format(split=split, name=test_set.name, path=str(paths[0]))
        )
    return [_named(test_set, i, row, paths[0]) for i, row in enumerate(rows)]


def _named(test_set: TestSet, number: int, row: Row, path: Path) -> Example:
    """Put labels in words, and leave out those that nobody could ask for."""
    for label in {*(span[2] for span in row.spans), *(row.answers or {})}:
        if label not in test_set.labels:
            raise ValueError(
                Errors.U074.format(
                    label=label,
                    path=str(path),
                    name=test_set.name,
                    known=", ".join(test_set.labels),
                )
            )
    kept = {k: t for k, t in test_set.labels.items() if k not in test_set.left_out}
    spans = {(start, end, kept[raw]) for start, end, raw in row.spans if raw in kept}
    answers = row.answers
    if answers is not None:
        answers = {kept[raw]: found for raw, found in answers.items() if raw in kept}
    return Example(number, row.text, sorted(spans), row.is_tokenized, answers)


def draw(
    examples: List[Example], *, n_types: int, pairs: int, seed: int
) -> List[Example]:
    """Draw passages, so that all questions about them are few enough.

    examples (List[Example]): All passages. n_types (int): Questions to each.
    pairs (int): Largest number of (passage, type) pairs. seed (int): Of the draw.
    RETURNS (List[Example]): Passages, in order.
    """
    n = max(1, pairs // max(1, n_types))
    if len(examples) <= n:
        return examples
    return sorted(random.Random(seed).sample(examples, n))
