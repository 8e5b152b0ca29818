"""What a student wrote, read: token IDs and probabilities in, an answer out.

How it is written is in `branch` and `search`; where its mentions stand, in `align`.
"""

import json
import math
from typing import Dict, List, Sequence, Tuple

from ..answers import read_answer
from ..types import Answer, Mention
from .branch import Written
from .calibration import Calibration
from .coding import Coder


def read_written(
    written: Written,
    passage: str,
    coder: Coder,
    mention_bound: float,
    calibration: Calibration,
) -> Answer:
    """Read what was written to a question.

    written (Written): One list, or many that might be written.
    passage (str): What was asked about.
    coder (Coder): Of the student.
    mention_bound (float): Of many lists: the least probability of a mention.
    calibration (Calibration): What probabilities are worth.
    RETURNS (Answer): The answer.
    """
    if written.lists is None:
        return _read_list(written, coder, calibration)
    found = _sum_lists(written.lists, coder)
    named = [text for text, p in found.items() if p >= mention_bound]
    named.sort(key=lambda text: (passage.find(text), len(text)))
    text = json.dumps(named, ensure_ascii=False)
    greedy = coder.answer(written.ids).strip()
    listed = _listed(greedy)
    certified = written.certified and set(listed) == set(named)
    if certified:  # then it is that very answer
        named, text = listed, greedy
    scale = calibration.mention
    return Answer(
        tuple(Mention(name, scale(found[name])) for name in named),
        calibration.empty(written.p_empty) if written.p_empty else 0.0,
        truncated=int(not written.finished),
        certified=certified,
        text=text,
        n_tokens=len(written.ids),
    )


def _sum_lists(lists: Dict[Tuple[int, ...], float], coder: Coder) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): How likely it is that a list holds a mention. One
    with a blank at its end is the same as one without."""
    found: Dict[str, float] = {}
    for ids, p in lists.items():
        *before, mention = _listed(coder.answer(ids)) or [""]
        if mention and mention not in before:
            found[mention] = min(found.get(mention, 0.0) + p, 1.0)
    return found


def _listed(text: str) -> List[str]:
    """RETURNS (List[str]): The mentions of an answer, in order, without blanks around."""
    return [item.text.strip() for item in read_answer(text).items]


def _read_list(written: Written, coder: Coder, calibration: Calibration) -> Answer:
    """Read an answer, and score each mention by the pieces from its opening to its
    close."""
    text = coder.answer(written.ids)
    reading = read_answer(text)
    if len(written.closes) == len(reading.items):
        borders = [0, *written.closes]
        parts = [slice(a, b + 1) for a, b in zip(borders, borders[1:])]
    else:
        parts = _overlaps(written.ids, coder, [(i.start, i.end) for i in reading.items])
    scores = [math.prod(written.probabilities[part]) for part in parts]
    scale = calibration.mention
    return Answer(
        tuple(Mention(i.text, scale(p)) for i, p in zip(reading.items, scores)),
        calibration.empty(written.p_empty) if written.p_empty else 0.0,
        reading.unreadable,
        reading.truncated,
        written.certified,
        text.strip(),
        len(written.ids),
    )


def _overlaps(
    ids: List[int], coder: Coder, spans: Sequence[Tuple[int, int]]
) -> List[slice]:
    """Find the tokens that overlap stretches of an answer's text.

    ids (List[int]): Token IDs of the answer.
    coder (Coder): Of the student.
    spans (Sequence[Tuple[int, int]]): Where they start and end, in characters.
    RETURNS (List[slice]): First and past-last token of each.
    """
    offsets = coder.answer_offsets(ids) if spans else []
    found = []
    for start, end in spans:
        at = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
        found.append(slice(at[0], at[-1] + 1) if at else slice(0, 0))
    return found
