"""Keep passages of test sets out of training: test sets in, yes or no out.

A passage touches the tests if it shares a run of 13 words with them, or if one of
its sentences is a whole sentence of a test. Decides nothing about what is done
with such a passage; finds copies, not paraphrases.
"""

import json
import re
import zlib
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from ..files import InputError
from ..sets import read_set
from .shingles import Hashes, Runs, find_words, hash_words

NGRAM = 13  # words; SOURCE: Brown et al. 2020 (GPT-3), appendix C
SHORTEST = 5  # words; shorter sentences are common property ("I do not know.")
BATCH = 1000  # texts of a test set that are hashed together
Places = NDArray[np.intp]
SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*(?=\s|$)|\n")
FLAGS = ("table6", "zero_shot_test")  # of META.json: what figures are reported on


class Contamination:
    """What training text may not share with the tests; eight bytes a run."""

    def __init__(self, hashes: Hashes) -> None:
        """Keep hashes.

        hashes (Hashes): Of forbidden runs of words, in any order. Shape: (n_runs,)
        """
        self._table = np.unique(hashes)

    @classmethod
    def from_sets(
        cls,
        folder: Path,
        names: Optional[Sequence[str]] = None,
        splits: Sequence[str] = ("test",),
    ) -> "Contamination":
        """Read test sets.

        folder (Path): Folder of sets, each a folder with `META.json`.
        names (Optional[Sequence[str]]): The sets that training must not touch;
            None for all that `META.json` marks as "table6" or "zero_shot_test".
        splits (Sequence[str]): Which of their splits; a set may lack some.
        RETURNS (Contamination): Their runs of words.
        RAISES (InputError): If a set is not there, not readable, or has no such split.
        """
        names = list_tests(folder, splits) if names is None else names
        found = [_hash_set(folder / name, splits) for name in names]
        return cls(np.concatenate([np.empty(0, dtype=np.uint64), *found]))

    def __len__(self) -> int:
        """RETURNS (int): How many runs of words are known."""
        return len(self._table)

    def touches(self, text: str) -> bool:
        """Compare a passage with the tests.

        text (str): The passage.
        RETURNS (bool): Whether it shares a run of 13 words or a whole sentence.
        """
        if not len(self._table):
            return False
        hashes = _hash_texts([text])
        places = np.searchsorted(self._table, hashes)
        places[places == len(self._table)] = 0
        return bool((self._table[places] == hashes).any())


def list_tests(folder: Path, splits: Sequence[str]) -> List[str]:
    """List the sets that figures are reported on.

    folder (Path): Folder of sets.
    splits (Sequence[str]): The splits that are looked for.
    RETURNS (List[str]): The names of those that have such a split, sorted.
    RAISES (InputError): If there is no such folder, or no such set in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Give the folder of test sets.")
    names = []
    for path in sorted(folder.glob("*/META.json")):
        meta = _read_meta(path)
        is_test = any(meta.get(flag) is True for flag in FLAGS)
        if is_test and _find_splits(path.parent, splits):
            names.append(path.parent.name)
    if not names:
        raise InputError(
            f'No set in {folder} has "{FLAGS[0]}": true or "{FLAGS[1]}": true in its '
            "META.json. Give a folder whose folders are test sets."
        )
    return names


def _read_meta(path: Path) -> dict:
    try:
        meta = json.loads(path.read_text(encoding="utf8"))
    except ValueError:
        raise InputError(f"{path} is not JSON. Put the set there again.") from None
    return meta if isinstance(meta, dict) else {}


def _find_splits(folder: Path, splits: Sequence[str]) -> List[str]:
    return [s for s in splits if (folder / f"{s}.jsonl.gz").is_file()]


def _hash_set(folder: Path, splits: Sequence[str]) -> Hashes:
    """RETURNS (Hashes): All runs and sentences of the splits that a set has."""
    if not (folder / "META.json").is_file():
        raise InputError(f"There is no test set {folder}: it has no META.json.")
    present = _find_splits(folder, splits)
    if not present:
        raise InputError(f"{folder} has no {' or '.join(splits)} split.")
    try:
        found = [h for split in present for h in _hash_split(folder, split)]
    except (EOFError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise InputError(
            f"{folder} can't be read: {error!r}. Put the set there again."
        ) from None
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *found]))


def _hash_split(folder: Path, split: str) -> Iterator[Hashes]:
    # "do n't" and "don't" are different words: both ways of writing are kept out
    rows = (
        row
        for spaced in (True, False)
        for row in read_set(folder, split, spaced=spaced)
    )
    texts = list(dict.fromkeys(row.text for row in rows))
    for at in range(0, len(texts), BATCH):
        yield _hash_texts(texts[at : at + BATCH])


def _hash_texts(texts: Sequence[str]) -> Hashes:
    """Hash the runs of 13 words, and the sentences that are shorter.

    texts (Sequence[str]): The texts.
    RETURNS (Hashes): One hash a run. Sentences of 13 words and more need none of
        their own.
    """
    words: List[str] = []
    borders: List[int] = []  # words before each border of sentences
    last: List[int] = []  # the last border of the same text
    starts: List[Places] = []  # first words of runs
    for text in texts:
        first_word, first_border = len(words), len(borders)
        borders.append(first_word)
        for part in SENTENCE_END.split(text):
            if found := find_words(part):
                words += found
                borders.append(len(words))
        last += [len(borders) - 1] * (len(borders) - first_border)
        starts.append(np.arange(first_word, len(words) - NGRAM + 1))
    runs = Runs(hash_words(words))
    of_runs = np.concatenate(starts)
    of_sentences = _sentences(np.array(borders), np.array(last))
    return np.concatenate(
        [runs.between(of_runs, of_runs + NGRAM), runs.between(*of_sentences)]
    )


def _sentences(places: Places, last: Places) -> Tuple[Places, Places]:
    """Pair any border of sentences with any other, as "Mr. Hall left." has three.

    places (Places): Words before each border. Shape: (n_borders,)
    last (Places): The last border of the same text. Shape: (n_borders,)
    RETURNS (Tuple[Places, Places]): The first word of each stretch of 5 to 12
        words, and the word after it. Shape: (n_stretches,)
    """
    nearest = np.searchsorted(places, places + SHORTEST)
    farthest = np.minimum(np.searchsorted(places, places + NGRAM) - 1, last)
    counts = np.maximum(farthest - nearest + 1, 0)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.arange(counts.sum()) - before + np.repeat(nearest, counts)
    return np.repeat(places, counts), places[ends]
