"""One answer in the making: what it is about, what is written of it, what it may take next.

Knows the guide, and logits of one place at a time; nothing of forwards, which are the
business of `grove` and `tree`. Here is the list that is written greedily; all lists
that might be written are in `search`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .copying import Guess, Guide


@dataclass(frozen=True)
class Row:
    """A passage and the questions about it.

    prefix (Sequence[int]): Token IDs of what the questions share.
    questions (Sequence[Sequence[int]]): Token IDs of each question.
    guide (Optional[Guide]): What its answers may hold; None if nothing is known.
    """

    prefix: Sequence[int]
    questions: Sequence[Sequence[int]]
    guide: Optional[Guide]

    @property
    def width(self) -> int:
        """RETURNS (int): Tokens of the first forward, about."""
        return len(self.prefix) + sum(len(q) + 1 for q in self.questions)


@dataclass(frozen=True)
class Decoding:
    """How answers are written.

    end (int): Token ID that ends an answer.
    max_new_tokens (int): Longest answer, in tokens.
    tokens_per_batch (int): Tokens per forward.
    empty_bound (float): A greedy answer is empty when the probability of that is at
        least this; 0.5 is the greedy choice.
    mention_bound (float): A mention is named when the probability that the list holds
        it is at least this, over all lists that might be written; 0 for the one list
        that is written greedily.
    constrained (bool): Whether only what the guide allows is written. If not, this
        is plain greedy decoding, and the guide only drafts.
    """

    end: int
    max_new_tokens: int = 256
    tokens_per_batch: int = 4096
    empty_bound: float = 0.5
    mention_bound: float = 0.0
    constrained: bool = True


@dataclass
class Written:
    """What was written to a question.

    ids (List[int]): Token IDs of the greedy list, as far as it was written; of a
        search, of plain greedy decoding if that is legal and likely enough, or none.
    probabilities (List[float]): Of each of them, among those that were legal, or
        among all without constraint.
    p_empty (float): Probability of the empty list, written in the ways that were
        passed by.
    closes (List[int]): Places of the tokens that closed a mention.
    certified (bool): Whether every token was also the best of all tokens.
    finished (bool): Whether it came to its end; of a search, whether no list was cut.
    lists (Optional[Dict[Tuple[int, ...], float]]): Of a search: token IDs of a list up
        to the close of a mention -> probability that it is written.
    """

    ids: List[int] = field(default_factory=list)
    probabilities: List[float] = field(default_factory=list)
    p_empty: float = 0.0
    closes: List[int] = field(default_factory=list)
    certified: bool = True
    finished: bool = False
    lists: Optional[Dict[Tuple[int, ...], float]] = None


@dataclass(eq=False)
class Trunk:
    """A passage and its place in a grove.

    row (Row): Its tokens.
    slots (List[int]): Where they are; empty as long as they are not read.
    """

    row: Row
    slots: List[int] = field(default_factory=list)


@dataclass(eq=False)
class Shoot:
    """A list in the making and its place in a grove.

    state (Any): Of the guide; None if it knows nothing any more.
    position (int): Of the next token that is read.
    pending (List[int]): Tokens that are certain and not yet read.
    path (List[int]): Slots of the tokens that are.
    ids (Tuple[int, ...]): Of a search: token IDs of the list so far.
    p (float): Its probability.
    is_best (bool): Whether every token of it was the best of all tokens.
    """

    state: Any
    position: int
    pending: List[int]
    path: List[int] = field(default_factory=list)
    ids: Tuple[int, ...] = ()
    p: float = 1.0
    is_best: bool = True


class Branch:
    """A question, and the list that is written greedily."""

    def __init__(
        self, passage: Trunk, question: Sequence[int], decoding: Decoding
    ) -> None:
        """Plant a branch.

        passage (Trunk): What is asked about.
        question (Sequence[int]): Token IDs of what is asked.
        decoding (Decoding): How answers are written.
        """
        self.passage, self.decoding = passage, decoding
        self.guide = passage.row.guide
        state = self.guide.start if self.guide else None
        self.shoots = [Shoot(state, len(passage.row.prefix), list(question))]
        self.slots: List[int] = []  # of its own tokens
        self.written = Written()

    def draft(self, shoot: Shoot) -> List[Guess]:
        """RETURNS (List[Guess]): What probably follows what is pending."""
        return self.guide.draft(shoot.state) if shoot.state and self.guide else []

    def grow(self, shoot: Shoot, logits: np.ndarray) -> List[Tuple[int, Shoot]]:
        """Choose what follows.

        shoot (Shoot): What was written so far.
        logits (np.ndarray): Of the next token. Shape: (n_vocab,)
        RETURNS (List[Tuple[int, Shoot]]): The token that was chosen, with what is
            written then; nothing at the end.
        """
        if self.guide is None or not self.decoding.constrained:
            token = self._choose_freely(shoot, logits)
        else:
            token = self._choose(self.guide, shoot, logits)
        written = self.written
        is_done = written.finished or len(written.ids) >= self.decoding.max_new_tokens
        return [] if is_done else [(token, shoot)]

    def _choose(self, guide: Guide, shoot: Shoot, logits: np.ndarray) -> int:
        """Choose the best legal token."""
        legal = guide.legal(shoot.state)
        shares = softmax(logits[legal])
        empties = guide.empties(shoot.state)
        at = int(shares.argmax()) if empties is None else self._decide(empties, shares)
        token = int(legal[at])
        self._write(shoot, token, float(shares[at]))
        written = self.written
        written.certified = written.certified and token == int(logits.argmax())
        written.finished = guide.is_closed(shoot.state)
        return token

    def _choose_freely(self, shoot: Shoot, logits: np.ndarray) -> int:
        """Choose the best of all tokens; the guide only drafts, as long as it can."""
        token = int(logits.argmax())
        p = float(1 / np.exp(logits - logits[token]).sum())
        if self.guide and shoot.state and token not in self.guide.legal(shoot.state):
            shoot.state = None
        self._write(shoot, token, p)
        self.written.finished = token == self.decoding.end
        return token

    def _write(self, shoot: Shoot, token: int, p: float) -> None:
        """Write a token down, and follow it."""
        written = self.written
        if self.guide and shoot.state:
            if self.guide.ends_mention(shoot.state, token):
                written.closes.append(len(written.ids))
            shoot.state = self.guide.advance(shoot.state, token)
        written.ids.append(token)
        written.probabilities.append(p)

    def _decide(self, empty: np.ndarray, shares: np.ndarray) -> int:
        """Choose between the empty list and another, and note how likely it is.

        empty (np.ndarray): Which choices make the list empty. Shape: (n_legal,)
        shares (np.ndarray): Probabilities. Shape: (n_legal,)
        RETURNS (int): Place of the choice.
        """
        nothing, something = shares[empty], shares[~empty]
        so_far = math.prod(self.written.probabilities)
        self.written.p_empty += so_far * float(nothing.sum())
        best = float(nothing.max(initial=0.0))
        rest = float(something.max(initial=0.0))
        bound = self.decoding.empty_bound * (best + rest)
        is_empty = rest == 0.0 or (best > 0.0 and best >= bound)
        return int(np.where(empty == is_empty, shares, -1.0).argmax())


def softmax(scores: np.ndarray) -> np.ndarray:
    """RETURNS (np.ndarray): Probabilities. Shape: that of the scores"""
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())
