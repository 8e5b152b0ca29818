"""A weak teacher: find the names and nouns of gazetteers in plain text.

Writes the teacher's answer format, so that whatever reads a large model's
answers reads these too. A name with several unrelated types is dropped rather
than guessed. Nothing here needs a model or a key.

    python -m training.gazetteer --data DIR --out weak.jsonl --passages 40000
"""

import argparse
import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Set

from .files import read_rows

WORD = re.compile(r"\w+(?:[-'’]\w+)*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])")
MAX_WORDS = 5  # words, longest name looked for
MAX_TYPES = 2  # types, a name with more is ambiguous
MAX_LEVELS = 3  # classes told for one noun, from its own up to more general ones
MAX_SHARE = 0.002  # of the passages, a word in more is common
# Lists of names with types as people would ask for them.
SOURCES = (
    "oewn_noun_hypernym",
    "oewn_named_instances",
    "disease_ontology",
    "medquad_focus",
    "linguist_languages",
    "typenet_examples",
    "world_places_dr5hn",
)
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


def read_names(folder: Path) -> Dict[str, List[str]]:
    """Read gazetteers. A common noun also gets the classes above its own.

    folder (Path): Folder of `SOURCE.jsonl.gz` files of {"name", "type"} rows.
    RETURNS (Dict[str, List[str]]): Name, written as in the list -> its types.
    """
    names: Dict[str, Set[str]] = {}
    for source in SOURCES:
        for row in read_rows(folder / f"{source}.jsonl.gz"):
            kind = row["type"].split(" / ")[-1].replace("_", " ").strip().lower()
            if kind.replace(" ", "_") not in VAGUE and len(row["name"].strip()) > 2:
                names.setdefault(row["name"].strip(), set()).add(kind)
    clear = {
        n: ks for n, ks in names.items() if len(ks) <= (1 if n.islower() else MAX_TYPES)
    }
    return {name: _climb(kinds, clear) for name, kinds in clear.items()}


def _climb(kinds: Set[str], names: Dict[str, Set[str]]) -> List[str]:
    """Add the classes above, as long as they are unambiguous."""
    chain = sorted(kinds)
    for kind in chain:
        if len(chain) >= MAX_LEVELS:
            break
        chain.extend(k for k in names.get(kind, ()) if k not in chain)
    return chain


def drop_common(
    names: Dict[str, List[str]], passages: List[str]
) -> Dict[str, List[str]]:
    """Drop single words that are common in the text, where they seldom mean the
    listed thing ("may" is no hawthorn), and names that are mostly written small.

    names (Dict[str, List[str]]): Name -> its types.
    passages (List[str]): The text that will be searched.
    RETURNS (Dict[str, List[str]]): What is left.
    """
    counts: Counter = Counter()
    for passage in passages:
        counts.update(set(WORD.findall(passage)))
    limit = MAX_SHARE * len(passages)

    def is_common(name: str) -> bool:
        return " " not in name and (
            counts[name] + counts[name.capitalize()] > limit
            or (not name.islower() and counts[name.lower()] > counts[name] / 4)
        )

    return {name: kinds for name, kinds in names.items() if not is_common(name)}


def find_names(text: str, names: Dict[str, List[str]]) -> Dict[str, List[str]]:
    """Find gazetteer names in a text, the longest first, at word borders.

    text (str): A passage.
    names (Dict[str, List[str]]): Name -> its types.
    RETURNS (Dict[str, List[str]]): Type -> mentions in order, none twice.
    """
    words = [(m.start(), m.end()) for m in WORD.finditer(text)]
    found: Dict[str, List[str]] = {}
    i = 0
    while i < len(words):
        step = 1
        for size in range(min(MAX_WORDS, len(words) - i), 0, -1):
            mention = text[words[i][0] : words[i + size - 1][1]]
            kinds = _look_up(mention, names)
            if kinds:
                for kind in kinds:
                    known = found.setdefault(kind, [])
                    if mention not in known:
                        known.append(mention)
                step = size
                break
        i += step
    return found


def _look_up(mention: str, names: Dict[str, List[str]]) -> List[str]:
    """Look a mention up as written, as a plural, and as begun with a capital."""
    singular = mention[:-1] if mention.endswith("s") else mention
    tries = [mention, singular, mention[0].lower() + mention[1:]]
    return next((names[t] for t in tries if t in names), [])


def read_passages(folder: Path, rng: random.Random, n_passages: int) -> Iterator[str]:
    """Cut plain text into passages of one to three sentences.

    folder (Path): Folder of gzipped text, one paragraph a line.
    rng (random.Random): Where chance comes from.
    n_passages (int): How many passages, spread evenly over the files.
    YIELDS (str): A passage of 40 to 600 characters.
    """
    files = sorted(folder.glob("*.txt.gz"))
    for path in files:
        with gzip.open(path, "rt", encoding="utf8") as lines:
            paragraphs = [line.strip() for line in lines if len(line) > 60]
        rng.shuffle(paragraphs)
        for paragraph in paragraphs[: n_passages // len(files)]:
            sentences = SENTENCE_END.split(paragraph)
            start = rng.randrange(len(sentences))
            passage = " ".join(sentences[start : start + rng.randint(1, 3)])[:600]
            if len(passage) >= 40:
                yield passage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with text/ and gazetteer/"
    )
    parser.add_argument("--out", type=Path, required=True, help="answers, JSON lines")
    parser.add_argument("--passages", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    passages = list(read_passages(args.data / "text", rng, args.passages))
    names = drop_common(read_names(args.data / "gazetteer"), passages)
    counts: Counter = Counter()
    tmp = args.out.with_suffix(".tmp")
    with tmp.open("w", encoding="utf8") as out:
        for i, text in enumerate(passages):
            found = find_names(text, names)
            counts.update({kind: len(m) for kind, m in found.items()})
            entities = [[m, kind] for kind, ms in found.items() for m in ms]
            row = {
                "id": f"weak-{i}",
                "text": text,
                "entities": entities,
                "status": "ok",
            }
            row["teacher"] = {"model": "gazetteer", "prompt": None, "usage": None}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    tmp.replace(args.out)
    print(f"{sum(counts.values())} mentions of {len(counts)} types -> {args.out}")
    print("most frequent:", counts.most_common(40))


if __name__ == "__main__":
    main()
