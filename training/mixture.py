"""Mix sources: passages of all of them, drawn epoch after epoch, as conversations.

Passages wait on disk; memory holds types, and where each passage lies. Which
questions are asked is decided in `questions`, what an answer is worth in `cleaning`.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

from .cleaning import Cleaning
from .files import InputError
from .labelled import Source
from .negatives import Negatives, Types, WordNet
from .passages.contamination import Contamination
from .questions import TypeNames, ask
from .shelf import Shelf
from .turns import Question, to_conversation


@dataclass(frozen=True)
class Mixing:
    """How sources are mixed.

    seed (int): Of every choice.
    epochs (int): How often each source gives its passages, in a new order.
    open_types_of (str): The source that absent types are drawn from.
    dev_rows (int): Held-out conversations of each set, and of the open source.
    holdout (float): Share of the passages of open sources that is held out.
    never (List[str]): Test sets that no passage may touch; none for all there are.
    """

    seed: int
    epochs: int
    open_types_of: str
    dev_rows: int
    holdout: float = 0.0
    never: List[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.dev_rows < 0 or not 0 <= self.holdout < 1:
            raise InputError(
                "[conversations] epochs must be at least 1, dev_rows at least 0 and "
                f"holdout in [0, 1), got {self.epochs}, {self.dev_rows}, {self.holdout}."
            )


@dataclass
class Shelved:
    """A source whose passages lie on the shelf, by number."""

    source: Source
    types: List[str]
    marked: List[int] = field(default_factory=list)
    blank: List[int] = field(default_factory=list)
    held_out: List[int] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


class Mixture:
    """Passages of all sources, and the conversations that are made of them."""

    def __init__(
        self, mixing: Mixing, *, names: TypeNames, wordnet: WordNet, folder: Path
    ) -> None:
        """Set up.

        mixing (Mixing): How sources are mixed.
        names (TypeNames): Wordings of types.
        wordnet (WordNet): Tells near types, and other names.
        folder (Path): Where passages wait.
        """
        self.mixing, self.names, self.wordnet = mixing, names, wordnet
        self.sampling = names.sampling
        self.rng = random.Random(mixing.seed)
        self.shelf = Shelf(folder)
        self.sources: List[Shelved] = []
        self.types = Types()

    def add(
        self, source: Source, cleaning: Cleaning, taboo: Optional[Contamination]
    ) -> None:
        """Put the passages of a source on the shelf.

        source (Source): The source.
        cleaning (Cleaning): How answers are cleaned.
        taboo (Optional[Contamination]): What no passage may share with tests.
        RAISES (InputError): If nothing of it is of use.
        """
        shelved = Shelved(source, source.types())
        holdout = 0.0 if source.is_set else self.mixing.holdout
        pooled = source.name == self.mixing.open_types_of
        for row in source.rows(cleaning, shelved.counts):
            shelved.counts["rows"] += 1
            if taboo is not None and taboo.touches(row.text):
                shelved.counts["leaked"] += 1
                continue
            kind = shelved.blank
            if any(row.mentions.values()):
                is_out = _share_of(row.text) < holdout
                kind = shelved.held_out if is_out else shelved.marked
            kind.append(self.shelf.put(row))
            if pooled:
                self.types.add(row.mentions)
        # what dev does not take is trained on
        self.rng.shuffle(shelved.held_out)
        shelved.marked += shelved.held_out[self.mixing.dev_rows :]
        del shelved.held_out[self.mixing.dev_rows :]
        for what in ("marked", "blank", "held_out"):
            shelved.counts[what.replace("_", " ")] = len(getattr(shelved, what))
        if not shelved.marked:
            raise InputError(
                f"Source {source.name!r} at {source.path} has no passage with a "
                f"mention: {dict(shelved.counts)}."
            )
        self.sources.append(shelved)

    def conversations(self) -> Iterator[dict]:
        """YIELDS (dict): Conversations, epoch after epoch, each in random order."""
        everyday = self.types.passages.most_common(self.sampling.general)
        anything = self.negatives()
        rare = self.negatives(without=[kind for kind, _ in everyday])
        for _ in range(self.mixing.epochs):
            drawn = [(s, n) for s in self.sources for n in self._draw(s)]
            self.rng.shuffle(drawn)
            for shelved, number in drawn:
                row = self.shelf.take(number)
                is_closed = shelved.types or not row.complete
                negatives = rare if is_closed else anything
                asked = ask(row, shelved.types, negatives, self.sampling, self.rng)
                if not asked:
                    shelved.counts["nothing to ask"] += 1
                    continue
                shelved.counts["written"] += 1
                shelved.counts["asked"] += len(asked)
                shelved.counts["asked in vain"] += sum(not found for _, found in asked)
                yield self._word(shelved, row.text, asked)

    def negatives(self, without: Sequence[str] = ()) -> Negatives:
        """RETURNS (Negatives): Draws types of the corpus but for some."""
        strategy = self.sampling.strategy
        return Negatives(self.types, strategy, wordnet=self.wordnet, without=without)

    def held_out(self) -> Iterator[dict]:
        """YIELDS (dict): Conversations about what is held out, under plain names."""
        negatives = self.negatives()
        for shelved in self.sources:
            for number in shelved.held_out:
                row = self.shelf.take(number)
                asked = ask(row, shelved.types, negatives, self.sampling, self.rng)
                name = f"{shelved.source.name}-held-out-{number}"
                if asked:
                    yield to_conversation(name, row.text, asked)

    def _draw(self, shelved: Shelved) -> List[int]:
        """Draw the passages of a source for one epoch, some of them more than once
        only if its line says so."""
        n_blank = int(len(shelved.marked) * self.sampling.empty_share)
        blank = self.rng.sample(shelved.blank, min(len(shelved.blank), n_blank))
        bag = shelved.marked + blank
        limit = shelved.source.limit or len(bag)
        if shelved.types:
            limit = round(limit * self.sampling.closed_share)
        if not shelved.source.repeat:
            limit = min(limit, len(bag))
        drawn: List[int] = []
        while len(drawn) < limit:
            drawn += self.rng.sample(bag, min(len(bag), limit - len(drawn)))
        return drawn

    def _word(self, shelved: Shelved, text: str, asked: List[Question]) -> dict:
        """Write a conversation in one of the wordings."""
        rng, sampling, source = self.rng, self.sampling, shelved.source
        # no two questions in the same words, with different answers
        worded = {self.names.draw(kind, rng): found for kind, found in reversed(asked)}
        asked = list(reversed(worded.items()))
        small = text.lower()
        # for a few letters the lower case is longer, and mentions would not stand there
        if rng.random() < sampling.lowercased and len(small) == len(text):
            text = small
            asked = [(kind, [m.lower() for m in found]) for kind, found in asked]
            asked = [(kind, list(dict.fromkeys(found))) for kind, found in asked]
        named = source.is_set and rng.random() < sampling.dataset
        return to_conversation(
            f"{source.name}-{shelved.counts['written']}",
            text,
            asked,
            dataset=source.name if named else None,
            together=rng.random() < sampling.together,
        )


def _share_of(text: str) -> float:
    """Place a text between 0 and 1, the same in every run."""
    digest = blake2b(text.encode("utf8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
