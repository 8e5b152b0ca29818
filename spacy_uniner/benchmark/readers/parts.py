"""The part of a set that a split is, where its files do not tell: shuffled by a seed, cut.

Knows nothing of formats.
"""

import random
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence, TypeVar, Union

from .row import Row, readers

PARTS = ("train", "dev", "test")
Share = Union[int, float]  # a count, or a fraction if below 1
Item = TypeVar("Item")


def read_part(
    reader: str, options: Mapping[str, Any], paths: Sequence[Path], split: str
) -> Iterator[Row]:
    """Read the passages of a split.

    reader (str): Name of what reads the files.
    options (Mapping[str, Any]): Its settings. Under "split", for a set without splits
        of its own, those of `split_rows`; with `documents`, those of `split_files`.
    paths (Sequence[Path]): The files of the split, or of the whole set.
    split (str): "train", "dev" or "test".
    YIELDS (Row): Passages, in the order of the files.
    RAISES (ValueError): U073, with file and line, if one can't be read.
    """
    settings = dict(options)
    shares = dict(settings.pop("split", {}))
    read = readers.get(reader)(**settings)
    if not shares:
        return read(paths)
    if shares.pop("documents", False):
        return read(split_files(paths, split, **shares))
    return iter(split_rows(list(read(paths)), split, **shares))


def split_rows(
    rows: Sequence[Item],
    split: str,
    *,
    dev: Share,
    test: Share,
    seed: int = 0,
    order: Sequence[str] = PARTS,
) -> List[Item]:
    """Choose the passages of a split.

    rows (Sequence): All passages of the set.
    split (str): "train", "dev" or "test".
    dev, test (Union[int, float]): Size: a count, or a fraction if below 1. Fractions
        are rounded up, that of dev together with that of test.
    seed (int): Of the shuffle.
    order (Sequence[str]): In which the parts are cut from what was shuffled.
    RETURNS (List): The passages of the split, in their order.
    """
    total = len(rows)
    is_share = test < 1
    n_test = ceil(round(total * test, 6)) if is_share else int(test)
    n_both = ceil(round(total * (dev + test), 6)) if is_share else int(dev + test)
    sizes = {"train": total - n_both, "dev": n_both - n_test, "test": n_test}
    shuffled = list(range(total))
    random.Random(seed).shuffle(shuffled)
    start = sum(sizes[part] for part in order[: order.index(split)])
    return [rows[i] for i in sorted(shuffled[start : start + sizes[split]])]


def split_files(
    paths: Sequence[Path],
    split: str,
    *,
    dev: Share,
    test: Share,
    seed: int = 0,
    order: Sequence[str] = PARTS,
) -> List[Path]:
    """Choose the files of a split: documents stay whole, and each folder of them gives
    its share.

    paths (Sequence[Path]): All files of the set. Those that differ in their ending only
        are one document.
    split (str): "train", "dev" or "test".
    dev, test, seed, order: As for `split_rows`, of the documents of each folder.
    RETURNS (List[Path]): The files of the split, by name.
    """
    kept: List[Path] = []
    for _, folder in groupby(sorted(paths), key=lambda path: path.parent):
        files = list(folder)
        documents = sorted({path.with_suffix("") for path in files})
        chosen = set(
            split_rows(documents, split, dev=dev, test=test, seed=seed, order=order)
        )
        kept += [path for path in files if path.with_suffix("") in chosen]
    return kept
