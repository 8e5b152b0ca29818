"""Annotate a corpus in this process, and over Ray with one worker and with two.

Start-up (Ray, workers, their weights) is told apart: the rate counts from the first
shard that is done to the last. In turn, round after round; medians are compared.

    python -m benchmarks.workers --data ../shared/data --out benchmarks/results/workers.json
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from spacy_uniner.corpora import Recipe, annotate_corpus, run_on_ray
from spacy_uniner.corpora.annotating import Runner, Tick, run_here
from spacy_uniner.corpora.shards import Shard
from spacy_uniner.corpora.working import Result
from training.evaluate import describe_run
from training.files import write_json

from .stream import passages

FORMAT = "jsonl"


def make_runner(recipe: Recipe, workers: int) -> Runner:
    """RETURNS (Runner): Over Ray; this process without workers."""
    if not workers:
        return run_here(recipe, FORMAT)
    return run_on_ray(recipe, FORMAT, workers=workers)


def watched(runner: Runner, done: List[Tuple[float, int]]) -> Runner:
    """RETURNS (Runner): The same; it notes when shards were done, and their sizes."""

    def run(shards: Iterator[Shard], tick: Tick) -> Iterator[Result]:
        for result in runner(shards, tick):
            done.append((time.perf_counter(), result.documents))
            yield result

    return run


def time_run(
    recipe: Recipe, source: Path, out: Path, workers: int, shard_size: int
) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Seconds in all, and documents per second after as many
    shards as there are workers.
    RAISES (ValueError): If there are no more."""
    start = time.perf_counter()
    done: List[Tuple[float, int]] = []
    runner = watched(make_runner(recipe, workers), done)
    annotate_corpus([source], out, recipe, shard_size=shard_size, runner=runner)
    n_first = max(workers, 1)
    if len(done) <= n_first:
        raise ValueError(f"{len(done)} shard(s) are too few: raise --docs")
    before, *rest = done[n_first - 1 :]
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "documents_per_second": round(
            sum(size for _, size in rest) / (rest[-1][0] - before[0]), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", type=int, default=4000)
    parser.add_argument("--shard-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    recipe = Recipe(labels=("person", "organization", "location"))
    kinds = {"this process": 0, "Ray, 1 worker": 1, "Ray, 2 workers": 2}
    runs: Dict[str, List[Dict[str, float]]] = {name: [] for name in kinds}
    results: Dict[str, Any] = {**describe_run("benchmarks.workers")}
    results["load_before"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as tmp:
        source = Path(tmp) / "texts.jsonl"
        texts = itertools.islice(passages(args.data), args.docs)
        source.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        for number in range(args.rounds):
            for name, workers in kinds.items():
                out = Path(tmp) / f"{workers}-{number}"
                runs[name].append(
                    time_run(recipe, source, out, workers, args.shard_size)
                )
    results |= {"docs": args.docs, "labels": recipe.labels, "runs": runs}
    results["median"] = {
        name: {
            key: statistics.median(r[key] for r in found)
            for key in ("seconds", "documents_per_second")
        }
        for name, found in runs.items()
    }
    results["load_after"] = os.getloadavg()[0]
    write_json(args.out, results)
    print(results)


if __name__ == "__main__":
    main()
