"""Score a student on test sets: strict micro-F1, as the paper's evaluation counts.

Each (passage, type) is asked; strings are normalized as the official script does
and compared as sets. Writes one JSON file with the figures, the command and the
versions, after every set, so that a run that is stopped leaves what it had.

    python -m training.evaluate --data DIR --model mini --out results.json \\
        --zero-shot crossner_ai mit_movie --in-domain wnut17 bc5cdr
"""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Dict, List, Set

from tqdm import tqdm

from spacy_uniner.benchmark.score import f1, normalize
from spacy_uniner.students.local import LocalStudent, make_local_student

from .files import InputError, read_rows, run_script, write_json
from .sets import Labelled, read_set, set_types

DROPPED = {
    "miscellaneous",
    "misc",
}  # no type that one could ask for; the paper drops them too
PACKAGES = ("torch", "transformers", "tokenizers", "spacy")
RATE_TYPES = ["person", "organization", "location", "product", "event"]


def score_set(
    student: LocalStudent, passages: List[Labelled], types: Dict[str, str], name: str
) -> Dict[str, float]:
    """Ask every type of every passage and count.

    student (LocalStudent): The student.
    passages (List[Labelled]): The test passages.
    types (Dict[str, str]): The types asked, and in what words.
    name (str): For the progress bar.
    RETURNS (Dict[str, float]): Precision, recall and F1 in percent, and counts.
    """
    hits = n_gold = n_found = certified = 0
    by_type: Dict[str, List[int]] = {t: [0, 0, 0] for t in types}
    start = time.perf_counter()
    step = max(1, 512 // max(1, len(types)))
    for at in tqdm(range(0, len(passages), step), desc=name, disable=None):
        batch = passages[at : at + step]
        rows = student([(row.text, list(types.values())) for row in batch])
        for passage, answers in zip(batch, rows):
            for entity_type, answer in zip(types, answers):
                gold = _as_set(passage.mentions.get(entity_type, []))
                found = _as_set([m.text for m in answer.mentions])
                counts = by_type[entity_type]
                counts[0] += len(gold & found)
                counts[1] += len(gold)
                counts[2] += len(found)
                certified += answer.certified
    for shared, in_gold, in_found in by_type.values():
        hits, n_gold, n_found = hits + shared, n_gold + in_gold, n_found + in_found
    precision, recall, score = f1(hits, n_found, n_gold)
    questions = len(passages) * len(types)
    return {
        "f1": score,
        "precision": precision,
        "recall": recall,
        "passages": len(passages),
        "types": len(types),
        "certified": round(certified / questions, 4),
        "seconds": round(time.perf_counter() - start, 1),
        "f1_by_type": {t: f1(h, n, g)[2] for t, (h, g, n) in by_type.items()},
    }


def _as_set(mentions: List[str]) -> Set[str]:
    return {normalize(mention) for mention in mentions}


def measure_rate(student: LocalStudent, passages: List[Labelled]) -> Dict[str, float]:
    """Time a student on real passages with five types.

    student (LocalStudent): The student.
    passages (List[Labelled]): What to read.
    RETURNS (Dict[str, float]): The median of five rounds, in passages per second.
    """
    questions = [(row.text, RATE_TYPES) for row in passages]
    student(questions[:20])
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        student(questions)
        rates.append(len(questions) / (time.perf_counter() - start))
    words = sum(len(row.text.split()) for row in passages) / len(passages)
    return {
        "passages_per_second": round(sorted(rates)[2], 1),
        "types": len(RATE_TYPES),
        "words_per_passage": round(words, 1),
        "load_average": round(os.getloadavg()[0], 2),
    }


def describe_run(module: str) -> Dict[str, object]:
    """RETURNS (Dict[str, object]): What makes a figure repeatable: command, date,
    machine, versions."""
    return {
        "command": f"python -m {module} " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in PACKAGES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ner/")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--zero-shot", nargs="*", default=[])
    parser.add_argument("--in-domain", nargs="*", default=[])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--mention-bound",
        type=float,
        help="least probability of a mention; 0 for greedy answers, default: the checkpoint's",
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="passages per set; 0 for all"
    )
    parser.add_argument("--names", type=Path, help="wordings of types, JSON lines")
    parser.add_argument(
        "--definitions", action="store_true", help="ask by those of --names"
    )
    parser.add_argument(
        "--name-dataset", action="store_true", help="name the set in the prompt"
    )
    args = parser.parse_args()
    wordings = {row["type"]: row for row in read_rows(args.names)} if args.names else {}
    if args.definitions and not wordings:
        raise InputError("--definitions needs --names.")
    student = make_local_student(
        model=args.model, dtype=args.dtype, mention_bound=args.mention_bound
    )
    results: Dict[str, object] = {
        **describe_run("training.evaluate"),
        "split": args.split,
        "limit": args.limit,
    }
    for group, names in (("zero_shot", args.zero_shot), ("in_domain", args.in_domain)):
        scores: Dict[str, Dict[str, float]] = {}
        results[group] = scores
        for name in names:
            folder = args.data / "ner" / name
            passages = list(read_set(folder, args.split, spaced=True))
            passages = passages[: args.limit or None]
            types = [t for t in set_types(folder) if t not in DROPPED]
            asked = {t: t for t in types}
            if args.definitions:
                asked = {
                    t: wordings.get(t, {"definition": t})["definition"] for t in types
                }
            student.dataset = name if args.name_dataset else None
            scores[name] = score_set(student, passages, asked, name)
            print(
                f"{name:24} F1 {scores[name]['f1']:6.2f}  P {scores[name]['precision']:6.2f}  R {scores[name]['recall']:6.2f}"
            )
            if "rate" not in results:
                results["rate"] = measure_rate(student, passages[:200])
            write_json(args.out, results)
        if scores:
            average = round(sum(s["f1"] for s in scores.values()) / len(scores), 2)
            results[f"{group}_average"] = average
            print(f"{group} average F1 {average}")
            write_json(args.out, results)


if __name__ == "__main__":
    run_script(main)
