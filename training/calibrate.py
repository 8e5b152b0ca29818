"""Fit the dial between precision and recall on held-out conversations.

Answers every question as if it were not empty, keeps the probability that it is,
and finds the bound at which the mean F1 over the dev sets is highest. Writes it
into the checkpoint's config, and the whole curve as JSON. Zero-shot sets have no
part in it.

    python -m training.calibrate --checkpoint DIR --dev dev.jsonl --out calibration.json
"""

import argparse
import json
from pathlib import Path
from typing import Dict, List, Tuple

from spacy_uniner.students.local import make_local_student

from .packing import QUESTION
from .scoring import f1, normalize
from .sets import read_jsonl

BOUNDS = [round(0.05 * i, 2) for i in range(4, 20)]
# of one question: gold mentions, named mentions, hits, probability of being empty
Outcome = Tuple[int, int, int, float]


def ask_all(checkpoint: Path, dev: Path) -> Dict[str, List[Outcome]]:
    """Answer dev questions as if none were empty.

    checkpoint (Path): The checkpoint.
    dev (Path): Conversations; the set is the part of the id before its number.
    RETURNS (Dict[str, List[Outcome]]): Set -> outcome of each question.
    """
    student = make_local_student(model=str(checkpoint), empty_bound=1.0)
    questions, golds = [], []
    for row in read_jsonl(dev):
        turns = row["conversations"]
        types = [QUESTION.fullmatch(turn["value"])[1] for turn in turns[2::2]]
        questions.append((turns[0]["value"][len("Text: ") :], types))
        golds.append(
            (row["id"].rsplit("-", 1)[0], [json.loads(t["value"]) for t in turns[3::2]])
        )
    outcomes: Dict[str, List[Outcome]] = {}
    for (name, gold_lists), answers in zip(golds, student(questions)):
        for gold_list, answer in zip(gold_lists, answers):
            gold = {normalize(mention) for mention in gold_list}
            named = {normalize(mention.text) for mention in answer.mentions}
            outcome = (len(gold), len(named), len(gold & named), answer.p_empty)
            outcomes.setdefault(name, []).append(outcome)
    return outcomes


def score_at(outcomes: List[Outcome], bound: float) -> float:
    """RETURNS (float): F1 in percent if answers are empty from this probability on."""
    n_gold = sum(o[0] for o in outcomes)
    taken = [o for o in outcomes if o[3] < bound]
    return f1(sum(o[2] for o in taken), n_gold, sum(o[1] for o in taken))[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    outcomes = ask_all(args.checkpoint, args.dev)
    curve = {b: {name: score_at(o, b) for name, o in outcomes.items()} for b in BOUNDS}
    means = {
        b: round(sum(scores.values()) / len(scores), 2) for b, scores in curve.items()
    }
    best = max(means, key=lambda b: means[b])
    report = {
        "empty_bound": best,
        "mean_f1": means,
        "f1": curve,
        "questions": sum(map(len, outcomes.values())),
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")
    config = json.loads((args.checkpoint / "config.json").read_text(encoding="utf8"))
    config["empty_bound"] = best
    (args.checkpoint / "config.json").write_text(
        json.dumps(config, indent=2) + "\n", encoding="utf8"
    )
    print(
        f"empty_bound {best}: mean dev F1 {means[best]}, at the greedy 0.5 {means[0.5]}"
    )


if __name__ == "__main__":
    main()
