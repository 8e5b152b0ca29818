"""A weak teacher: find the names and nouns of gazetteers in plain text.

Writes the teacher's answer format, so that whatever reads a large model's
answers reads these too. A name with several types, none of them a kind of another, is
decided by the types around it, or dropped rather than guessed. Nothing here needs a model or a key; passages
are streamed.

    python -m training.gazetteer --passages passages.jsonl --lists names.jsonl ... \\
        --out answers.jsonl
"""

import argparse
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from .files import InputError, alone, read_rows, run_script, write_json, writing

WORD = re.compile(r"\w+(?:[-'’]\w+)*")
MAX_WORDS = 5  # words, longest name looked for
MAX_SENSES = 6  # types, a name with more is given up
MAX_LEVELS = 3  # classes told for one noun, from its own up to more general ones
MAX_SHARE, MIN_COMMON = 0.002, 5  # of the passages, a word in more is common
MIN_SEEN = 20  # passages with a type, before it may win a vote
MARGIN = math.log(4)  # by how much a type must lead
TEACHER = {"model": "gazetteer", "prompt": None, "usage": None}
# WordNet classes too general to ask for.
VAGUE = set(
    """entity abstraction object whole thing act action activity attribute state condition
    quality property relation cognition content idea concept happening event change part unit
    group collection amount degree case kind way time point position matter cause effort work
    motion feeling trait message communication indefinite-quantity measure being
    living-thing organism physical-entity causal-agent change-of-state psychological-feature
    definite-quantity agent artifact artefact instrumentality process phenomenon
    physical-condition substance""".replace("-", "_").split()
)


@dataclass
class Names:
    """Names of gazetteers.

    clear (Dict[str, List[str]]): Name, written as in its list -> its types, and more
        general ones.
    doubtful (Dict[str, List[str]]): Name -> unrelated types, one of which is right.
    """

    clear: Dict[str, List[str]] = field(default_factory=dict)
    doubtful: Dict[str, List[str]] = field(default_factory=dict)

    def look_up(self, mention: str) -> str:
        """Look a mention up as written, as a plural, and as begun with a capital.

        RETURNS (str): The name in the lists; "" if there is none.
        """
        singular = mention[:-1] if mention.endswith("s") else mention
        tries = (mention, singular, mention[0].lower() + mention[1:])
        known = (t for t in tries if t in self.clear or t in self.doubtful)
        return next(known, "")


def read_names(lists: Sequence[Path]) -> Names:
    """Read gazetteers. A common noun also gets the classes above its own.

    lists (Sequence[Path]): JSON lines of {"name", "type"}, gzipped or not.
    RETURNS (Names): The names.
    RAISES (InputError): If there are none.
    """
    found: Dict[str, Set[str]] = {}
    for path in lists:
        for row in read_rows(path, fields=["name", "type"]):
            kind = row["type"].split(" / ")[-1].replace("_", " ").strip().lower()
            name = row["name"].strip()
            if kind and len(name) > 2:
                found.setdefault(name, set()).add(kind)
    if not found:
        raise InputError(f"There are no names in {', '.join(map(str, lists))}.")
    names = Names()
    clear = {name: kinds for name, kinds in found.items() if len(kinds) == 1}
    for name, kinds in found.items():
        chain = _climb(kinds, clear)
        if chain:
            told = [kind for kind in chain if kind.replace(" ", "_") not in VAGUE]
            if told:
                names.clear[name] = told
        elif len(kinds) <= MAX_SENSES:
            names.doubtful[name] = sorted(kinds)
    return names


def _climb(kinds: Set[str], clear: Dict[str, Set[str]]) -> List[str]:
    """Line types up, each a kind of the next, and add the classes above.

    RETURNS (List[str]): At most so many; none if the types are in no such line.
    """
    for first in sorted(kinds):
        chain = [first]
        while len(clear.get(chain[-1], ())) == 1 and len(chain) < 2 * MAX_LEVELS:
            (above,) = clear[chain[-1]]
            if above in chain:
                break
            chain.append(above)
        if kinds <= set(chain):
            last = max(chain.index(kind) for kind in kinds)
            return chain[: max(MAX_LEVELS, last + 1)]
    return []


def drop_common(names: Names, texts: Iterable[str]) -> Names:
    """Drop single words that are common in the text, where they seldom mean the
    listed thing ("may" is no hawthorn), and names that are mostly written small.

    names (Names): All names.
    texts (Iterable[str]): The passages that will be searched.
    RETURNS (Names): What is left.
    """
    words = {name for part in (names.clear, names.doubtful) for name in part}
    words |= {form for name in words for form in (name.lower(), name.capitalize())}
    counts: Counter = Counter()
    n_texts = 0
    for text in texts:
        counts.update(words.intersection(WORD.findall(text)))
        n_texts += 1
    limit = max(MIN_COMMON, MAX_SHARE * n_texts)

    def is_rare(name: str) -> bool:
        n_seen = sum(counts[form] for form in {name, name.capitalize()})
        is_small = not name.islower() and counts[name.lower()] > counts[name] / 4
        return " " in name or (n_seen <= limit and not is_small)

    return Names(
        {name: kinds for name, kinds in names.clear.items() if is_rare(name)},
        {name: kinds for name, kinds in names.doubtful.items() if is_rare(name)},
    )


def find_names(text: str, names: Names) -> Iterator[Tuple[str, str]]:
    """Find gazetteer names in a text, the longest first, at word borders.

    text (str): A passage.
    names (Names): What to look for.
    YIELDS (Tuple[str, str]): A mention, and its name in the lists.
    """
    words = [(m.start(), m.end()) for m in WORD.finditer(text)]
    i = 0
    while i < len(words):
        step = 1
        for size in range(min(MAX_WORDS, len(words) - i), 0, -1):
            mention = text[words[i][0] : words[i + size - 1][1]]
            name = names.look_up(mention)
            if name:
                yield mention, name
                step = size
                break
        i += step


def clear_kinds(text: str, names: Names) -> Set[str]:
    """RETURNS (Set[str]): Types of the clear names in a text."""
    found = find_names(text, names)
    return {kind for _, name in found for kind in names.clear.get(name, ())}


class Votes:
    """Which types occur together: the company decides between the types of a name."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.n_passages = 0
        self.seen: Counter = Counter()
        # only for types that some name may or may not have
        doubtful = {kind for kinds in names.doubtful.values() for kind in kinds}
        self.beside: Dict[str, Counter] = {kind: Counter() for kind in doubtful}

    def count(self, kinds: Set[str]) -> None:
        """Count a passage.

        kinds (Set[str]): Types of the clear names in it.
        """
        self.n_passages += 1
        self.seen.update(kinds)
        for kind in kinds & self.beside.keys():
            self.beside[kind].update(kinds)

    def decide(self, name: str, around: Set[str]) -> str:
        """Decide what a doubtful name is: pointwise mutual information with the types
        around it, summed.

        name (str): A doubtful name.
        around (Set[str]): Types of the clear names of its passage.
        RETURNS (str): The type that leads clearly; "" if none does.
        """
        scores = sorted(
            ((self._score(kind, around), kind) for kind in self.names.doubtful[name]),
            reverse=True,
        )
        (best, kind), (second, _) = scores[:2]
        leads = best > 0 and best - max(second, 0) >= MARGIN
        return kind if leads and kind.replace(" ", "_") not in VAGUE else ""

    def _score(self, kind: str, around: Set[str]) -> float:
        if self.seen[kind] < MIN_SEEN:
            return 0.0
        together = self.beside[kind]
        return sum(
            math.log(
                (together[other] + 0.5)
                * self.n_passages
                / (self.seen[kind] * (self.seen[other] + 1))
            )
            for other in sorted(around)
            if other != kind
        )


def answer(text: str, names: Names, votes: Votes, counts: Counter) -> List[List[str]]:
    """Answer for one passage.

    text (str): The passage.
    names (Names): What to look for.
    votes (Votes): What decides doubtful names.
    counts (Counter): Added to.
    RETURNS (List[List[str]]): [mention, type] pairs, in order, none twice.
    """
    around = clear_kinds(text, names)
    pairs: Dict[Tuple[str, str], None] = {}
    for mention, name in find_names(text, names):
        kinds = names.clear.get(name, [])
        if kinds:
            counts["clear"] += 1
        else:
            decided = votes.decide(name, around)
            counts["decided by company" if decided else "dropped: doubtful"] += 1
            kinds = [decided] if decided else []
        pairs.update({(mention, kind): None for kind in kinds})
    return [list(pair) for pair in pairs]


def check_own(path: Path) -> None:
    """Keep what another teacher said, and was paid for.

    path (Path): What will be written over.
    RAISES (InputError): If there are answers of another teacher.
    """
    rows = read_rows(path, faults=Counter()) if path.is_file() else iter(())
    teacher = next(rows, {}).get("teacher", TEACHER)
    if teacher != TEACHER:
        raise InputError(
            f"{path} holds answers of {teacher}; they are not written over. Name that "
            "teacher again (--vars.teacher), or another --out."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passages", type=Path, required=True, help="JSON lines")
    parser.add_argument(
        "--lists", type=Path, nargs="+", required=True, help="names, JSON lines"
    )
    parser.add_argument("--out", type=Path, required=True, help="answers, JSON lines")
    args = parser.parse_args()

    def texts() -> Iterator[str]:
        return (row["text"] for row in read_rows(args.passages, fields=["text"]))

    names = drop_common(read_names(args.lists), texts())
    votes = Votes(names)
    for text in texts():
        votes.count(clear_kinds(text, names))
    counts: Counter = Counter()
    kinds: Counter = Counter()
    with alone(args.out), writing(args.out) as out:
        check_own(args.out)
        for row in read_rows(args.passages, fields=["id", "text"]):
            entities = answer(row["text"], names, votes, counts)
            kinds.update(kind for _, kind in entities)
            written = {"id": row["id"], "text": row["text"], "entities": entities}
            written.update(status="ok", teacher=TEACHER)
            out.write(json.dumps(written, ensure_ascii=False) + "\n")
        if not kinds:
            raise InputError(f"None of the names stands in {args.passages}.")
    report = {**counts, "passages": votes.n_passages, "types": len(kinds)}
    write_json(args.out.with_suffix(".report.json"), report)
    print(
        f"{sum(kinds.values())} mentions of {len(kinds)} types -> {args.out}: {report}"
    )


if __name__ == "__main__":
    run_script(main)
