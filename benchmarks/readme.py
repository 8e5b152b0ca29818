"""Put the figures of the benchmark into the README, between the marks that say where.

python -m benchmarks.readme --results benchmarks/results --readme README.md
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any, List, Mapping

from spacy_uniner.benchmark.registry import load_sets
from training.files import writing

from .report import to_markdown

ZERO_SHOT = "zero-shot set of the paper"


def sets_table(scores: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Write the table of sets.

    scores (Mapping[str, Any]): What `spacy_uniner.benchmark score` wrote.
    evaluation (Mapping[str, Any]): What `training.evaluate` wrote.
    RETURNS (str): Markdown.
    """
    zero_shot = {name for name, each in load_sets().items() if each.zero_shot}
    rows: List[List[str]] = []
    for name, found in scores["sets"].items():
        if not found["dataset"]:
            continue
        kind = "its training part was learned" if found["learned"] else "never seen"
        kind = ZERO_SHOT if name in zero_shot else kind
        rows.append([name, f"{found['official']['f1']:.1f}", kind])
    rows.sort(key=lambda row: (row[2] != ZERO_SHOT, row[2] == "never seen", row[0]))
    means = scores["averages"]
    seconds = sum(
        s["passages"] / s["passages_per_second"] for s in scores["sets"].values()
    )
    n = sum(s["passages"] for s in scores["sets"].values())
    told = [
        f"Averages: the seven zero-shot sets **{means['zero_shot']['f1']:.1f}**",
        f"the {means['learned']['sets']} sets whose training part was learned {means['learned']['f1']:.1f}",
        f"the {means['unseen']['sets']} others {means['unseen']['f1']:.1f}",
    ]
    rate = evaluation["rate"]
    bare = (
        f"By the student's bare answers, not moved to borders of tokens: zero-shot "
        f"{evaluation['zero_shot_average']:.1f}, and {rate['passages_per_second']:.0f} passages of "
        f"{rate['words_per_passage']:.0f} words a second for {rate['types']} types "
        f"(`training.evaluate`; {evaluation['machine']}, load {rate['load_average']})."
    )
    lines = ["| set | F1 | |", "|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", f"{', '.join(told)}. {n:,} passages in {seconds:.0f} seconds."]
    lines += ["", bare]
    return "\n".join(lines)


def put(readme: str, mark: str, text: str) -> str:
    """Put a text between two marks.

    readme (str): Where to.
    mark (str): The name of the marks.
    text (str): What to put there.
    RETURNS (str): The README with it.
    RAISES (ValueError): If the marks are not there.
    """
    pattern = re.compile(f"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"the README has no <!-- {mark} --> ... <!-- /{mark} -->")
    return pattern.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", readme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--readme", type=Path, required=True)
    args = parser.parse_args()

    def read(name: str) -> Any:
        return json.loads((args.results / name).read_text(encoding="utf8"))

    text = args.readme.read_text(encoding="utf8")
    table = sets_table(read("benchmark/scores.json"), read("mini-evaluation.json"))
    text = put(text, "sets", table)
    text = put(text, "inference", to_markdown(read("inference.json")))
    with writing(args.readme) as out:
        out.write(text)


if __name__ == "__main__":
    main()
