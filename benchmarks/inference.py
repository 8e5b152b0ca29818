"""Time the answer tree against its peers, in one process and one run.

All peers take the same passages in turn, round after round, so that a busy moment
hits them all; medians are compared. Slow peers read fewer passages. Writes JSON,
a Markdown table and a plot.

    python -m benchmarks.inference --data ../shared/data --out benchmarks/results/inference
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch

from spacy_uniner.students.copying import Guess, Guide
from spacy_uniner.students.local import LocalStudent, make_local_student
from spacy_uniner.students.reference import ReferenceStudent
from training.evaluate import describe_run

from .passages import Asked, joined, own_questions
from .peers import Tree, make_peers, peer_makers
from .report import plot, to_markdown, write

SHORTEST = 0.5  # seconds a peer runs per round, at least three passages


def time_rounds(
    peers: Dict[str, Callable],
    asked: Sequence[Asked],
    *,
    rounds: int,
    shortest: float = SHORTEST,
) -> Dict[str, Dict[str, Any]]:
    """Time peers in turn.

    peers (Dict[str, Callable]): Name -> peer.
    asked (Sequence[Asked]): Passages with types.
    rounds (int): How often.
    shortest (float): Seconds that a peer reads per round, if there is so much to read.
    RETURNS (Dict[str, Dict[str, Any]]): Name -> median and all rates, in passages per
        second, and how many passages it read per round.
    """
    sizes = {}
    for name, peer in peers.items():  # warms up, and tells how much fits in a round
        start = time.perf_counter()
        peer(asked[:1])
        peer(asked[:1])
        seconds = (time.perf_counter() - start) / 2
        wanted = max(3, round(min(len(asked), shortest / seconds)))
        sizes[name] = len(asked) if name == "tree" else min(len(asked), wanted)
    peers["tree"](asked)
    rates: Dict[str, List[float]] = {name: [] for name in peers}
    for number in range(rounds):
        for name, peer in peers.items():
            size = sizes[name]
            first = (number * size) % max(1, len(asked) - size + 1)
            start = time.perf_counter()
            peer(asked[first : first + size])
            rates[name].append(size / (time.perf_counter() - start))
    return {
        name: {
            "passages_per_second": round(statistics.median(found), 3),
            "rounds": [round(rate, 3) for rate in found],
            "passages_per_round": sizes[name],
        }
        for name, found in rates.items()
    }


def latencies(peer: Callable, asked: Sequence[Asked]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Of passages one by one, p50 and p95 in milliseconds."""
    found = []
    for question in asked:
        start = time.perf_counter()
        peer([question])
        found.append(1000 * (time.perf_counter() - start))
    cuts = statistics.quantiles(found, n=20)
    return {"p50_ms": round(statistics.median(found), 1), "p95_ms": round(cuts[-1], 1)}


class Watch:
    """Counts forwards of a student, and the time in its model."""

    def __init__(self, student: LocalStudent) -> None:
        self.llama = student.llama
        self.forwards = self.tokens = 0
        self.seconds = 0.0

    def __enter__(self) -> "Watch":
        read, logits = self.llama.read, self.llama.logits

        def timed_read(readings: Any) -> Any:
            self.forwards += 1
            self.tokens += sum(len(reading.ids) for reading in readings)
            return self._timed(read, readings)

        self.llama.read = timed_read  # type: ignore[method-assign]
        self.llama.logits = lambda *args: self._timed(logits, *args)  # type: ignore[method-assign]
        return self

    def _timed(self, run: Callable, *args: Any) -> Any:
        start = time.perf_counter()
        out = run(*args)
        self.seconds += time.perf_counter() - start
        return out

    def __exit__(self, *_: object) -> None:
        del self.llama.read, self.llama.logits


def watch(student: LocalStudent, asked: Sequence[Asked]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Forwards, tokens, and the share of time outside the
    model, of one call."""
    tree = Tree(student)
    with Watch(student) as whole:
        start = time.perf_counter()
        tree(asked)
        seconds = time.perf_counter() - start
    return {
        "forwards": whole.forwards,
        "tokens_per_passage": round(whole.tokens / len(asked), 1),
        "tokens_per_second": round(whole.tokens / seconds),
        "share_outside_model": round(1 - whole.seconds / seconds, 4),
    }


def count_forwards(student: LocalStudent, asked: Sequence[Asked]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Forwards per 32 passages: the median of calls with so
    many, and in a stream of eight times what was given."""
    tree = Tree(student)
    alone = []
    for at in range(0, len(asked) - 31, 32):
        with Watch(student) as part:
            tree(asked[at : at + 32])
        alone.append(part.forwards)
    with Watch(student) as stream:
        tree([*asked] * 8)
    per_32 = stream.forwards * 32 / (8 * len(asked))
    return {"alone": statistics.median(alone), "in_stream": round(per_32, 2)}


def agreement(student: LocalStudent, asked: Sequence[Asked]) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Share of answers that are certified, and that equal
    those of one prompt per type without any limit."""
    rows = student(asked)
    plain = [[a.text for a in row] for row in ReferenceStudent(student)(asked)]
    pairs = [
        (answer, text)
        for row, texts in zip(rows, plain)
        for answer, text in zip(row, texts)
    ]
    sure = [(answer, text) for answer, text in pairs if answer.certified]
    return {
        "answers": len(pairs),
        "certified": round(len(sure) / len(pairs), 4),
        "equal": round(sum(x.text == y for x, y in pairs) / len(pairs), 4),
        "equal_if_certified": round(
            sum(x.text == y for x, y in sure) / max(1, len(sure)), 4
        ),
    }


class Duller:
    """A guide that leaves out a part of its drafts, for ablations."""

    def __init__(self, guide: Guide, *, opening: bool, mentions: bool) -> None:
        self.guide, self.opening, self.mentions = guide, opening, mentions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guide, name)

    def draft(self, state: Any) -> List[Guess]:
        """RETURNS (List[Guess]): The drafts that are left."""
        wanted = self.opening if state == self.guide.start else self.mentions
        return self.guide.draft(state) if wanted else []


class Ablated:
    """The tree with one thing taken away."""

    def __init__(self, student: LocalStudent, what: str) -> None:
        self.student, self.what = student, what

    def __call__(self, asked: Sequence[Asked]) -> List:
        if self.what == "batching":
            return [row for question in asked for row in Tree(self.student)([question])]
        if self.what == "tree":
            alone = [(passage, [t]) for passage, types in asked for t in types]
            return Tree(self.student)(alone)
        guide = self.student.coder.guide
        opening = self.what == "drafts of mentions"
        self.student.coder.guide = lambda p: Duller(  # type: ignore[method-assign]
            guide(p), opening=opening, mentions=self.what == "speculative opening"
        )
        try:
            return Tree(self.student)(asked)
        finally:
            del self.student.coder.guide  # type: ignore[method-assign]


def ablations(model: str, asked: Sequence[Asked], *, rounds: int) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Rates of the tree without one of its parts, and of the
    search over lists that is the default."""
    student = make_student(model)
    peers: Dict[str, Callable] = {"tree": Tree(student)}
    for what in ("tree", "speculative opening", "drafts of mentions", "batching"):
        peers[f"without {what}"] = Ablated(student, what)
    peers["without bf16"] = Tree(make_student(model, dtype="float32"))
    peers["searching"] = Tree(make_student(model, mention_bound=None))
    return time_rounds(peers, asked, rounds=rounds, shortest=math.inf)


def make_student(model: str, **settings: Any) -> LocalStudent:
    """RETURNS (LocalStudent): A student for long passages, whose answers end soon;
    greedy, as all peers are."""
    settings = {"mention_bound": 0.0, **settings}
    return make_local_student(
        model=model, max_passage_tokens=512, max_new_tokens=64, **settings
    )


def peak_memory(model: str, peer: str, data: Path) -> float:
    """RETURNS (float): Peak resident memory of a fresh process with one peer, in MiB."""
    command = [sys.executable, "-m", "benchmarks.inference", "--model", model]
    command += ["--data", str(data), "--memory-of", peer, "--out", os.devnull]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def parse_grid(text: str) -> List[Tuple[int, int]]:
    """RETURNS (List[Tuple[int, int]]): Pairs of tokens and types, from "60x10,256x20"."""
    return [(int(a), int(b)) for a, b in (cell.split("x") for cell in text.split(","))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="without suffix")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passages", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--grid",
        default="60x3,60x10,60x20,60x50,256x3,256x10,256x20,256x50,512x3,512x10,512x20,512x50",
    )
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    student = make_student(args.model)
    own = own_questions(args.data, args.passages)
    if args.memory_of:
        peer_makers(student, own[:10])[args.memory_of]()(own[:10])
        # not of getrusage, which a child has from its parent
        status = Path("/proc/self/status").read_text()
        print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)
        return
    peers = make_peers(student, own)
    results: Dict[str, Any] = {**describe_run("benchmarks.inference"), "cells": {}}
    results["threads"] = args.threads
    results["load_before"] = os.getloadavg()[0]
    words = sum(len(passage.split()) for passage, _ in own) / len(own)
    cell = {
        "rates": time_rounds(peers, own, rounds=args.rounds),
        "words_per_passage": round(words, 1),
        "work": watch(student, own),
        "forwards_per_32": count_forwards(student, own),
        "latency": {n: latencies(peers[n], own[:40:2]) for n in list(peers)[:4]},
        "agreement": agreement(student, own[::3]),
    }
    results["cells"]["CrossNER as it is, own types"] = cell
    for n_tokens, n_types in parse_grid(args.grid):
        asked = joined(args.data, student, n=32, n_tokens=n_tokens, n_types=n_types)
        peers = make_peers(student, asked)
        results["cells"][f"{n_tokens} × {n_types}"] = {
            "tokens": n_tokens,
            "types": n_types,
            "rates": time_rounds(peers, asked, rounds=args.rounds),
            "work": watch(student, asked),
        }
        print(
            n_tokens,
            n_types,
            {
                n: r["passages_per_second"]
                for n, r in results["cells"][f"{n_tokens} × {n_types}"]["rates"].items()
            },
            flush=True,
        )
        write(args.out, results)
    results["ablation"] = ablations(args.model, own, rounds=args.rounds)
    results["peak_memory_mib"] = {
        name: peak_memory(args.model, name, args.data) for name in list(peers)[:4]
    }
    results["load_after"] = os.getloadavg()[0]
    write(args.out, results)
    args.out.with_suffix(".md").write_text(to_markdown(results), encoding="utf8")
    plot(results, args.out.with_suffix(".png"))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
