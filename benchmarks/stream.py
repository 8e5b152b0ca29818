"""Annotate a long stream of documents, and watch the memory of the process.

python -m benchmarks.stream --data ../shared/data --out benchmarks/results/stream.json
"""

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import spacy

from training.evaluate import describe_run
from training.sets import read_set

from .passages import SETS


def resident() -> float:
    """RETURNS (float): Resident memory of this process, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def passages(data: Path) -> Iterator[str]:
    """YIELDS (str): Passages of the CrossNER tests, mixed, over and over."""
    rows = [
        r.text for s in SETS for r in read_set(data / "ner" / s, "test", spaced=True)
    ]
    random.Random(0).shuffle(rows)
    return itertools.cycle(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", type=int, default=10_000)
    parser.add_argument(
        "--labels", nargs="*", default=["person", "organization", "location"]
    )
    args = parser.parse_args()
    nlp = spacy.blank("en")
    nlp.add_pipe("uniner", config={"labels": args.labels})
    texts = itertools.islice(passages(args.data), args.docs)
    results: Dict[str, Any] = {**describe_run("benchmarks.stream"), "resident_mib": []}
    start = time.perf_counter()
    for number, _ in enumerate(nlp.pipe(texts), 1):
        if number % 1000 == 0:
            results["resident_mib"].append(round(resident(), 1))
    first, last = results["resident_mib"][0], results["resident_mib"][-1]
    results["docs"] = number
    results["docs_per_second"] = round(number / (time.perf_counter() - start), 1)
    results["last_to_first"] = round(last / first, 4)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(results)


if __name__ == "__main__":
    main()
