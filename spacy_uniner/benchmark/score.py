"""Count what was found: strictly as the paper's script does, strictly by place, and with
half a point for an overlap.

Knows predictions only, no model and no files. Figures are in percent.

SOURCE: universal-ner/universal-ner 844e0e1, src/eval/evaluate.py; arXiv 2308.03279,
sections 5.1 and 5.4 (partial match)
"""

import json
import re
import string
from typing import (
    Collection,
    Dict,
    Hashable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from ..errors import Errors

MODES = ("official", "spans", "partial")
LIST = re.compile(r"\[(.*?)\]")  # to the first bracket, even inside of a mention
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
ROUNDS = 1000  # of the bootstrap
Span = Tuple[int, int, str]


class Prediction(NamedTuple):
    """What was found in a passage, and what is there.

    text (str): The passage.
    gold (List[Span]): First character, last + 1, type.
    found (List[Span]): The same, as the system has it.
    answers (Optional[Mapping[str, List[str]]]): Type -> mentions, for a set that tells
        strings in place of places.
    """

    text: str
    gold: List[Span]
    found: List[Span]
    answers: Optional[Mapping[str, List[str]]] = None


def normalize(mention: str) -> str:
    """RETURNS (str): A mention as the paper's script compares it: in lower case, without
    punctuation, articles and double blanks."""
    return " ".join(ARTICLES.sub(" ", mention.lower().translate(PUNCTUATION)).split())


def read_answer(text: str) -> Set[Hashable]:
    """Read an answer as the paper's script does, faults included.

    text (str): JSON list. What follows the first "]" is lost, even inside a mention;
        what is no list of strings (or of lists of strings) counts as empty.
    RETURNS (Set[Hashable]): Normalized mentions.
    """
    found = LIST.match(text)
    try:
        items = json.loads(found[0]) if found else []
        return {
            tuple(normalize(part) for part in item)
            if isinstance(item, list)
            else normalize(item)
            for item in items
        }
    except (ValueError, AttributeError, RecursionError):
        return set()


def official_scores(predictions: List[str], golds: List[str]) -> Dict[str, float]:
    """Score answers as the paper's script does: equal to it on any strings.

    predictions (List[str]): Answers, one for each (passage, type).
    golds (List[str]): Right answers, in the same order.
    RETURNS (Dict[str, float]): "precision", "recall" and "f1", in [0, 1].
    RAISES (ValueError): U079, if the lists differ in length.
    """
    if len(predictions) != len(golds):
        raise ValueError(
            Errors.U079.format(found=len(predictions), expected=len(golds))
        )
    hits = n_found = n_gold = 0
    for told, gold in zip(map(read_answer, predictions), map(read_answer, golds)):
        hits, n_found, n_gold = (
            hits + len(told & gold),
            n_found + len(told),
            n_gold + len(gold),
        )
    precision, recall = hits / (n_found + 1e-10), hits / (n_gold + 1e-10)
    both = 2 * precision * recall / (precision + recall + 1e-10)
    return {"precision": precision, "recall": recall, "f1": both}


def count(prediction: Prediction, types: Sequence[str]) -> np.ndarray:
    """Count a passage.

    prediction (Prediction): What was found in it.
    types (Sequence[str]): What was asked.
    RETURNS (np.ndarray): Hits, mentions found, mentions that are there: by mode and
        type. Shape: (len(MODES), len(types), 3)
    """
    counts = np.zeros((len(MODES), len(types), 3))
    for i, kind in enumerate(types):
        found = [span for span in prediction.found if span[2] == kind]
        gold = [span for span in prediction.gold if span[2] == kind]
        told = [prediction.text[start:end] for start, end, _ in found]
        known = [prediction.text[start:end] for start, end, _ in gold]
        if prediction.answers is not None:
            known = prediction.answers.get(kind, [])
        if not told and not known:
            continue
        counts[0, i] = _strict(_as_answer(told), _as_answer(known))
        if prediction.answers is None:
            counts[1, i] = _strict(set(found), set(gold))
        counts[2, i] = _partial(_as_answer(told), _as_answer(known))
    return counts


def _as_answer(mentions: List[str]) -> Set[Hashable]:
    return read_answer(json.dumps(mentions))


def _strict(found: Set, gold: Set) -> Tuple[int, int, int]:
    return len(found & gold), len(found), len(gold)


def _partial(found: Set, gold: Set) -> Tuple[float, int, int]:
    """Half a point for each mention that shares a word with one that is there and that
    no other has taken."""
    hits = float(len(found & gold))
    left = sorted(gold - found)
    for mention in sorted(found - gold):
        words = set(mention.split())
        shared = [other for other in left if words & set(other.split())]
        if shared:
            left.remove(shared[0])
            hits += 0.5
    return hits, len(found), len(gold)


def rates(counts: np.ndarray) -> np.ndarray:
    """RETURNS (np.ndarray): Precision, recall and F1 in percent. Shape: (..., 3) as that
    of the counts"""
    hits, found, gold = np.moveaxis(counts, -1, 0)
    precision = hits / np.maximum(found, 1)
    recall = hits / np.maximum(gold, 1)
    f1 = 2 * hits / np.maximum(found + gold, 1)
    return 100 * np.stack([precision, recall, f1], -1)


def f1(hits: float, found: float, gold: float) -> Tuple[float, float, float]:
    """RETURNS (Tuple[float, float, float]): Precision, recall and F1 in percent."""
    precision, recall, both = rates(np.array([hits, found, gold])).round(2).tolist()
    return precision, recall, both


def interval(counts: np.ndarray, *, seed: int = 0) -> Tuple[float, float]:
    """Tell how far chance in the choice of passages moves an F1.

    counts (np.ndarray): Hits, found, gold of each passage. Shape: (n_passages, 3)
    seed (int): Of the bootstrap, which draws passages 1,000 times.
    RETURNS (Tuple[float, float]): Bounds that hold 95 % of the draws, in percent.
    """
    generator, n = np.random.default_rng(seed), len(counts)
    draws = generator.multinomial(n, np.full(n, 1 / n), size=ROUNDS)
    low, high = np.percentile(rates(draws @ counts)[:, 2], [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def score_set(
    predictions: Sequence[Prediction],
    types: Sequence[str],
    *,
    seen: Optional[Collection[str]] = None,
) -> Dict[str, object]:
    """Score a set.

    predictions (Sequence[Prediction]): All passages.
    types (Sequence[str]): What was asked.
    seen (Optional[Collection[str]]): Types that the system has learned, in lower case,
        for separate figures.
    RETURNS (Dict[str, object]): By mode "precision", "recall", "f1" (micro, percent)
        and "interval" (95 %); "by_type" with the official F1 and the number of
        mentions; "seen" and "unseen". "spans" is missing where places are not known.
    """
    counts = np.stack([count(each, types) for each in predictions])
    total = counts.sum(0)
    scores: Dict[str, object] = {"passages": len(counts), "types": len(types)}
    for i, mode in enumerate(MODES):
        if mode == "spans" and predictions[0].answers is not None:
            continue
        passages = counts[:, i].sum(1)
        scores[mode] = {**_told(passages.sum(0)), "interval": interval(passages)}
    scores["by_type"] = {
        kind: {**_told(total[0, i]), "mentions": int(total[0, i, 2])}
        for i, kind in enumerate(types)
    }
    if seen is not None:
        known = np.array([kind.lower() in seen for kind in types])
        for name, mask in (("seen", known), ("unseen", ~known)):
            scores[name] = {"types": int(mask.sum()), **_told(total[0, mask].sum(0))}
    return scores


def _told(counts: np.ndarray) -> Dict[str, float]:
    return dict(zip(("precision", "recall", "f1"), f1(*counts)))
