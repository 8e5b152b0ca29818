"""Draw passages from a stream of any length: each distinct one once, all alike.

Bottom-k sampling: a passage's rank is a hash of its text, and those of lowest rank
are kept. So a sample is uniform over distinct passages, needs one pass and a fixed
amount of memory, does not depend on the order, and takes no exact copy twice.
Knows nothing of files, languages or test sets.
"""

import heapq
import math
from collections import Counter
from hashlib import blake2b
from typing import Dict, Iterator, List, NamedTuple, Set

import numpy as np

from .shingles import Hashes, Runs, find_words, hash_words

SHINGLE = 5  # words
ALIKE = 0.8  # of the shingles of two passages together, both have this share
PERMUTATIONS = 64
UPPER_HALF = np.uint64(32)  # bits; datasketch takes 32-bit hashes
SPARE = 1.25  # passages kept, for each that is wanted, as near-duplicates will go


class Passage(NamedTuple):
    """A passage and where it stands.

    rank (int): Hash of what it says; copies have the same.
    text (str): The passage.
    source (str): Its document.
    offset (int): Where it begins, in characters of the document.
    """

    rank: int
    text: str
    source: str
    offset: int


def rank_text(text: str, seed: int) -> int:
    """Hash what a text says, whatever its case and its blanks.

    text (str): The text.
    seed (int): Another seed draws another sample.
    RETURNS (int): 64 bits.
    """
    said = " ".join(text.casefold().split()).encode("utf8")
    return int.from_bytes(
        blake2b(said, digest_size=8, key=b"%d" % seed).digest(), "big"
    )


class Sample:
    """The passages of lowest rank of all that were offered."""

    def __init__(self, quota: int) -> None:
        """Begin.

        quota (int): Passages wanted in the end; some more are kept.
        """
        self.quota = quota
        self.size = math.ceil(quota * SPARE)
        self._kept: Dict[int, Passage] = {}
        self._heap: List[int] = []  # negative ranks: the highest comes first

    def __contains__(self, rank: int) -> bool:
        """RETURNS (bool): Whether a passage that says the same is kept."""
        return rank in self._kept

    def __iter__(self) -> Iterator[Passage]:
        """YIELDS (Passage): What is kept, lowest rank first."""
        yield from sorted(self._kept.values())

    def admits(self, rank: int) -> bool:
        """RETURNS (bool): Whether a passage of this rank would be kept now."""
        if len(self._heap) < self.size:
            return True
        return bool(self._heap) and rank < -self._heap[0]

    def add(self, passage: Passage) -> bool:
        """Keep a passage that is admitted and not contained.

        passage (Passage): The passage.
        RETURNS (bool): Whether another had to go for it.
        """
        self._kept[passage.rank] = passage
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, -passage.rank)
            return False
        del self._kept[-heapq.heappushpop(self._heap, -passage.rank)]
        return True


class NearDuplicates:
    """Tells whether a passage is nearly the same as one before."""

    def __init__(self) -> None:
        """Begin with no passage."""
        from datasketch import MinHash, MinHashLSH

        self._index = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS)
        self._blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self._texts: List[str] = []

    def add(self, text: str) -> bool:
        """Add a passage, unless it is nearly the same as one before.

        text (str): The passage.
        RETURNS (bool): Whether it was added.
        """
        shingles = _shingle(text)
        if not len(shingles):
            return True
        sketch = self._blank.copy()
        sketch.update_batch((shingles >> UPPER_HALF).tolist())
        mine = set(shingles.tolist())
        for number in self._index.query(sketch):
            if _overlap(mine, set(_shingle(self._texts[number]).tolist())) >= ALIKE:
                return False
        self._index.insert(len(self._texts), sketch, check_duplication=False)
        self._texts.append(text)
        return True


def _shingle(text: str) -> Hashes:
    """RETURNS (Hashes): The runs of five words; of all words if they are fewer."""
    hashes = hash_words(find_words(text))
    return Runs(hashes).of_length(min(SHINGLE, len(hashes)) or 1)


def _overlap(one: Set[int], other: Set[int]) -> float:
    """RETURNS (float): Jaccard similarity."""
    return len(one & other) / len(one | other)


def choose(samples: Dict[str, Sample], counts: Dict[str, Counter]) -> List[Passage]:
    """Choose from what was kept: no near-duplicates, and no more than wanted.

    samples (Dict[str, Sample]): Source -> its sample.
    counts (Dict[str, Counter]): Source -> where passages are counted by what became
        of them: "duplicates", "near_duplicates", "over_quota", "kept".
    RETURNS (List[Passage]): The passages of all sources, lowest rank first.
    """
    rows = sorted((p.rank, name, p) for name in samples for p in samples[name])
    near_duplicates = NearDuplicates()
    chosen: List[Passage] = []
    for rank, name, passage in rows:
        if counts[name]["kept"] >= samples[name].quota:
            counts[name]["over_quota"] += 1
        elif chosen and chosen[-1].rank == rank:  # the copy is of another source
            counts[name]["duplicates"] += 1
        elif not near_duplicates.add(passage.text):
            counts[name]["near_duplicates"] += 1
        else:
            counts[name]["kept"] += 1
            chosen.append(passage)
    return chosen
