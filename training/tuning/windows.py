"""Rows of few shapes, for the fast forward: a passage and windows of branches.

The `branches` layout: each question with its answer sees the passage and itself only,
as it will at inference. Rows of one shape (passage length, number and length of
windows) form a bucket, so that nothing is padded by much and shapes repeat. Knows
nothing of models.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spacy_uniner.students.copying import SYNTAX_PIECES, PieceGuide

from .examples import COPY, NOTHING, START, WHICH, Branch, Example

N_SYNTAX = len(SYNTAX_PIECES)  # choice columns before those of the passage


@dataclass(frozen=True)
class Shape:
    """The shapes that rows are padded to.

    passage (Tuple[int, ...]): Passage lengths, in pieces, ascending. A longer
        passage is left out and counted.
    window (int): Length of a window of branches, in pieces.
    max_windows (int): Windows per row. Questions that do not fit make another row of
        the same passage; one that is longer than a window gets a row with one
        window of the length of all, and is left out if that is too short.
    """

    passage: Tuple[int, ...] = (24, 48, 80, 128, 192)
    window: int = 48
    max_windows: int = 3


class Bucket(NamedTuple):
    """The shape of a row: passage length, number of windows, length of a window."""

    passage: int
    n_windows: int
    window: int

    @property
    def size(self) -> int:
        """RETURNS (int): Tokens of a row, padding included."""
        return self.passage + self.n_windows * self.window


class Batch(NamedTuple):
    """A batch of rows of one shape. P: passage, W: window, Q: all windows.

    passage: Token IDs. Shape: (n_rows, P). lengths: Prefix lengths. Shape: (n_rows,)
    options: Token IDs of the escaped passage, what can be copied. Shape: (n_rows, P)
    branches: Token IDs. Shape: (n_rows, Q)
    owner: Which branch a token belongs to, -1 for padding. Shape: (n_rows, n_windows, W)
    place: Position of a token in its branch. Shape: (n_rows, n_windows, W)
    kind: What is chosen. Shape: (n_rows, Q)
    chosen: Column of the right choice, -1 for none: first the list syntax, then
        the options. Shape: (n_rows, Q)
    legal: Whether a column may be chosen. Shape: (n_rows, Q, 4 + P)
    next_passage, next_branch: Next token IDs for the losses over the whole
        vocabulary, -1 for none. Shapes: (n_rows, P), (n_rows, Q)
    """

    passage: np.ndarray
    lengths: np.ndarray
    options: np.ndarray
    branches: np.ndarray
    owner: np.ndarray
    place: np.ndarray
    kind: np.ndarray
    chosen: np.ndarray
    legal: np.ndarray
    next_passage: np.ndarray
    next_branch: np.ndarray

    def blank(self) -> "Batch":
        """RETURNS (Batch): A batch of this shape that teaches nothing."""
        return self._replace(
            kind=np.zeros_like(self.kind),
            chosen=np.full_like(self.chosen, -1),
            next_passage=np.full_like(self.next_passage, -1),
            next_branch=np.full_like(self.next_branch, -1),
        )

    @property
    def n_tokens(self) -> int:
        """RETURNS (int): Tokens, padding included."""
        return self.passage.size + self.branches.size

    @property
    def counts(self) -> np.ndarray:
        """RETURNS (np.ndarray): Terms of the loss: start, which, copy, passage, answer."""
        kinds = [(self.kind == kind).sum() for kind in (START, WHICH, COPY)]
        known = [(self.next_passage >= 0).sum(), (self.next_branch >= 0).sum()]
        return np.array([*kinds, *known], np.float64)

    @property
    def n_questions(self) -> int:
        """RETURNS (int): Questions asked."""
        return int((self.kind == START).sum())


@dataclass
class Row:
    """A packed row, tight: padding is added when a batch is made."""

    prefix: np.ndarray
    options: np.ndarray
    starts: np.ndarray  # columns where a mention may start
    branches: np.ndarray
    owner: np.ndarray
    place: np.ndarray
    targets: np.ndarray
    kinds: np.ndarray
    chosen: np.ndarray
    inside: np.ndarray  # (position, legal column) pairs. Shape: (n_pairs, 2)


def pack(example: Example, shape: Shape, counts: Counter) -> List[Tuple[Bucket, Row]]:
    """Lay an example out in rows.

    example (Example): The example, with its choices.
    shape (Shape): The shapes allowed.
    counts (Counter): Added to.
    RETURNS (List[Tuple[Bucket, Row]]): Rows; none if the passage is too long.
    """
    guide = example.guide
    if not isinstance(guide, PieceGuide):
        raise TypeError("windows need a tokenizer with the list syntax in pieces")
    longest = max(len(example.prefix), len(guide.pieces))
    width = next((p for p in shape.passage if p >= longest), 0)
    if not width:
        counts["passages left out: too long"] += 1
        return []
    short, wide = shape.window, shape.window * shape.max_windows
    rows = [
        (windows, short)
        for windows in _fit([b for b in example.branches if _size(b) <= short], shape)
    ]
    for branch in example.branches:
        if short < _size(branch) <= wide:
            rows.append(([[branch]], wide))
        elif _size(branch) > wide:
            counts["questions left out: too long"] += 1
    if not example.branches:
        rows = [([], short)]
    counts["rows"] += len(rows)
    counts["rows of a passage that was split"] += max(0, len(rows) - 1)
    return [
        (
            Bucket(width, len(windows), size),
            _lay_out(example.prefix, guide, windows, size),
        )
        for windows, size in rows
    ]


def _size(branch: Branch) -> int:
    """RETURNS (int): Tokens that are read: nothing follows the end of an answer."""
    return len(branch) - 1


def _fit(branches: List[Branch], shape: Shape) -> List[List[List[Branch]]]:
    """RETURNS (List[List[List[Branch]]]): Rows of windows of branches, each in the
    first window with room."""
    windows: List[List[Branch]] = []
    room: List[int] = []
    for branch in sorted(branches, key=lambda b: -_size(b)):
        size = _size(branch)
        at = next((i for i, free in enumerate(room) if free >= size), len(room))
        if at == len(room):
            room.append(shape.window)
            windows.append([])
        room[at] -= size
        windows[at].append(branch)
    most = shape.max_windows
    return [windows[i : i + most] for i in range(0, len(windows), most)]


def _lay_out(
    prefix: List[int], guide: PieceGuide, windows: List[List[Branch]], size: int
) -> Row:
    """Write the branches of a row side by side, in windows of a size."""
    width = len(windows) * size
    tokens, place, kinds = (np.zeros(width, np.int32) for _ in range(3))
    owner, targets, chosen = (np.full(width, -1, np.int32) for _ in range(3))
    inside: List[Tuple[int, int]] = []
    column: Dict[int, int] = {}  # of a piece, where it stands for the first time
    for place_in_passage, piece in enumerate(guide.pieces):
        column.setdefault(piece, N_SYNTAX + place_in_passage)
    syntax = guide.syntax
    column.update({syntax.empty: 0, syntax.open: 1, syntax.next: 2, syntax.close: 3})
    number = 0
    for window, branches in enumerate(windows):
        start = window * size
        for branch in branches:
            n, first = _size(branch), start + len(branch.question) - 1
            tokens[start : start + n] = branch.question + branch.answer[:-1]
            owner[start : start + n] = number
            place[start : start + n] = np.arange(n)
            targets[first : start + n] = branch.answer
            for at, token, choice in zip(
                range(first, start + n), branch.answer, branch.choices
            ):
                kinds[at] = choice.kind
                if choice.kind != NOTHING:
                    chosen[at] = column[token]
                if choice.kind == COPY and choice.legal is not None:
                    inside += [(at, column[int(piece)]) for piece in choice.legal]
            start += n
            number += 1
    return Row(
        prefix=np.array(prefix, np.int32),
        options=np.array(guide.pieces, np.int32),
        starts=np.array([column[piece] for piece in guide.places], np.int32),
        branches=tokens,
        owner=owner.reshape(len(windows), size),
        place=place.reshape(len(windows), size),
        targets=targets,
        kinds=kinds,
        chosen=chosen,
        inside=np.array(inside, np.int32).reshape(-1, 2),
    )


def make_batch(rows: Sequence[Row], width: int, *, language_rows: int) -> Batch:
    """Pad rows of one bucket to arrays.

    rows (Sequence[Row]): The rows.
    width (int): Passage length of the bucket, in pieces.
    language_rows (int): The first so many rows also get the losses over the whole
        vocabulary; rows without questions always do.
    RETURNS (Batch): The batch.
    """
    n, q = len(rows), len(rows[0].branches)
    passage, options = np.zeros((n, width), np.int64), np.zeros((n, width), np.int64)
    legal = np.zeros((n, q, N_SYNTAX + width), bool)
    next_passage = np.full((n, width), -1, np.int64)
    next_branch = np.full((n, q), -1, np.int64)
    for i, row in enumerate(rows):
        size = len(row.prefix)
        passage[i, :size] = row.prefix
        options[i, : len(row.options)] = row.options
        legal[i, row.kinds == START, :2] = True
        mention = np.flatnonzero(row.kinds == WHICH)
        legal[i, mention[:, None], row.starts] = True
        legal[i, row.inside[:, 0], row.inside[:, 1]] = True
        if i < language_rows or not q:
            next_passage[i, : size - 1] = row.prefix[1:]
            next_branch[i] = row.targets
    lengths = np.array([len(row.prefix) for row in rows], np.int64)

    def stack(name: str) -> np.ndarray:
        return np.stack([getattr(row, name) for row in rows]).astype(np.int64)

    return Batch(
        passage=passage,
        lengths=lengths,
        options=options,
        branches=stack("branches"),
        owner=stack("owner"),
        place=stack("place"),
        kind=stack("kinds"),
        chosen=stack("chosen"),
        legal=legal,
        next_passage=next_passage,
        next_branch=next_branch,
    )


class _Waiting(NamedTuple):
    """A row that waits: of which example, which of its rows."""

    number: int
    part: int
    row: Row


class Windows:
    """Rows gathered by shape until they make a batch, and batches until they make a step."""

    def __init__(
        self,
        shape: Shape,
        *,
        tokens_per_batch: int,
        batches_per_step: int,
        language_share: float,
        counts: Counter,
    ) -> None:
        """Set up.

        shape (Shape): The shapes allowed.
        tokens_per_batch (int): Tokens of a batch, padding included.
        batches_per_step (int): Batches of a step.
        language_share (float): Share of rows with losses over the whole vocabulary.
        counts (Counter): Added to.
        """
        self.shape, self.counts = shape, counts
        self.tokens_per_batch, self.batches_per_step = (
            tokens_per_batch,
            batches_per_step,
        )
        self.language_share = language_share
        self._buckets: Dict[Bucket, List[_Waiting]] = {}
        self._full: List[Tuple[Bucket, List[_Waiting]]] = []

    def put(
        self, number: int, example: Example, parts: Optional[Sequence[int]] = None
    ) -> None:
        """Add an example.

        number (int): Which one it is.
        example (Example): The example.
        parts (Optional[Sequence[int]]): Only these of its rows.
        """
        for part, (bucket, row) in enumerate(pack(example, self.shape, self.counts)):
            if parts is not None and part not in parts:
                continue
            rows = self._buckets.setdefault(bucket, [])
            rows.append(_Waiting(number, part, row))
            if len(rows) * bucket.size > self.tokens_per_batch - bucket.size:
                self.counts["batches of {}+{}x{}".format(*bucket)] += 1
                self._full.append((bucket, self._buckets.pop(bucket)))

    def take(self, *, rest: bool = False) -> List[Batch]:
        """Take a step.

        rest (bool): Whether one that is not full will do.
        RETURNS (List[Batch]): Its batches; none if it is not full.
        """
        if rest:
            self._full += self._buckets.items()
            self._buckets = {}
        elif len(self._full) < self.batches_per_step:
            return []
        step = []
        for bucket, waiting in self._full[: self.batches_per_step]:
            share = round(self.language_share * len(waiting))
            rows = [w.row for w in waiting]
            step.append(make_batch(rows, bucket.passage, language_rows=share))
        self._full = self._full[self.batches_per_step :]
        return step

    @property
    def waiting(self) -> List[Tuple[int, int]]:
        """RETURNS (List[Tuple[int, int]]): What waits here: examples and their rows."""
        held = [*self._buckets.values(), *(rows for _, rows in self._full)]
        return sorted((w.number, w.part) for rows in held for w in rows)
