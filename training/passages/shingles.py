"""Hash runs of words: text in, one 64-bit number for each run.

The hashes are the same on every machine and in every run, so what is built on
them (near-duplicates, decontamination) is repeatable. Knows nothing of files.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import List

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint64]
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
INVERSE = pow(BASE, -1, 2**64)
REMEMBERED = 1 << 16  # words whose hash is kept


def find_words(text: str) -> List[str]:
    """RETURNS (List[str]): The words of a text, in lower case."""
    return WORD.findall(text.lower())


def hash_words(words: List[str]) -> Hashes:
    """Hash each word.

    words (List[str]): The words.
    RETURNS (Hashes): One hash a word. Shape: (n_words,)
    """
    return np.fromiter(map(_hash_word, words), dtype=np.uint64, count=len(words))


@lru_cache(maxsize=REMEMBERED)
def _hash_word(word: str) -> int:
    data = word.encode("utf8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class Runs:
    """The runs of a row of words.

    A run is a polynomial of its words; sums up to each word are kept, so that the
    hash of any run takes one subtraction, however long it is.
    """

    def __init__(self, hashes: Hashes) -> None:
        """Sum up.

        hashes (Hashes): One hash a word. Shape: (n_words,)
        """
        size = len(hashes) + 1
        self._sums = np.zeros(size, dtype=np.uint64)
        np.cumsum(hashes * _powers(BASE, size)[:-1], out=self._sums[1:])
        self._back = _powers(INVERSE, size)

    def between(self, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Hashes:
        """Hash the runs between given words.

        starts (NDArray[np.intp]): The first word of each run. Shape: (n_runs,)
        ends (NDArray[np.intp]): The word after each run. Shape: (n_runs,)
        RETURNS (Hashes): One hash a run. Shape: (n_runs,)
        """
        return (self._sums[ends] - self._sums[starts]) * self._back[starts]

    def of_length(self, length: int) -> Hashes:
        """Hash all runs of one length.

        length (int): In words.
        RETURNS (Hashes): One hash a run; none if there are too few words.
        """
        n_runs = max(0, len(self._sums) - length)
        return (self._sums[length:] - self._sums[:n_runs]) * self._back[:n_runs]


def _powers(base: int, size: int) -> Hashes:
    """RETURNS (Hashes): base**0, base**1, ... modulo 2**64. Shape: (size,)"""
    table = _power_table(base, 1 << max(10, (size - 1).bit_length()))
    return table[:size]


@lru_cache(maxsize=16)
def _power_table(base: int, size: int) -> Hashes:
    factors = np.full(size, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
