"""Fit what a checkpoint's probabilities mean, on held-out conversations.

Answers every question as if it were not empty, keeps the probability that it is,
and finds the bound at which the mean F1 over the dev sets is highest; then fits a
temperature and a shift to the probabilities of emptiness and of mentions, on half of
the questions, and measures the calibration error on the other half. Writes
`calibration.json` into the checkpoint, and everything as a report. Zero-shot sets
have no part in it.

    python -m training.calibrate --checkpoint DIR --dev dev.jsonl --out calibration.json
"""

import argparse
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from spacy_uniner.benchmark.score import f1, normalize
from spacy_uniner.students.calibration import Calibration, Scale, log_odds
from spacy_uniner.students.checkpoint import find_checkpoint
from spacy_uniner.students.local import LocalStudent

from .files import run_script, write_json
from .turns import from_conversation, read_conversations

BOUNDS = [round(0.05 * i, 2) for i in range(4, 20)]
BINS = 15  # of the calibration error

# probability told, whether it was right
Told = Tuple[float, bool]


class Outcome(NamedTuple):
    """What came of one question.

    n_gold (int): Right mentions. p_empty (float): Told probability that there are none.
    mentions (List[Told]): The mentions named, each normalized string once.
    """

    n_gold: int
    p_empty: float
    mentions: List[Told]


def ask_all(checkpoint: Path, dev: Path) -> Dict[str, List[Outcome]]:
    """Answer dev questions as if none were empty.

    checkpoint (Path): The checkpoint.
    dev (Path): Conversations; the set is the part of the id before its number.
    RETURNS (Dict[str, List[Outcome]]): Set -> outcome of each question.
    """
    student = LocalStudent(
        find_checkpoint(str(checkpoint)), empty_bound=1.0, calibration=Calibration()
    )
    questions, golds = [], []
    for row in read_conversations(dev):
        text, asked = from_conversation(row)
        questions.append((text, [kind for kind, _ in asked]))
        golds.append((row["id"].rsplit("-", 1)[0], [answer for _, answer in asked]))
    outcomes: Dict[str, List[Outcome]] = {}
    for (name, gold_lists), answers in zip(golds, student(questions)):
        for gold_list, answer in zip(gold_lists, answers):
            gold = {normalize(mention) for mention in gold_list}
            named = {normalize(m.text): m.probability for m in answer.mentions}
            told = [(p, mention in gold) for mention, p in named.items()]
            outcome = Outcome(len(gold), answer.p_empty, told)
            outcomes.setdefault(name, []).append(outcome)
    return outcomes


def score_at(outcomes: Sequence[Outcome], bound: float) -> float:
    """RETURNS (float): F1 in percent if answers are empty from this probability on."""
    taken = [told for o in outcomes if o.p_empty < bound for told in o.mentions]
    n_gold = sum(o.n_gold for o in outcomes)
    return f1(sum(right for _, right in taken), len(taken), n_gold)[2]


def fit_scale(told: Sequence[Told]) -> Scale:
    """Fit temperature and shift by likelihood.

    told (Sequence[Told]): Probabilities, and whether each was right.
    RETURNS (Scale): The best line in log-odds.
    """
    odds = torch.tensor([log_odds(p) for p, _ in told], dtype=torch.float64)
    right = torch.tensor([float(r) for _, r in told], dtype=torch.float64)
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            odds * line[0] + line[1], right
        )
        value.backward()
        return value

    optimizer.step(loss)
    slope, shift = line.tolist()
    if slope <= 0:  # the model's order is no better than chance: leave it
        return Scale()
    return Scale(round(1 / slope, 4), round(shift, 4))


def calibration_error(told: Sequence[Told]) -> float:
    """Measure how far probabilities are from frequencies.

    told (Sequence[Told]): Probabilities, and whether each was right.
    RETURNS (float): Expected calibration error over 15 bins of equal width.
    SOURCE: Guo et al. 2017, arXiv 1706.04599
    """
    p = np.array([p for p, _ in told])
    right = np.array([r for _, r in told], float)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = [abs(p[bins == b].sum() - right[bins == b].sum()) for b in range(BINS)]
    return round(float(sum(gaps)) / len(told), 4)


def fit(told: Sequence[Told]) -> Tuple[Scale, Dict[str, float]]:
    """Fit on every other one, and measure on the rest.

    told (Sequence[Told]): Probabilities, and whether each was right.
    RETURNS (Tuple[Scale, Dict[str, float]]): The scale, and the errors.
    """
    scale, rest = fit_scale(told[::2]), told[1::2]
    return scale, {
        "n": len(told),
        "error_before": calibration_error(rest),
        "error_after": calibration_error([(scale(p), right) for p, right in rest]),
    }


def mentions_of(outcomes: Sequence[Outcome], bound: float) -> Iterator[Told]:
    """YIELDS (Told): The mentions that would be named."""
    for outcome in outcomes:
        if outcome.p_empty < bound:
            yield from outcome.mentions


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
    every = [outcome for of_set in outcomes.values() for outcome in of_set]
    empty, empty_report = fit([(o.p_empty, not o.n_gold) for o in every])
    mention, mention_report = fit(list(mentions_of(every, best)))
    Calibration(best, empty, mention).save(args.checkpoint)
    report = {
        "empty_bound": best,
        "empty": {**vars(empty), **empty_report},
        "mention": {**vars(mention), **mention_report},
        "mean_f1": means,
        "f1": curve,
        "questions": len(every),
    }
    write_json(args.out, report)
    print(
        f"empty_bound {best}: mean dev F1 {means[best]}, at the greedy 0.5 {means[0.5]}"
    )
    print("calibration error: empty", empty_report, "mention", mention_report)


if __name__ == "__main__":
    run_script(main)
