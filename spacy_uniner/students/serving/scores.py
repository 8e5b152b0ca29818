"""Make an answer of a completion: mentions as they stand in the passage, with what
their tokens say of them. Sends nothing.
"""

import math
from typing import List, Sequence, Tuple

from ...answers import read_answer
from ...types import Answer, Mention
from .prompts import Copy
from .replies import Completion, Token

LEEWAY = 2  # characters that a server may leave out between two tokens
BROKEN = "\ufffd"  # part of a character


def make_answer(
    completion: Completion, passage: Copy, *, end: str, is_free: bool
) -> Answer:
    """Read a completion.

    Mentions that do not stand in the passage stay, as with any student that writes
    freely: `align` counts them as not in the text.

    completion (Completion): What the server wrote.
    passage (Copy): What it was asked about.
    end (str): Marker that ends an answer, for servers that do not stop at it.
    is_free (bool): Whether it was written without constraint.
    RETURNS (Answer): What it says.
    """
    text = completion.text.partition(end)[0]
    tokens = completion.tokens
    reading = read_answer(text)
    places = locate(text, tokens)
    mentions = []
    for item in reading.items:
        parts = [
            token.p
            for token, (a, b) in zip(tokens, places)
            if a < item.end and b > item.start
        ]
        p = math.prod(parts, start=1.0)
        mentions.append(Mention(passage.restore(item.text), p))
    best = all(token.p >= max(token.others.values()) for token in tokens)
    return Answer(
        tuple(mentions),
        p_empty(tokens),
        reading.unreadable,
        reading.truncated,
        is_free or bool(tokens) and best,
        text.strip(),
        completion.n_tokens,
    )


def locate(text: str, tokens: Sequence[Token]) -> List[Tuple[int, int]]:
    """Find the tokens of a text in it. Those that are no whole characters share what
    lies between their neighbours.

    text (str): A completion.
    tokens (Sequence[Token]): Its tokens, in order.
    RETURNS (List[Tuple[int, int]]): Where each starts and ends, in characters.
    """
    places: List[Tuple[int, int]] = []
    at, pending = 0, 0
    for token in tokens:
        size = len(token.text)
        start = -1
        if size and BROKEN not in token.text:
            # a broken character may stand before it
            start = text.find(token.text, at, at + size + LEEWAY)
        if start < 0:
            places.append((at, at))
            pending += 1
            continue
        _stretch(places, pending, at, start)
        places.append((start, start + size))
        at, pending = start + size, 0
    _stretch(places, pending, at, len(text))
    return places


def _stretch(places: List[Tuple[int, int]], n: int, start: int, end: int) -> None:
    """Give the last n places all that lies between."""
    if n:
        places[-n:] = [(start, end)] * n


def p_empty(tokens: Sequence[Token]) -> float:
    """Add up the ways to write the empty list that were told.

    tokens (Sequence[Token]): What was written.
    RETURNS (float): Its probability; 0.0 if no probabilities were told.
    """
    written, so_far, found = "", 1.0, 0.0
    for token in tokens:
        if written.strip() not in ("", "["):
            break
        for other, p in token.others.items():
            found += so_far * p * ((written + other).strip() == "[]")
        written, so_far = written + token.text, so_far * token.p
    return min(found, 1.0)
