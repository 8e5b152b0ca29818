"""The paper's ablations on the shipped student: train it on for some minutes, changed in
one thing at a time, and measure on dev data.

Negatives: none, uniform, by frequency (the paper's), hard (Table 4). Layout: questions
that see the passage only, or earlier answers too. Definitions in place of names
(Fig. 5b). The dataset's name in the template (Fig. 6). All variants of a group learn
from the same passages for the same time. The weights are thrown away. What is there
already in --out is not done again.

    python -m benchmarks.variants --data ../shared/data --out benchmarks/results/variants.json
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, NamedTuple

from training.evaluate import describe_run
from training.files import write_json

CONFIG = "training/configs/variants.cfg"
SETS = ["wnut17", "broad_tweet_corpus", "bc5cdr", "ncbi", "Stackoverflow-NER", "WLP"]


class Variant(NamedTuple):
    """One change.

    group (str): What it is compared in.
    asked (List[str]): Settings of the conversations. trained (List[str]): Of the
        training. scored (List[str]): Options of the evaluation.
    """

    group: str
    asked: List[str] = []
    trained: List[str] = []
    scored: List[str] = []


def negatives(strategy: str) -> List[str]:
    """RETURNS (List[str]): Settings that draw absent types so."""
    n = 0 if strategy == "none" else 6
    return [
        f'conversations.sampling.strategy="{strategy}"',
        f"conversations.sampling.negatives={n}",
    ]


VARIANTS = {
    "negatives: none": Variant("negatives", negatives("none")),
    "negatives: uniform": Variant("negatives", negatives("uniform")),
    "negatives: frequency": Variant("negatives", negatives("frequency")),
    "negatives: hard": Variant("negatives", negatives("hard")),
    "layout: branches": Variant("layout", trained=['rows.layout="branches"']),
    "layout: conversation": Variant("layout", trained=['rows.layout="conversation"']),
    "types by name": Variant("wording"),
    "types by definition": Variant(
        "wording", ["conversations.sampling.defined=1.0"], scored=["--definitions"]
    ),
    "dataset not named": Variant("dataset"),
    "dataset named": Variant(
        "dataset", ["conversations.sampling.dataset=1.0"], scored=["--name-dataset"]
    ),
}


def measure(
    variant: Variant, data: Path, minutes: float, folder: Path
) -> Dict[str, Any]:
    """Train a variant and score it.

    variant (Variant): The variant.
    data (Path): Folder of sets.
    minutes (float): Of training.
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
        *("finetune", "--config", CONFIG, "--conversations", conversations),
        *("--dev", dev, "--out", folder / "run"),
        *("--set", f"finetune.minutes={minutes}", *variant.trained),
    )
    best = folder / "run" / "best"
    told, scores = folder / "calibration.json", folder / "scores.json"
    _run("calibrate", "--checkpoint", best, "--dev", dev, "--out", told)
    _run(
        *("evaluate", "--data", data, "--model", best, "--out", scores),
        *("--split", "dev", "--limit", 300, "--in-domain", *SETS, "--names", names),
        *variant.scored,
    )
    calibration, scored = json.loads(told.read_text()), json.loads(scores.read_text())
    bound = str(calibration["empty_bound"])
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").open()]
    last = [row for row in log if "seconds" in row][-1]
    return {
        "open_f1": calibration["f1"][bound]["llm_teacher_open"],
        "open_f1_greedy": calibration["f1"]["0.5"]["llm_teacher_open"],
        "empty_bound": calibration["empty_bound"],
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
    parser.add_argument("--minutes", type=float, default=5, help="of training, each")
    parser.add_argument("--only", nargs="*", default=[], help="groups; all if none")
    args = parser.parse_args()
    results: Dict[str, Any] = {"variants": {}}
    if args.out.exists():
        results = json.loads(args.out.read_text(encoding="utf8"))
    results.update(describe_run("benchmarks.variants"), minutes=args.minutes)
    for name, variant in VARIANTS.items():
        wanted = not args.only or variant.group in args.only
        if not wanted or name in results["variants"]:
            continue
        with TemporaryDirectory() as folder:
            found = measure(variant, args.data, args.minutes, Path(folder))
        load = round(os.getloadavg()[0], 2)
        results["variants"][name] = {"group": variant.group, **found, "load": load}
        write_json(args.out, results)
        print(f"{name:24}", found)


if __name__ == "__main__":
    main()
