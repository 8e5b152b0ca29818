"""Types to ask for that are not there: which absent type is worth a question.

None, uniform and by frequency are the paper's three (Table 4); hard ones are near
what is present: told of other mentions in the same passages elsewhere, or beside it in
WordNet. What may be another name of a present type is never drawn. Knows nothing of
conversations.

SOURCE: arXiv 2308.03279, section 3.2 ("Negative sampling").
"""

import random
import re
from bisect import bisect
from collections import Counter
from itertools import accumulate, combinations
from pathlib import Path
from typing import Collection, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from .files import InputError, read_rows

STRATEGIES = ("none", "uniform", "frequency", "hard")
WORD = re.compile(r"\w+")
MAX_PAIRED = 200_000  # passages whose types are paired; more would tell nothing new
MAX_TYPES = 24  # types of a passage that are paired
TRIES = 50  # draws for one negative before fewer are given
SIBLINGS = 200  # names under one class of WordNet; larger classes hold no near ones


def words_of(kind: str) -> FrozenSet[str]:
    """RETURNS (FrozenSet[str]): The words of a type, plurals without their s."""
    return frozenset(w.rstrip("s") or w for w in WORD.findall(kind.lower()))


class Types:
    """How often types occur, with which others, and which name the same mentions."""

    def __init__(self) -> None:
        self.passages: Counter = Counter()  # type -> passages where it is present
        self.beside: Dict[str, Counter] = {}  # type -> types of other mentions there
        self.kin: Dict[str, Set[str]] = {}  # type -> types that named a mention of it
        self._n_paired = 0

    def add(self, mentions: Dict[str, List[str]]) -> None:
        """Count a passage.

        mentions (Dict[str, List[str]]): Type -> its mentions; types without any
            are not counted.
        """
        present = {kind: set(found) for kind, found in mentions.items() if found}
        self.passages.update(present.keys())
        if self._n_paired >= MAX_PAIRED:
            return
        self._n_paired += 1
        for a, b in combinations(list(present)[:MAX_TYPES], 2):
            if present[a] & present[b]:
                self.kin.setdefault(a, set()).add(b)
                self.kin.setdefault(b, set()).add(a)
            else:
                self.beside.setdefault(a, Counter())[b] += 1
                self.beside.setdefault(b, Counter())[a] += 1


class WordNet:
    """Nouns, what they are kinds of, and what stands beside them."""

    def __init__(self, rows: Iterable[dict]) -> None:
        """Read synsets.

        rows (Iterable[dict]): {"synonyms": [...], "hypernyms": [[...], ...]}
        """
        self._above: Dict[str, Set[str]] = {}
        self._same: Dict[str, Set[str]] = {}
        self._below: Dict[str, Set[str]] = {}
        self._closures: Dict[str, Set[str]] = {}
        for row in rows:
            names = [name.lower() for name in row["synonyms"]]
            above = {name.lower() for synset in row["hypernyms"] for name in synset}
            for name in names:
                self._same.setdefault(name, set()).update(names)
                self._above.setdefault(name, set()).update(above)
            for name in above:
                self._below.setdefault(name, set()).update(names)

    @classmethod
    def from_file(cls, path: Optional[Path]) -> "WordNet":
        """Read synsets from a file; without one, nothing is near anything.

        path (Optional[Path]): JSON lines, gzipped or not.
        RETURNS (WordNet): The nouns.
        """
        return cls(read_rows(path, fields=["synonyms", "hypernyms"]) if path else ())

    def is_related(self, a: str, b: str) -> bool:
        """RETURNS (bool): Whether one names, in some sense, a kind of the other."""
        return b in self._closure(a) or a in self._closure(b)

    def siblings(self, kind: str) -> Set[str]:
        """RETURNS (Set[str]): Names beside it, under a class of moderate size."""
        found: Set[str] = set()
        for above in self._above.get(kind, ()):
            below = self._below[above]
            if len(below) <= SIBLINGS:
                found |= below
        return {name for name in found if not self.is_related(kind, name)}

    def _closure(self, kind: str) -> Set[str]:
        """Collect other names of a noun, and of all that it is a kind of."""
        if kind not in self._closures:
            found = self._same.get(kind, {kind}) | {kind}
            rest = list(self._above.get(kind, ()))
            while rest:
                name = rest.pop()
                if name not in found:
                    found.add(name)
                    rest += self._above.get(name, ())
            self._closures[kind] = found
        return self._closures[kind]


class Negatives:
    """Draws absent types."""

    def __init__(
        self,
        types: Types,
        strategy: str = "frequency",
        *,
        wordnet: Optional[WordNet] = None,
        without: Collection[str] = (),
    ) -> None:
        """Set up.

        types (Types): What occurs in the corpus.
        strategy (str): "none", "uniform", "frequency" or "hard".
        wordnet (Optional[WordNet]): Nouns, to find near types and other names.
        without (Collection[str]): Types that are never drawn.
        RAISES (InputError): If there is no such strategy.
        """
        if strategy not in STRATEGIES:
            raise InputError(
                f"Negatives can be {', '.join(STRATEGIES)}; got {strategy!r}."
            )
        self.types, self.strategy = types, strategy
        self.wordnet = wordnet or WordNet(())
        counts = {k: n for k, n in types.passages.items() if k not in set(without)}
        self._names = list(counts)
        weights = counts.values() if strategy != "uniform" else [1] * len(counts)
        self._sums = list(accumulate(weights))
        self._near: Dict[str, List[Tuple[str, int]]] = {}
        self._known = set(counts)

    def draw(self, present: Collection[str], n: int, rng: random.Random) -> List[str]:
        """Draw absent types.

        present (Collection[str]): Types that are there, or may be: none of them
            is drawn, and nothing that may be another name of one.
        n (int): How many.
        rng (random.Random): Where chance comes from.
        RETURNS (List[str]): At most so many, none twice.
        """
        if self.strategy == "none" or not self._names:
            return []
        drawn: List[str] = []
        candidates: List[Tuple[str, int]] = []
        if self.strategy == "hard":
            candidates = [near for kind in present for near in self._near_of(kind)]
        sums = list(accumulate(weight for _, weight in candidates))
        for _ in range(TRIES * n):
            if len(drawn) == n:
                break
            if sums and rng.random() < 0.8:  # some far ones keep the easy ones known
                name = candidates[bisect(sums, rng.random() * sums[-1])][0]
            else:
                name = self._names[bisect(self._sums, rng.random() * self._sums[-1])]
            if name not in drawn and not any(self.is_kin(name, p) for p in present):
                drawn.append(name)
        return drawn

    def is_kin(self, a: str, b: str) -> bool:
        """Tell whether two types may name the same thing.

        a, b (str): Types.
        RETURNS (bool): Whether they are equal, were both told of one mention, share a
            word, or one is a kind of the other.
        """
        if a == b or b in self.types.kin.get(a, ()) or words_of(a) & words_of(b):
            return True
        return self.wordnet.is_related(a, b)

    def _near_of(self, kind: str) -> List[Tuple[str, int]]:
        """RETURNS (List[Tuple[str, int]]): Types near one, with weights."""
        if kind not in self._near:
            near = Counter(self.types.beside.get(kind, {}))
            near.update({name: 2 for name in self.wordnet.siblings(kind)})
            self._near[kind] = [
                (name, weight)
                for name, weight in near.items()
                if name in self._known and not self.is_kin(kind, name)
            ]
        return self._near[kind]
