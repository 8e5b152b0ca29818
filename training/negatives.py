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
from functools import lru_cache
from itertools import accumulate, combinations
from pathlib import Path
from typing import (
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .files import InputError, read_rows

STRATEGIES = ("none", "uniform", "frequency", "hard")
WORD = re.compile(r"\w+")
MAX_PAIRED = 200_000  # passages whose types are paired: memory
MAX_TYPES = 24  # types of a passage that are paired
TRIES = 50  # draws for one negative before fewer are given
SIBLINGS = 60  # senses under one class of WordNet; larger classes hold no near ones
LEVELS = 3  # of WordNet, between a kind and what it is a kind of
NEAR = 0.8  # share of hard negatives; some far ones keep the easy ones known
# words that many definitions share
SMALL = frozenset(
    "a an the of in on at to for with by from or and as that which who is are it its "
    "such used other not".split()
)


@lru_cache(maxsize=100_000)
def words_of(kind: str) -> FrozenSet[str]:
    """RETURNS (FrozenSet[str]): The words of a type in the singular, without small ones."""
    return frozenset(map(_singular, WORD.findall(kind.lower()))) - SMALL


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural else word


def check_strategy(strategy: str) -> None:
    """RAISES (InputError): If there is no such way to draw negatives."""
    if strategy not in STRATEGIES:
        raise InputError(f"Negatives can be {', '.join(STRATEGIES)}; got {strategy!r}.")


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
    """Nouns by sense, what each sense is a kind of, and what stands beside it."""

    def __init__(self, rows: Iterable[dict]) -> None:
        """Read synsets.

        rows (Iterable[dict]): {"synonyms": [...], "hypernyms": [[...], ...]}; a
            hypernym is given by all its synonyms.
        """
        self._names: List[Tuple[str, ...]] = []
        self._senses: Dict[str, List[int]] = {}  # name -> synsets
        above: List[List[Tuple[str, ...]]] = []
        for number, row in enumerate(rows):
            names = tuple(name.lower() for name in row["synonyms"])
            self._names.append(names)
            above.append(
                [tuple(n.lower() for n in names) for names in row["hypernyms"]]
            )
            for name in names:
                self._senses.setdefault(name, []).append(number)
        by_names = {names: number for number, names in enumerate(self._names)}
        self._above = [[by_names[n] for n in hyper if n in by_names] for hyper in above]
        self._below: Dict[int, List[int]] = {}
        for number, hypernyms in enumerate(self._above):
            for hypernym in hypernyms:
                self._below.setdefault(hypernym, []).append(number)
        self._reach: Dict[str, Set[int]] = {}

    @classmethod
    def from_file(cls, path: Optional[Path]) -> "WordNet":
        """Read synsets from a file; without one, nothing is near anything.

        path (Optional[Path]): JSON lines, gzipped or not.
        RETURNS (WordNet): The nouns.
        """
        return cls(read_rows(path, fields=["synonyms", "hypernyms"]) if path else ())

    def is_related(self, a: str, b: str) -> bool:
        """RETURNS (bool): Whether one, in some sense, is another name of the other, or a
        kind of it at most three levels below."""
        if a not in self._senses or b not in self._senses:
            return False
        return not (
            self._upwards(a).isdisjoint(self._senses[b])
            and self._upwards(b).isdisjoint(self._senses[a])
        )

    def siblings(self, kind: str) -> List[str]:
        """RETURNS (List[str]): Names beside it in some sense, sorted; none where a
        class has too many below it."""
        found: Set[str] = set()
        for sense in self._senses.get(kind, ()):
            for hypernym in self._above[sense]:
                below = self._below[hypernym]
                if len(below) <= SIBLINGS:
                    found.update(name for n in below for name in self._names[n])
        return sorted(name for name in found if not self.is_related(kind, name))

    def _upwards(self, name: str) -> Set[int]:
        """Collect the senses of a noun, and what they are kinds of."""
        if name not in self._reach:
            found = level = set(self._senses[name])
            for _ in range(LEVELS):
                level = {above for sense in level for above in self._above[sense]}
                found = found | level
            self._reach[name] = found
        return self._reach[name]


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
        check_strategy(strategy)
        self.types, self.strategy = types, strategy
        self.wordnet = wordnet or WordNet(())
        counts = {k: n for k, n in types.passages.items() if k not in set(without)}
        self._names = list(counts)
        weights = counts.values() if strategy != "uniform" else [1] * len(counts)
        self._sums = list(accumulate(weights))
        self._known = set(counts)
        self._near: Dict[str, Tuple[List[str], List[int]]] = {}

    def draw(self, present: Sequence[str], n: int, rng: random.Random) -> List[str]:
        """Draw absent types.

        present (Sequence[str]): Types that are there, or may be: none of them is
            drawn, and nothing that may be another name of one.
        n (int): How many.
        rng (random.Random): Where chance comes from.
        RETURNS (List[str]): At most so many, none twice.
        """
        if self.strategy == "none" or not self._names:
            return []
        drawn: List[str] = []
        for _ in range(TRIES * n):
            if len(drawn) == n:
                break
            name = self._pick(present, rng)
            if name not in drawn and not any(self.is_kin(name, p) for p in present):
                drawn.append(name)
        return drawn

    def _pick(self, present: Sequence[str], rng: random.Random) -> str:
        """Pick a type: near one of those that are present, or any."""
        names, sums = self._names, self._sums
        if self.strategy == "hard" and present and rng.random() < NEAR:
            near = self._near_of(rng.choice(present))
            names, sums = near if near[0] else (names, sums)
        return names[bisect(sums, rng.random() * sums[-1])]

    def is_kin(self, a: str, b: str) -> bool:
        """Tell whether two types may name the same thing.

        a, b (str): Types.
        RETURNS (bool): Whether they are equal, were both told of one mention, share a
            word, or one is a kind of the other.
        """
        if a == b or b in self.types.kin.get(a, ()) or words_of(a) & words_of(b):
            return True
        return self.wordnet.is_related(a, b)

    def _near_of(self, kind: str) -> Tuple[List[str], List[int]]:
        """RETURNS (Tuple[List[str], List[int]]): Types near one, and their weights
        summed up."""
        if kind not in self._near:
            near = Counter(self.types.beside.get(kind, {}))
            near.update({name: 2 for name in self.wordnet.siblings(kind)})
            names = [n for n in near if n in self._known and not self.is_kin(kind, n)]
            self._near[kind] = names, list(accumulate(near[name] for name in names))
        return self._near[kind]
