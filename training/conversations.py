"""Make conversations: labelled passages in, questions and answers out.

Samples passages by the weights of the config, asks each for present and absent
types under varied names, and writes the official conversation format, one JSON
object a line. Reads what `training.sets` and teachers give; knows no tokenizer.

    python -m training.conversations --config training/configs/mini.cfg \\
        --data DIR --weak weak.jsonl --out conversations.jsonl
"""

import argparse
import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

from confection import Config

from .files import read_rows
from .sets import Labelled, read_set, set_types

WORD = re.compile(r"\w+")
NGRAM = 13  # words; a passage that shares one with a zero-shot test is dropped


@dataclass(frozen=True)
class Sampling:
    """How many questions a passage gets.

    max_present (int): Present types asked, per passage.
    max_absent (int): Absent types of the same set or answer asked, per passage.
    far_absent (int): Absent types drawn from all types by frequency, per passage.
    general (int): The most frequent types are never drawn as absent for a set
        that annotates few types; this says how many.
    paraphrased (float): Share of questions that use a paraphrase, where known.
    defined (float): Share of questions that ask by a definition, where known.
    lowercased (float): Share of passages written in lower case.
    empty_share (float): Share kept of passages of a set where nothing is marked.
    """

    max_present: int = 8
    max_absent: int = 5
    far_absent: int = 2
    general: int = 80
    paraphrased: float = 0.35
    defined: float = 0.03
    lowercased: float = 0.12
    empty_share: float = 0.25


class TypeNames:
    """The wordings of a type: as a person would ask, paraphrased, defined."""

    def __init__(self, path: Path, sampling: Sampling) -> None:
        rows = list(read_rows(path)) if path.exists() else []
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
            return rng.choice(row["paraphrases"])
        return row["name"] if chance < 0.75 else entity_type


def leaked_ngrams(folder: Path, names: List[str]) -> Set[int]:
    """Hash what no training passage may share with the zero-shot tests.

    folder (Path): Folder of sets.
    names (List[str]): The sets that are never trained on.
    RETURNS (Set[int]): Hashes of whole sentences and of runs of 13 words.
    """
    hashes: Set[int] = set()
    for name in names:
        for split in ("dev", "test"):
            if (folder / name / f"{split}.jsonl.gz").exists():
                for row in read_set(folder / name, split):
                    hashes.update(_ngrams(row.text))
    return hashes


def _ngrams(text: str) -> Iterator[int]:
    words = WORD.findall(text.lower())
    if len(words) >= 5:
        yield hash(tuple(words))
    for i in range(len(words) - NGRAM + 1):
        yield hash(tuple(words[i : i + NGRAM]))


def load_source(
    path: Path, split: str, complete: bool
) -> Tuple[List[Labelled], List[str]]:
    """Load a set, or a teacher's answer file.

    path (Path): Folder of a set, or JSON lines of teacher answers.
    split (str): Split of a set.
    complete (bool): Whether unmarked text is surely no mention.
    RETURNS (Tuple[List[Labelled], List[str]]): Passages, and the set's own types.
    """
    if path.is_dir():
        return list(read_set(path, split, complete=complete)), set_types(path)
    rows = []
    for row in read_rows(path):
        mentions: Dict[str, List[str]] = {}
        for mention, entity_type in row["entities"]:
            mentions.setdefault(entity_type, []).append(mention)
        if mentions:
            rows.append(Labelled(row["text"], mentions, complete))
    return rows, []


def ask(
    row: Labelled,
    own_types: List[str],
    pool: Tuple[List[str], List[int]],
    sampling: Sampling,
    rng: random.Random,
) -> List[Tuple[str, List[str]]]:
    """Choose the questions for a passage.

    row (Labelled): The passage.
    own_types (List[str]): The closed list of types of its set; empty if open.
    pool (Tuple[List[str], List[int]]): All open types with their frequencies.
    sampling (Sampling): How many.
    rng (random.Random): Where chance comes from.
    RETURNS (List[Tuple[str, List[str]]]): (type, mentions), in random order.
    """
    present = [t for t, mentions in row.mentions.items() if mentions]
    absent = [t for t, mentions in row.mentions.items() if not mentions]
    if row.complete:
        absent += [t for t in own_types if t not in row.mentions]
    rng.shuffle(present)
    rng.shuffle(absent)
    asked = present[: sampling.max_present] + absent[: sampling.max_absent]
    words = {w for t in [*row.mentions, *own_types] for w in WORD.findall(t.lower())}
    for entity_type in rng.choices(*pool, k=sampling.far_absent):
        # a type that shares a word with a known one may be its synonym
        if (
            not words & set(WORD.findall(entity_type.lower()))
            and entity_type not in asked
        ):
            asked.append(entity_type)
    rng.shuffle(asked)
    return [(t, row.mentions.get(t, [])) for t in asked]


def to_conversation(
    row_id: str, text: str, questions: List[Tuple[str, List[str]]]
) -> dict:
    """Write the official conversation.

    row_id (str): Its name.
    text (str): The passage.
    questions (List[Tuple[str, List[str]]]): (type, mentions).
    RETURNS (dict): The conversation.
    SOURCE: universal-ner/universal-ner 844e0e1, src/eval/test_data
    """
    turns = [("human", f"Text: {text}"), ("gpt", "I've read this text.")]
    for entity_type, mentions in questions:
        turns.append(("human", f"What describes {entity_type} in the text?"))
        turns.append(("gpt", json.dumps(mentions, ensure_ascii=False)))
    return {"id": row_id, "conversations": [{"from": w, "value": v} for w, v in turns]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with ner/ and open/"
    )
    parser.add_argument(
        "--weak", type=Path, required=True, help="answers of the weak teacher"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--dev", type=Path, required=True, help="held-out conversations"
    )
    args = parser.parse_args()
    config = Config().from_disk(args.config)["conversations"]
    sampling = Sampling(**config["sampling"])
    rng = random.Random(config["seed"])
    wordings = TypeNames(args.data / "types.jsonl", sampling)
    leaked = leaked_ngrams(args.data / "ner", config["never"])

    pool_counts: Counter = Counter()
    teacher, _ = load_source(args.data / config["open_types_of"], "train", True)
    for row in teacher:
        pool_counts.update(row.mentions.keys())
    everyday = {t for t, _ in pool_counts.most_common(sampling.general)}
    open_pool = (list(pool_counts), list(pool_counts.values()))
    rare = [(t, n) for t, n in pool_counts.items() if t not in everyday]
    closed_pool = ([t for t, _ in rare], [n for _, n in rare])

    report: Dict[str, Dict[str, int]] = {}
    out_rows: List[Tuple[int, str]] = []
    dev_rows: List[str] = []
    for name, spec in config["sources"].items():
        spec = str(spec).split()
        per_epoch, path, split = int(spec[0]), spec[1], spec[2]
        complete = "partial" not in spec
        source = args.weak if path == "weak" else args.data / path
        rows, own_types = load_source(source, split, complete)
        n_found = len(rows)
        rows = [r for r in rows if not any(h in leaked for h in _ngrams(r.text))]
        counts = {
            "rows": n_found,
            "leaked": n_found - len(rows),
            "written": 0,
            "asked": 0,
        }
        pool = closed_pool if own_types or not complete else open_pool
        marked = [r for r in rows if any(r.mentions.values())]
        blank = [r for r in rows if not any(r.mentions.values())]
        for epoch in range(config["epochs"]):
            drawn: List[Labelled] = []
            n_blank = min(len(blank), int(len(marked) * sampling.empty_share))
            bag = marked + rng.sample(blank, n_blank)
            while len(drawn) < per_epoch and bag:
                drawn += rng.sample(bag, min(len(bag), per_epoch - len(drawn)))
            for row in drawn:
                questions = ask(row, own_types, pool, sampling, rng)
                questions = [(wordings.draw(t, rng), ms) for t, ms in questions]
                text = row.text
                if rng.random() < sampling.lowercased and text.lower() != text:
                    text = text.lower()
                    questions = [(t, [m.lower() for m in ms]) for t, ms in questions]
                counts["written"] += 1
                counts["asked"] += len(questions)
                made = to_conversation(f"{name}-{counts['written']}", text, questions)
                out_rows.append((epoch, json.dumps(made, ensure_ascii=False)))
        report[name] = counts
    for name, path in config["dev"].items():
        for i, row in enumerate(read_set(args.data / path, "dev", spaced=True)):
            own = set_types(args.data / path)
            mentions = {**{t: [] for t in own}, **row.mentions}
            questions = [
                (wordings.rows.get(t, {"name": t})["name"], ms)
                for t, ms in mentions.items()
            ]
            if i < config["dev_rows"] and len(row.text) < 1200:
                dev_rows.append(
                    json.dumps(to_conversation(f"{name}-{i}", row.text, questions))
                )
    rng.shuffle(out_rows)
    out_rows.sort(key=lambda pair: pair[0])
    _write(args.out, (line for _, line in out_rows))
    _write(args.dev, dev_rows)
    args.out.with_suffix(".report.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, counts in report.items():
        print(f"{name:32}", counts)
    print(f"{len(out_rows)} conversations -> {args.out}, {len(dev_rows)} -> {args.dev}")


def _write(path: Path, lines: Iterator[str]) -> None:
    tmp = path.with_suffix(".tmp")
    with tmp.open("w", encoding="utf8") as out:
        out.writelines(line + "\n" for line in lines)
    tmp.replace(path)


if __name__ == "__main__":
    main()
