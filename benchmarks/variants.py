"""The paper's ablations on the shipped student: train it on for some minutes, changed in
one thing at a time, and measure on dev data.

Negatives: none, uniform, by frequency (the paper's), hard (Table 4). Layout: questions
that see the passage only, or earlier answers too. Definitions in place of names
(Fig. 5b). The dataset's name in the template (Fig. 6). All variants of a group learn
from the same passages, once, whatever the machine does beside. The weights are thrown
away. What is there already in --out is not done again.

    python -m benchmarks.variants --data ../shared/data --out benchmarks/results/variants.json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, NamedTuple

from training.evaluate import describe_run
from training.files import write_json

CONFIG = "training/configs/variants.cfg"
ROWS = "training/configs/variants-rows.cfg"
SETS = ["wnut17", "broad_tweet_corpus", "bc5cdr", "ncbi", "Stackoverflow-NER", "WLP"]


class Variant(NamedTuple):
    """One change.

    asked (List[str]): Settings of the conversations. config (str): Config of the
        training. trained (List[str]): Settings of the training. scored (List[str]):
        Options of the evaluation. share (float): How much of --epochs it learns.
    """

    asked: List[str] = []
    config: str = CONFIG
    trained: List[str] = []
    scored: List[str] = []
    share: float = 1.0


def negatives(strategy: str) -> List[str]:
    """RETURNS (List[str]): Settings that draw absent types so."""
    n = 0 if strategy == "none" else 6
    return [
        f'conversations.sampling.strategy="{strategy}"',
        f"conversations.sampling.negatives={n}",
    ]


BASE = "negatives by frequency; types by name; dataset not named"
VARIANTS = {
    BASE: Variant(),
    "no negatives": Variant(negatives("none")),
    "uniform negatives": Variant(negatives("uniform")),
    "hard negatives": Variant(negatives("hard")),
    "types by definition": Variant(
        ["conversations.sampling.defined=1.0"], scored=["--definitions"]
    ),
    "dataset named": Variant(
        ["conversations.sampling.dataset=1.0"], scored=["--name-dataset"]
    ),
    "branches": Variant(config=ROWS, trained=['rows.layout="branches"'], share=0.15),
    "conversation": Variant(
        config=ROWS, trained=['rows.layout="conversation"'], share=0.15
    ),
}


def measure(
    variant: Variant, data: Path, epochs: float, folder: Path
) -> Dict[str, Any]:
    """Train a variant and score it.

    variant (Variant): The variant.
    data (Path): Folder of sets.
    epochs (float): Share of the conversations that is learned.
    folder (Path): For what is thrown away.
    RETURNS (Dict[str, Any]): F1 on dev parts, in percent, and how far training came.
    """
    names = data / "types.jsonl"
    conversations, dev = folder / "conversations.jsonl", folder / "dev.jsonl"
    wordnet = data / "gazetteer" / "oewn_noun_synsets.jsonl.gz"
    _run(
        *("conversations", "--config", CONFIG, "--data", data, "--names", names),
        *("--wordnet", wordnet, "--out", conversations, "--dev", dev),
        *(["--set", *variant.asked] if variant.asked else []),
    )
    _run(
        *("finetune", "--config", variant.config, "--conversations", conversations),
        *("--dev", dev, "--out", folder / "run"),
        *("--set", f"finetune.epochs={epochs * variant.share:g}", *variant.trained),
    )
    best = folder / "run" / "best"
    told, scores = folder / "calibration.json", folder / "scores.json"
    _run("calibrate", "--checkpoint", best, "--dev", dev, "--out", told)
    _run(
        *("evaluate", "--data", data, "--model", best, "--out", scores),
        *("--split", "dev", "--limit", 300, "--in-domain", *SETS, "--names", names),
        *("--mention-bound", 0),  # greedy answers: half the time
        *variant.scored,
    )
    greedy = json.loads(told.read_text())["greedy"]
    scored = json.loads(scores.read_text())
    bound = str(greedy["empty_bound"])
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").open()]
    last = [row for row in log if "seconds" in row][-1]
    return {
        "open_f1": greedy["f1"][bound]["llm_teacher_open"],
        "open_f1_greedy": greedy["f1"]["0.5"]["llm_teacher_open"],
        "empty_bound": greedy["empty_bound"],
        "closed_f1": scored["in_domain_average"],
        "closed": {name: s["f1"] for name, s in scored["in_domain"].items()},
        **{name: last[name] for name in ("step", "tokens", "conversations")},
    }


def _run(module: str, *options: Any) -> None:
    command = [sys.executable, "-m", f"training.{module}", *map(str, options)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ner/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=0.15, help="of training, each")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="all if none")
    args = parser.parse_args()
    results: Dict[str, Any] = {"variants": {}}
    if args.out.exists():
        results = json.loads(args.out.read_text(encoding="utf8"))
    results.update(describe_run("benchmarks.variants"), epochs=args.epochs)
    for name in args.only or VARIANTS:
        if name in results["variants"]:
            continue
        with TemporaryDirectory() as folder:
            found = measure(VARIANTS[name], args.data, args.epochs, Path(folder))
        results["variants"][name] = found
        write_json(args.out, results)
        print(f"{name:60}", found)


if __name__ == "__main__":
    main()
