"""Fit what a checkpoint's probabilities mean, and its dials, on held-out conversations.

Finds the bounds at which F1 is highest on the mean over the dev sets: of searched
answers the least probability of a mention, of greedy ones the probability from which
on they are empty. Then fits a temperature and a shift to the probabilities of
emptiness and of mentions, on half of the questions, and measures the calibration error
on the other half. Writes `calibration.json` into the checkpoint, and everything as a
report. Zero-shot sets have no part in it.

    python -m training.calibrate --checkpoint DIR --dev dev.jsonl --out calibration.json
"""

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from spacy_uniner.benchmark.score import f1, normalize
from spacy_uniner.students.calibration import Calibration, Scale, log_odds
from spacy_uniner.students.checkpoint import find_checkpoint
from spacy_uniner.students.local import LocalStudent

from .files import InputError, run_script, write_json
from .turns import from_conversation, read_conversations

EMPTY_BOUNDS = [round(0.05 * i, 2) for i in range(4, 20)]
MENTION_BOUNDS = [round(0.02 * i, 2) for i in range(3, 31)]
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


# what is named of an outcome at a bound
Take = Callable[[Outcome, float], List[Told]]


def ask_all(
    checkpoint: Path, dev: Path, *, mention_bound: float = 0.0, empty_bound: float = 0.5
) -> Dict[str, List[Outcome]]:
    """Answer dev questions.

    checkpoint (Path): The checkpoint.
    dev (Path): Conversations; the set is the part of the id before its number.
    mention_bound (float): Of the student; 0 for greedy answers.
    empty_bound (float): Of greedy answers.
    RETURNS (Dict[str, List[Outcome]]): Set -> outcome of each question.
    """
    student = LocalStudent(
        find_checkpoint(str(checkpoint)),
        calibration=Calibration(),
        mention_bound=mention_bound,
        empty_bound=empty_bound,
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
            named: Dict[str, float] = {}
            for mention in answer.mentions:  # the same but for case is named once
                string = normalize(mention.text)
                named[string] = max(named.get(string, 0.0), mention.probability)
            told = [(p, mention in gold) for mention, p in named.items()]
            outcome = Outcome(len(gold), answer.p_empty, told)
            outcomes.setdefault(name, []).append(outcome)
    return outcomes


def by_mentions(outcome: Outcome, bound: float) -> List[Told]:
    """RETURNS (List[Told]): What is named from this probability on."""
    return [told for told in outcome.mentions if told[0] >= bound]


def by_emptiness(outcome: Outcome, bound: float) -> List[Told]:
    """RETURNS (List[Told]): What is named if answers are empty from this probability on."""
    return outcome.mentions if outcome.p_empty < bound else []


def score_at(outcomes: Sequence[Outcome], take: Take, bound: float) -> float:
    """RETURNS (float): F1 in percent at a bound."""
    taken = [told for outcome in outcomes for told in take(outcome, bound)]
    n_gold = sum(o.n_gold for o in outcomes)
    return f1(sum(right for _, right in taken), len(taken), n_gold)[2]


def find_bound(
    outcomes: Dict[str, List[Outcome]],
    take: Take,
    bounds: Sequence[float],
    half: Optional[str],
) -> Tuple[float, Dict[str, Any]]:
    """Find the bound with the highest mean F1.

    outcomes (Dict[str, List[Outcome]]): Set -> outcome of each question.
    take (Take): What is named at a bound.
    bounds (Sequence[float]): The bounds to try.
    half (Optional[str]): A set that weighs as much as all others together.
    RETURNS (Tuple[float, Dict[str, Any]]): The bound, and all means and scores.
    """
    curve = {
        bound: {name: score_at(o, take, bound) for name, o in outcomes.items()}
        for bound in bounds
    }
    means = {bound: round(_mean(scores, half), 2) for bound, scores in curve.items()}
    best = max(means, key=lambda bound: means[bound])
    return best, {"mean_f1": means, "f1": curve}


def _mean(scores: Dict[str, float], half: Optional[str]) -> float:
    """RETURNS (float): Of all sets; with a half, of that one and the mean of the others."""
    others = [score for name, score in scores.items() if name != half]
    mean = sum(others) / max(len(others), 1)
    return mean if half not in scores else (mean + scores[half]) / (1 + bool(others))


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
    RETURNS (Tuple[Scale, Dict[str, float]]): The scale, or none if it makes the rest
        worse, and the errors.
    """
    scale, rest = fit_scale(told[::2]), told[1::2]
    before = calibration_error(rest)
    after = calibration_error([(scale(p), right) for p, right in rest])
    if after > before:
        scale, after = Scale(), before
    return scale, {"n": len(told), "error_before": before, "error_after": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--half", help="a dev set that weighs as much as all others together"
    )
    args = parser.parse_args()
    least = MENTION_BOUNDS[0]
    searched = ask_all(args.checkpoint, args.dev, mention_bound=least)
    if args.half and args.half not in searched:
        known = ", ".join(searched)
        raise InputError(f"--half {args.half}: the dev sets are {known}")
    greedy = ask_all(args.checkpoint, args.dev, empty_bound=1.0)
    bound, curve = find_bound(searched, by_mentions, MENTION_BOUNDS, args.half)
    empty_bound, greedy_curve = find_bound(
        greedy, by_emptiness, EMPTY_BOUNDS, args.half
    )
    every = [outcome for of_set in searched.values() for outcome in of_set]
    empty, empty_report = fit([(o.p_empty, not o.n_gold) for o in every])
    mention, mention_report = fit(
        [told for o in every for told in by_mentions(o, bound)]
    )
    Calibration(empty_bound, empty, mention, bound).save(args.checkpoint)
    report = {
        "mention_bound": bound,
        "empty": {**vars(empty), **empty_report},
        "mention": {**vars(mention), **mention_report},
        **curve,
        "greedy": {"empty_bound": empty_bound, **greedy_curve},
        "half": args.half,
        "questions": len(every),
    }
    write_json(args.out, report)
    means = greedy_curve["mean_f1"]
    print(f"mention_bound {bound}: mean dev F1 {curve['mean_f1'][bound]}")
    if bound in (MENTION_BOUNDS[0], MENTION_BOUNDS[-1]):
        print("That is an end of the bounds tried: there is more to gain beyond it.")
    print(f"greedy answers: {means[empty_bound]} at {empty_bound}, {means[0.5]} at 0.5")
    print("calibration error: empty", empty_report, "mention", mention_report)


if __name__ == "__main__":
    run_script(main)
