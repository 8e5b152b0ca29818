"""Time training: windows and packed rows against one padded row per question.

All learn the same conversations, from the weights of the shipped student, in one
process, in turn; medians of rounds. The rate of bare matrix products, measured in the
same rounds, says what the machine could do.

    python -m benchmarks.finetune --out benchmarks/results/finetune.json
"""

import argparse
import os
import statistics
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Tuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from spacy_uniner.students.checkpoint import find_checkpoint, load_tokenizer
from spacy_uniner.students.coding import Coder
from training.evaluate import describe_run
from training.files import read_rows, write_json
from training.finetune import Run, make_packer
from training.settings import read_settings
from training.tuning.examples import Encoder, Example
from training.tuning.recipe import Recipe
from training.tuning.rows import make_batch, segments
from training.tuning.students import make_trainee
from training.turns import to_conversation

CONVERSATIONS = Path("assets/written_open.jsonl")
LOSS = """
[finetune]
init = "mini"
template = "mini"
steps = 100000
rate = 1e-5
matrix_rate = 1e-5
legal_weight = 1.0
answer_weight = 0.05
"""
WINDOWS = "[windows]\ntokens_per_batch = 6144\n"
ROWS = '[rows]\nlength = 1024\nlayout = "branches"\nrows_per_batch = 6\n'
ROWS += "conversations_per_step = 24\n"
# name -> config, whether every question is a row of its own
PEERS: Dict[str, Tuple[str, bool]] = {
    "windows, compiled": (WINDOWS + LOSS + "compiled = true\n", False),
    "windows, compiled, Muon": (
        WINDOWS + LOSS + 'compiled = true\noptimizer = "muon"\n',
        False,
    ),
    "windows": (WINDOWS + LOSS, False),
    "packed rows": (ROWS + LOSS, False),
    "a padded row per question": (ROWS + LOSS, True),
}
QUESTIONS_PER_BATCH = 48  # where each has a row of its own


def one_by_one(examples: List[Example]) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): Steps in which every question has a row of its own,
    padded to the longest of the batch, as trainers do that know no packing."""
    options = {"length": 512, "layout": "branches", "language": False}
    rows = [
        found
        for example in examples
        for branch in example.branches
        for found in segments(
            Example(example.prefix, 0, example.guide, [branch]),
            counts=Counter(),
            **options,  # type: ignore[arg-type]
        )
    ]
    batches = [
        rows[i : i + QUESTIONS_PER_BATCH]
        for i in range(0, len(rows), QUESTIONS_PER_BATCH)
    ]
    return [
        [make_batch([[row] for row in batch], max(len(row.tokens) for row in batch))]
        for batch in batches
    ]


def matrix_rate(sizes: Tuple[int, int, int] = (6144, 384, 2048)) -> float:
    """RETURNS (float): TFLOP/s of bare bf16 products of the student's shapes."""
    n, d, inner = sizes
    a = torch.randn(n, d).bfloat16()
    b = torch.randn(inner, d).bfloat16()
    start, count = time.perf_counter(), 40
    for _ in range(count):
        torch.nn.functional.linear(a, b)
    return 2 * n * d * inner * count / (time.perf_counter() - start) / 1e12


class Peer:
    """One way to train, ready to go on."""

    def __init__(self, config: str, alone: bool, coder: Coder, folder: Path) -> None:
        (folder / "x.cfg").write_text(config)
        recipe = Recipe.of(read_settings(folder / "x.cfg", []))
        encode = Encoder(coder, Counter(), choices=True)
        rows = list(read_rows(CONVERSATIONS))
        told = [
            to_conversation("", r["text"], list(r["queries"].items())) for r in rows
        ]
        examples = [example for example in map(encode, told) if example]
        steps: List[List[Any]] = []
        if alone:
            steps = one_by_one(examples)
        else:
            packer = make_packer(recipe, Counter())
            for number, example in enumerate(examples):
                packer.put(number, example)
                if step := packer.take():
                    steps.append(step)
        AcceleratorState._reset_state(True)  # one process, several precisions
        mixed = "no" if "[windows]" in config else "bf16"
        self.run = Run(
            recipe, make_trainee(recipe, coder), Accelerator(mixed_precision=mixed)
        )
        self.steps = cycle(steps)
        weights = self.run.trainee.module.named_parameters()
        self.n_inner = sum(w.numel() for n, w in weights if "embed" not in n)

    def go(self, seconds: float) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): Questions and tokens learned per second, and
        TFLOP/s of products with weights: six per token and weight."""
        start, questions, tokens = time.perf_counter(), 0, 0
        while (passed := time.perf_counter() - start) < seconds:
            step = next(self.steps)
            self.run.step(step)
            questions += sum(batch.n_questions for batch in step)
            tokens += sum(batch.n_tokens for batch in step)
        rates = {"questions_per_second": questions, "tokens_per_second": tokens}
        rates["tflops"] = 6 * self.n_inner * tokens / 1e12
        return {name: value / passed for name, value in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each, a round")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch._dynamo.config.recompile_limit = 64
    coder = Coder(load_tokenizer(find_checkpoint("mini")), "mini")
    found: Dict[str, List[Dict[str, float]]] = {name: [] for name in PEERS}
    products: List[float] = []
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        peers = {}
        for name, (config, alone) in PEERS.items():
            peers[name] = Peer(config, alone, coder, Path(folder))
            peers[name].go(2 * args.seconds)  # compiled, and warm
        for _ in range(args.rounds):
            products.append(matrix_rate())
            for name, peer in peers.items():
                found[name].append(peer.go(args.seconds))
    medians = {
        name: {
            key: round(statistics.median(row[key] for row in rows), 3)
            for key in rows[0]
        }
        for name, rows in found.items()
    }
    base = medians["a padded row per question"]["questions_per_second"]
    for row in medians.values():
        row["times_padded"] = round(row["questions_per_second"] / base, 2)
    results = {
        **describe_run("benchmarks.finetune"),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "matrix_tflops": round(statistics.median(products), 3),
        "threads": torch.get_num_threads(),
        "peers": medians,
    }
    write_json(args.out, results)
    for name, row in medians.items():
        print(f"{name:28}", row)
    print("matrix products:", results["matrix_tflops"], "TFLOP/s")


if __name__ == "__main__":
    main()
