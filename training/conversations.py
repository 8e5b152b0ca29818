"""Make conversations: labelled passages in, questions and answers out.

Cleans answers of teachers, mixes published sets in, asks every passage for present
and absent types under varied names, and writes the official conversation format,
in an order drawn by the seed. Passages wait on disk; memory holds types, and where
each passage lies.

    python -m training.conversations --config training/configs/distill.cfg \\
        --answers answers.jsonl --out conversations.jsonl --dev dev.jsonl
"""

import argparse
import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

from .cleaning import Cleaning, read_merges
from .files import InputError, alone, read_rows, run_script, write_json, writing
from .labelled import Source, parse_source
from .negatives import Negatives, Types, WordNet, check_strategy
from .passages.contamination import Contamination
from .sets import Labelled, read_set, set_types
from .settings import add_settings, fill, read_settings
from .shelf import Shelf
from .turns import Question, to_conversation, write_conversations

PARTS = ("cleaning", "sampling", "sources", "dev")  # sections of the config
WORDINGS = ("type", "name", "paraphrases", "definition")


@dataclass(frozen=True)
class Sampling:
    """Which questions a passage gets.

    max_present (int): Present types asked, per passage.
    max_absent (int): Absent types of the same set or answer asked, per passage.
    negatives (int): Absent types drawn from all types, per passage.
    strategy (str): How: "none", "uniform", "frequency" or "hard".
    general (int): The most frequent types are never drawn as absent for a set
        that annotates few types; this says how many.
    paraphrased (float): Share of questions that use a paraphrase, where known.
    defined (float): Share of questions that ask by a definition, where known.
    lowercased (float): Share of passages written in lower case.
    empty_share (float): Share kept of passages of a set where nothing is marked.
    closed_share (float): Share of the limits of sets with a closed list of types that
        is taken; less of it gives more weight to open types.
    together (float): Share of passages asked for all types at once (all-in-one).
    dataset (float): Share of passages of sets that name the set.
    """

    # the last two are for other trainers: `training.finetune` reads past the name, and
    # leaves out answers that are no list of mentions

    max_present: int = 8
    max_absent: int = 5
    negatives: int = 2
    strategy: str = "frequency"
    general: int = 80
    paraphrased: float = 0.35
    defined: float = 0.03
    lowercased: float = 0.12
    empty_share: float = 0.25
    closed_share: float = 1.0
    together: float = 0.0
    dataset: float = 0.0

    def __post_init__(self) -> None:
        check_strategy(self.strategy)


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


class TypeNames:
    """The wordings of a type: as a person would ask, paraphrased, defined."""

    def __init__(self, rows: Sequence[dict], sampling: Sampling) -> None:
        self.rows = {row["type"]: row for row in rows}
        self.sampling = sampling

    def draw(self, entity_type: str, rng: random.Random) -> str:
        """Draw one wording of a type.

        entity_type (str): The name that the set uses.
        rng (random.Random): Where chance comes from.
        RETURNS (str): What is asked.
        """
        row = self.rows.get(entity_type)
        chance = rng.random()
        if row is None:
            return entity_type
        if chance < self.sampling.defined:
            return row["definition"]
        if chance < self.sampling.defined + self.sampling.paraphrased:
            return rng.choice(row["paraphrases"] or [row["name"]])
        return row["name"] if chance < 0.75 else entity_type


@dataclass
class Shelved:
    """A source whose passages lie on the shelf, by number."""

    source: Source
    types: List[str]
    marked: List[int] = field(default_factory=list)
    blank: List[int] = field(default_factory=list)
    held_out: List[int] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


def ask(
    row: Labelled,
    own_types: Sequence[str],
    negatives: Negatives,
    sampling: Sampling,
    rng: random.Random,
) -> List[Question]:
    """Choose the questions for a passage.

    row (Labelled): The passage.
    own_types (Sequence[str]): The closed list of types of its set; empty if open.
    negatives (Negatives): Where absent types come from.
    sampling (Sampling): How many.
    rng (random.Random): Where chance comes from.
    RETURNS (List[Question]): (type, mentions), in random order.
    """
    present = [t for t, mentions in row.mentions.items() if mentions]
    absent = [t for t, mentions in row.mentions.items() if not mentions]
    known = [*dict.fromkeys([*row.mentions, *row.doubtful, *own_types])]
    if row.complete:
        absent += [t for t in own_types if t not in row.mentions]
    rng.shuffle(present)
    rng.shuffle(absent)
    asked = present[: sampling.max_present] + absent[: sampling.max_absent]
    if not row.cut:
        asked += negatives.draw(known, sampling.negatives, rng)
    rng.shuffle(asked)
    return [(t, row.mentions.get(t, [])) for t in asked]


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


def dev_conversations(
    sets: Dict[str, str], data: Path, mixture: Mixture
) -> Iterator[dict]:
    """Make held-out conversations: every type of a set is asked, under its name.

    sets (Dict[str, str]): Name -> folder of a set, below the data folder.
    data (Path): Folder of sets.
    mixture (Mixture): With what it held out.
    YIELDS (dict): One conversation.
    """
    limit = mixture.mixing.dev_rows
    rows = mixture.names.rows
    for name, path in sets.items():
        own = set_types(data / path)
        for i, row in enumerate(read_set(data / path, "dev", spaced=True)):
            mentions = {**{t: [] for t in own}, **row.mentions}
            asked = [
                (rows.get(t, {"name": t})["name"], ms) for t, ms in mentions.items()
            ]
            if i < limit and len(row.text) < 1200:
                yield to_conversation(f"{name}-{i}", row.text, asked)
    yield from mixture.held_out()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_settings(parser)
    parser.add_argument(
        "--data", type=Path, default=Path(), help="folder that sources lie below"
    )
    parser.add_argument(
        "--answers", type=Path, default=Path("answers.jsonl"), help="of a teacher"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help=".jsonl, or .json: the official array"
    )
    parser.add_argument(
        "--dev", type=Path, required=True, help="held-out conversations"
    )
    parser.add_argument("--names", type=Path, help="wordings of types, JSON lines")
    parser.add_argument("--merge", type=Path, help="types to merge, JSON lines")
    parser.add_argument("--wordnet", type=Path, help="synsets, JSON lines")
    parser.add_argument("--tests", type=Path, help="folder of test sets")
    args = parser.parse_args()
    paths = [args.out.resolve(), args.dev.resolve(), args.answers.resolve()]
    if len(set(paths)) < len(paths):
        raise InputError("--out, --dev and --answers must be three different files.")
    config = read_settings(args.config, args.set)["conversations"]
    parts = {name: config.pop(name, {}) for name in PARTS}
    mixing = fill(Mixing, config, "conversations")
    sampling = fill(Sampling, parts["sampling"], "conversations.sampling")
    merge = {"merge": read_merges(args.merge)}
    cleaning = fill(Cleaning, {**parts["cleaning"], **merge}, "conversations.cleaning")
    sources = [
        parse_source(name, line, args.data, args.answers)
        for name, line in parts["sources"].items()
    ]
    wordings = read_rows(args.names, fields=WORDINGS) if args.names else ()
    names = TypeNames(list(wordings), sampling)
    taboo = None
    if args.tests:
        splits = ("dev", "test")
        taboo = Contamination.from_sets(args.tests, mixing.never or None, splits)
    with alone(args.out):
        wordnet = WordNet.from_file(args.wordnet)
        mixture = Mixture(mixing, names=names, wordnet=wordnet, folder=args.out.parent)
        for source in sources:
            mixture.add(source, cleaning, taboo)
        with writing(args.out) as out:
            rows = mixture.conversations()
            n_made = write_conversations(out, rows, array=args.out.suffix == ".json")
        with writing(args.dev) as out:
            held = dev_conversations(parts["dev"], args.data, mixture)
            n_dev = write_conversations(out, held, array=args.dev.suffix == ".json")
    report: Dict[str, Dict[str, int]] = {
        shelved.source.name: dict(shelved.counts) for shelved in mixture.sources
    }
    write_json(args.out.with_suffix(".report.json"), report)
    for name, counts in report.items():
        print(f"{name:32}", counts)
    print(f"{n_made} conversations -> {args.out}, {n_dev} -> {args.dev}")


if __name__ == "__main__":
    run_script(main)
