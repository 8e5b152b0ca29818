"""Time greedy answers and searched ones, at several bounds, in turn in one process.

What the search is worth is in the report of `training.calibrate`.

    python -m benchmarks.searching --data ../shared/data --out benchmarks/results/searching.json
"""

import argparse
import math
import os
from pathlib import Path
from typing import Any, Callable, Dict

from training.evaluate import describe_run
from training.files import write_json

from .inference import make_student, time_rounds, watch
from .passages import own_questions
from .peers import Tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bounds", type=float, nargs="*", default=[0.1, 0.2, 0.4])
    args = parser.parse_args()
    asked = own_questions(args.data, args.passages)
    shipped = make_student(args.model, mention_bound=None).mention_bound
    bounds = sorted({0.0, shipped, *args.bounds})
    students = {
        bound: make_student(args.model, mention_bound=bound) for bound in bounds
    }
    # `time_rounds` warms up the one that is called so
    names = {bound: f"bound {bound:g}" if bound else "tree" for bound in bounds}
    peers: Dict[str, Callable] = {n: Tree(students[b]) for b, n in names.items()}
    results: Dict[str, Any] = {**describe_run("benchmarks.searching")}
    results["load_before"] = os.getloadavg()[0]
    rates = time_rounds(peers, asked, rounds=args.rounds, shortest=math.inf)
    greedy = rates["tree"]["passages_per_second"]
    results |= {"passages": len(asked), "shipped_bound": shipped}
    results["bounds"] = {
        bound: {
            **rates[name],
            "of_greedy": round(rates[name]["passages_per_second"] / greedy, 3),
            **watch(students[bound], asked),
        }
        for bound, name in names.items()
    }
    results["load_after"] = os.getloadavg()[0]
    write_json(args.out, results)
    print(results)


if __name__ == "__main__":
    main()
