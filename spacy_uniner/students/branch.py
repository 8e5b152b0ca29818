"""One answer in the making: what it is about, what is written of it, what it may take next.

Knows the guide, and logits of one place at a time; nothing of slots or forwards, which
are the business of `grove` and `tree`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, List, Optional, Sequence

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
    empty_bound (float): An answer is empty when the probability of that is at least
        this; 0.5 is the greedy choice.
    constrained (bool): Whether only what the guide allows is written. If not, this
        is plain greedy decoding, and the guide only drafts.
    """

    end: int
    max_new_tokens: int = 256
    tokens_per_batch: int = 4096
    empty_bound: float = 0.5
    constrained: bool = True


@dataclass
class Written:
    """An answer in the making.

    ids (List[int]): Token IDs so far.
    probabilities (List[float]): Of each of them, among those that were legal, or
        among all without constraint.
    p_empty (float): Probability of the empty list, written in the ways that were
        passed by.
    closes (List[int]): Places of the tokens that closed a mention.
    certified (bool): Whether every token was also the best of all tokens.
    finished (bool): Whether it came to its end.
    """

    ids: List[int] = field(default_factory=list)
    probabilities: List[float] = field(default_factory=list)
    p_empty: float = 0.0
    closes: List[int] = field(default_factory=list)
    certified: bool = True
    finished: bool = False


@dataclass(eq=False)
class Trunk:
    """A passage and its place in a grove.

    row (Row): Its tokens.
    slots (List[int]): Where they are; empty as long as they are not read.
    """

    row: Row
    slots: List[int] = field(default_factory=list)


class Branch:
    """An answer and its place in a grove."""

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
        self.state: Any = self.guide.start if self.guide else None
        self.path: List[int] = []  # slots of its own tokens that are certain
        self.position = len(passage.row.prefix)  # of the next token that is read
        self.pending = list(question)  # tokens that are certain and not yet read
        self.written = Written()

    @property
    def is_live(self) -> bool:
        """RETURNS (bool): Whether there is more to write."""
        written = self.written
        return not written.finished and len(written.ids) < self.decoding.max_new_tokens

    def draft(self) -> List[Guess]:
        """RETURNS (List[Guess]): What probably follows what is pending."""
        return self.guide.draft(self.state) if self.state and self.guide else []

    def choose(self, logits: np.ndarray) -> int:
        """Choose the next token.

        logits (np.ndarray): Shape: (n_vocab,)
        RETURNS (int): Its ID.
        """
        guide, written = self.guide, self.written
        if guide is None or not self.decoding.constrained:
            return self._choose_freely(logits)
        legal = guide.legal(self.state)
        scores = logits[legal]
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        empties = guide.empties(self.state)
        at = int(shares.argmax()) if empties is None else self._decide(empties, shares)
        token = int(legal[at])
        self._write(token, float(shares[at]))
        written.certified = written.certified and token == int(logits.argmax())
        written.finished = guide.is_closed(self.state)
        return token

    def _choose_freely(self, logits: np.ndarray) -> int:
        """Choose the best of all tokens; the guide only drafts, as long as it can."""
        token = int(logits.argmax())
        p = float(1 / np.exp(logits - logits[token]).sum())
        if self.guide and self.state and token not in self.guide.legal(self.state):
            self.state = None
        self._write(token, p)
        self.written.finished = token == self.decoding.end
        return token

    def _write(self, token: int, p: float) -> None:
        """Write a token down, and follow it."""
        written = self.written
        if self.guide and self.state:
            if self.guide.ends_mention(self.state, token):
                written.closes.append(len(written.ids))
            self.state = self.guide.advance(self.state, token)
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
