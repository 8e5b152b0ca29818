"""Many passages in one row, for any LLaMA: no padding but at the end of a row.

Two layouts. `branches`: a question with its answer sees the passage and itself only,
as at inference. `conversation`: it also sees the questions and answers before it, as
in the paper. Both are one rule: a token sees what came before it in its passage, but
for other branches. Knows nothing of models.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .examples import COPY, NOTHING, START, WHICH, Branch, Example

LAYOUTS = ("branches", "conversation")
GOLDEN = 0.6180339887  # spreads evenly what is taken
_NONE = np.array([], np.int64)
PADDING = -1  # the passage of a token that belongs to none
SHARED = 0  # the branch of what the whole passage sees


class Targets(NamedTuple):
    """Where something is to be said next.

    at: Places in the segment, row or batch. Shape: (n,)
    token: What is said there. Shape: (n,)
    """

    at: np.ndarray
    token: np.ndarray


@dataclass(frozen=True)
class Segment:
    """A passage with some of its questions.

    tokens, branch, position (np.ndarray): Token IDs; number of the branch, SHARED for
        the passage; place as the model counts. Shape: (n_tokens,)
    answers (Targets): The next tokens in answers.
    kinds (np.ndarray): What is chosen there. Shape: (n_answers,)
    legal (List[np.ndarray]): What may be chosen; empty where nobody asked.
    passages (Targets): The next tokens in the passage.
    n_questions (int): How many questions.
    """

    tokens: np.ndarray
    branch: np.ndarray
    position: np.ndarray
    answers: Targets
    kinds: np.ndarray
    legal: List[np.ndarray]
    passages: Targets
    n_questions: int


class Batch(NamedTuple):
    """Some packed rows. L: length of a row.

    tokens, passage, branch, position: Token IDs; number of the passage in its row,
        PADDING for none; number of the branch, SHARED for the passage; place as the
        model counts. Shape: (n_rows, L)
    answers, passages: Next tokens; places count through all rows.
    kinds: What is chosen in answers. Shape: (n_answers,)
    legal_of, legal: Pairs: number of an answer token, token ID that is legal there.
        Shape: (n_pairs,)
    n_questions: How many questions.
    """

    tokens: np.ndarray
    passage: np.ndarray
    branch: np.ndarray
    position: np.ndarray
    answers: Targets
    passages: Targets
    kinds: np.ndarray
    legal_of: np.ndarray
    legal: np.ndarray
    n_questions: int

    def blank(self) -> "Batch":
        """RETURNS (Batch): A batch of this shape that teaches nothing."""
        return make_batch([[]] * len(self.tokens), self.tokens.shape[1])

    @property
    def n_tokens(self) -> int:
        """RETURNS (int): Tokens, padding included."""
        return self.tokens.size

    @property
    def counts(self) -> np.ndarray:
        """RETURNS (np.ndarray): Terms of the loss: start, which, copy, passage, answer."""
        kinds = [(self.kinds == kind).sum() for kind in (START, WHICH, COPY)]
        known = [len(self.passages.at), len(self.answers.at)]
        return np.array([*kinds, *known], np.float64)


def visible(
    passage: Any, branch: Any, passage_of_key: Any, branch_of_key: Any, later: Any
) -> Any:
    """Tell which tokens see which; the one rule of both layouts.

    passage, branch (Any): Of the token that looks, as arrays, tensors or numbers.
    passage_of_key, branch_of_key (Any): Of the token that is looked at.
    later (Any): Whether that one stands further on in the row.
    RETURNS (Any): Whether it is seen, in the shape that all broadcast to.
    """
    own = (branch_of_key == SHARED) | (branch_of_key == branch)
    return (passage == passage_of_key) & own & ~later


def segments(
    example: Example, *, length: int, layout: str, language: bool, counts: Counter
) -> List[Segment]:
    """Write an example as one segment, or as several if it is longer than a row.

    example (Example): The example.
    length (int): Longest segment, in tokens.
    layout (str): "branches" or "conversation".
    language (bool): Whether the passage itself is learned.
    counts (Counter): Added to.
    RETURNS (List[Segment]): Segments; each has the passage. Answers are never cut.
    """
    room = length - len(example.prefix)
    if room < 0:
        counts["passages left out: too long"] += 1
        return []
    groups: List[List[Branch]] = [[]]
    free = room
    for branch in example.branches:
        if len(branch) > room:
            counts["questions left out: too long"] += 1
            continue
        if len(branch) > free:
            groups.append([])
            free = room
        groups[-1].append(branch)
        free -= len(branch)
    if example.branches and not groups[0]:
        return []
    counts["segments"] += len(groups)
    counts["segments of a passage that was split"] += len(groups) - 1
    return [
        _segment(example, group, layout, language and i == 0)
        for i, group in enumerate(groups)
    ]


def _segment(
    example: Example, branches: List[Branch], layout: str, language: bool
) -> Segment:
    prefix = example.prefix
    tokens, branch_of = list(prefix), [SHARED] * len(prefix)
    position = list(range(len(prefix)))
    at: List[int] = []
    said: List[int] = []
    kinds: List[int] = []
    legal: List[np.ndarray] = []
    for place in range(len(prefix) - example.heard, len(prefix)):
        at.append(place - 1)
        said.append(prefix[place])
        kinds.append(NOTHING)
        legal.append(_NONE)
    for number, branch in enumerate(branches, 1):
        start = len(tokens)
        # nothing follows the end of an answer but in a conversation
        read = branch.question + branch.answer
        if layout == "branches":
            read = read[:-1]
            position += range(len(prefix), len(prefix) + len(read))
        else:
            position += range(start, start + len(read))
        tokens += read
        branch_of += [number if layout == "branches" else SHARED] * len(read)
        first = start + len(branch.question) - 1
        at += range(first, first + len(branch.answer))
        said += branch.answer
        for choice in branch.choices:
            kinds.append(choice.kind)
            legal.append(choice.legal if choice.legal is not None else _NONE)
        if not branch.choices:
            kinds += [NOTHING] * len(branch.answer)
            legal += [_NONE] * len(branch.answer)
    known = range(len(prefix) - 1 - example.heard) if language else range(0)
    return Segment(
        tokens=np.array(tokens),
        branch=np.array(branch_of),
        position=np.array(position),
        answers=Targets(np.array(at, np.int64), np.array(said, np.int64)),
        kinds=np.array(kinds, np.int64),
        legal=legal,
        passages=Targets(
            np.array(known, np.int64), np.array(prefix[1 : len(known) + 1], np.int64)
        ),
        n_questions=len(branches),
    )


def fill_rows(found: Sequence[Segment], length: int) -> List[List[Segment]]:
    """Put segments into rows: the longest first, each into the first row with room.

    found (Sequence[Segment]): Segments, none longer than a row.
    length (int): Length of a row, in tokens.
    RETURNS (List[List[Segment]]): Rows.
    """
    rows: List[List[Segment]] = []
    room: List[int] = []
    for segment in sorted(found, key=lambda s: -len(s.tokens)):
        size = len(segment.tokens)
        at = next((i for i, free in enumerate(room) if free >= size), len(room))
        if at == len(room):
            rows.append([])
            room.append(length)
        rows[at].append(segment)
        room[at] -= size
    return rows


def make_batch(rows: Sequence[Sequence[Segment]], length: int) -> Batch:
    """Write rows side by side.

    rows (Sequence[Sequence[Segment]]): Segments of each row; a row may be empty.
    length (int): Length of a row, in tokens.
    RETURNS (Batch): The batch.
    """
    shape = (len(rows), length)
    tokens, branch, position = (np.zeros(shape, np.int64) for _ in range(3))
    passage = np.full(shape, PADDING, np.int64)
    answers: Tuple[List[np.ndarray], List[np.ndarray]] = ([], [])
    passages: Tuple[List[np.ndarray], List[np.ndarray]] = ([], [])
    kinds, legal, sizes = [], [], []
    n_questions = 0
    for i, row in enumerate(rows):
        start = 0
        for number, segment in enumerate(row):
            there = slice(start, start + len(segment.tokens))
            tokens[i, there], branch[i, there] = segment.tokens, segment.branch
            position[i, there], passage[i, there] = segment.position, number
            for told, own in ((answers, segment.answers), (passages, segment.passages)):
                told[0].append(own.at + i * length + start)
                told[1].append(own.token)
            kinds.append(segment.kinds)
            legal += segment.legal
            sizes += [len(ids) for ids in segment.legal]
            n_questions += segment.n_questions
            start = there.stop
    return Batch(
        tokens,
        passage,
        branch,
        position,
        Targets(*map(_join, answers)),
        Targets(*map(_join, passages)),
        _join(kinds),
        np.repeat(np.arange(len(sizes)), np.array(sizes, np.int64)),
        _join(legal),
        n_questions,
    )


def _join(parts: List[np.ndarray]) -> np.ndarray:
    return np.concatenate([_NONE, *parts]).astype(np.int64)


class Rows:
    """Examples gathered until a step is full; then packed as tightly as they go."""

    def __init__(
        self,
        *,
        length: int,
        longest: int,
        layout: str,
        rows_per_batch: int,
        conversations_per_step: int,
        language_share: float,
        counts: Counter,
    ) -> None:
        """Set up.

        length (int): Length of a row, in tokens.
        longest (int): Longest passage with its questions, in tokens.
        layout (str): "branches" or "conversation".
        rows_per_batch (int): Rows that are read at a time.
        conversations_per_step (int): The global batch.
        language_share (float): Share of passages that are learned themselves.
        counts (Counter): Added to.
        """
        self.length, self.longest = length, min(length, longest)
        self.layout, self.counts = layout, counts
        self.rows_per_batch = rows_per_batch
        self.conversations_per_step = conversations_per_step
        self.language_share = language_share
        self._gathered: List[Segment] = []
        self._numbers: List[int] = []

    def put(
        self, number: int, example: Example, parts: Optional[Sequence[int]] = None
    ) -> None:
        """Add an example.

        number (int): Which one it is.
        example (Example): The example.
        parts (Optional[Sequence[int]]): Not used: an example is never torn apart.
        """
        language = number * GOLDEN % 1 < self.language_share or not example.branches
        found = segments(
            example,
            length=self.longest,
            layout=self.layout,
            language=language,
            counts=self.counts,
        )
        self._gathered += found
        if found:
            self._numbers.append(number)

    def take(self, *, rest: bool = False) -> List[Batch]:
        """Take a step.

        rest (bool): Whether one that is not full will do.
        RETURNS (List[Batch]): Its batches, all of one shape; none if it is not full.
        """
        if len(self._numbers) < self.conversations_per_step and not rest:
            return []
        rows: List[Sequence[Segment]] = [*fill_rows(self._gathered, self.length)]
        self._gathered, self._numbers = [], []
        size = self.rows_per_batch
        rows += [[]] * (-len(rows) % size)
        self.counts["rows"] += len(rows)
        starts = range(0, len(rows), size)
        return [make_batch(rows[i : i + size], self.length) for i in starts]

    @property
    def waiting(self) -> List[Tuple[int, int]]:
        """RETURNS (List[Tuple[int, int]]): Examples that wait here."""
        return [(number, 0) for number in self._numbers]
