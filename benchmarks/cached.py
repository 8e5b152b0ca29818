"""Time a cache of answers: cold, warm, and when a label is added.

Adding a label should cost about what that label alone costs without a cache. Each
round has a new file; in turn, round after round; medians are compared.

    python -m benchmarks.cached --data ../shared/data --out benchmarks/results/cached.json
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from spacy_uniner.students.cache import make_cached_student
from spacy_uniner.students.local import make_local_student
from spacy_uniner.types import Student
from training.evaluate import describe_run
from training.files import write_json

from .passages import all_types, own_questions


def time_of(student: Student, passages: List[str], types: List[str]) -> float:
    """RETURNS (float): Seconds to ask for all types about all passages."""
    start = time.perf_counter()
    student([(passage, types) for passage in passages])
    return time.perf_counter() - start


def one_round(
    local: Student, path: Path, passages: List[str], types: List[str]
) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Seconds of each step, and the share of hits when the
    last type is added."""
    *first, added = types
    cached = make_cached_student(student=local, path=str(path))
    seconds = {
        "cold": time_of(cached, passages, first),
        "again": time_of(cached, passages, first),
    }
    hits, misses = cached.hits, cached.misses
    seconds["a label added"] = time_of(cached, passages, types)
    hits, misses = cached.hits - hits, cached.misses - misses
    seconds["all, no cache"] = time_of(local, passages, types)
    seconds["that label alone, no cache"] = time_of(local, passages, [added])
    return {**seconds, "hit rate": hits / (hits + misses)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--types", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    results: Dict[str, Any] = {**describe_run("benchmarks.cached")}
    results["load_before"] = os.getloadavg()[0]
    passages = [text for text, _ in own_questions(args.data, args.passages)]
    types = all_types(args.data)[: args.types]
    local = make_local_student()
    local([(passages[0], types)])  # loads the weights
    with tempfile.TemporaryDirectory() as tmp:
        rounds = [
            one_round(local, Path(tmp) / f"{n}.sqlite", passages, types)
            for n in range(args.rounds)
        ]
    results["passages"], results["types"] = len(passages), types
    results["seconds"] = {
        name: round(statistics.median(r[name] for r in rounds), 4)
        for name in rounds[0]
        if name != "hit rate"
    }
    results["hit_rate_after_adding"] = round(rounds[0]["hit rate"], 4)
    results["rounds"] = rounds
    results["load_after"] = os.getloadavg()[0]
    write_json(args.out, results)
    print(results)


if __name__ == "__main__":
    main()
