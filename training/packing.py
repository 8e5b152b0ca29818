"""Turn conversations into fixed-shape batches: tokenized, packed, ready to train on.

The `branches` layout: a row is a passage and windows of questions. Each question
with its answer is a branch that sees the passage and itself only, as it will at
inference. Rows of one shape (passage length, number of windows) form a bucket,
so that nothing is padded by much and shapes repeat. Knows nothing of models.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spacy_uniner.students.coding import Coder
from spacy_uniner.students.copying import (
    SYNTAX_PIECES,
    CopyState,
    PieceGuide,
    answer_pieces,
)

from .turns import from_conversation, read_conversations

N_SYNTAX = len(SYNTAX_PIECES)  # choice columns before those of the passage
START, MENTION, INSIDE = 1, 2, 3  # what is chosen at a position


@dataclass(frozen=True)
class Shape:
    """The shapes that rows are padded to.

    passage (Tuple[int, ...]): Passage lengths, in pieces, ascending. A longer
        passage is left out and counted.
    window (int): Length of a window of branches, in pieces. A longer answer is
        trained on up to there.
    max_windows (int): Windows per row. What does not fit is left out.
    """

    passage: Tuple[int, ...] = (24, 48, 80, 128, 192)
    window: int = 48
    max_windows: int = 3


@dataclass
class Branch:
    """A question with its answer.

    inputs (List[int]): Token IDs. targets (List[int]): The next token IDs, -1 in
    the question. choices (List[Tuple[int, List[int]]]): Per position, what is
    chosen (0: nothing) and, inside a mention, the legal token IDs.
    """

    inputs: List[int]
    targets: List[int]
    choices: List[Tuple[int, List[int]]]


def make_branch(
    question: List[int], answer: Sequence[int], guide: PieceGuide
) -> Branch:
    """Walk an answer through its legal choices.

    question (List[int]): Token IDs of the question.
    answer (Sequence[int]): Token IDs of the answer with its end.
    guide (PieceGuide): The passage.
    RETURNS (Branch): The branch.
    """
    blank = len(question) - 1
    inputs = question + list(answer[:-1])
    targets = [-1] * blank + list(answer)
    choices: List[Tuple[int, List[int]]] = [(0, [])] * blank
    state = CopyState()
    for token in answer:
        kind = {"start": START, "mention": MENTION, "inside": INSIDE}.get(state.mode, 0)
        choices.append((kind, guide.legal(state).tolist() if kind == INSIDE else []))
        state = guide.advance(state, token)
    return Branch(inputs, targets, choices)


class Batch(NamedTuple):
    """A batch of rows of one shape. P: passage, Q: all windows, W: one window.

    passage: Token IDs. Shape: (n_rows, P). lengths: Prefix lengths. Shape: (n_rows,)
    options: Token IDs of the escaped passage, what can be copied. Shape: (n_rows, O)
    branches: Token IDs. Shape: (n_rows, Q)
    owner: Which branch a token belongs to, -1 for padding. Shape: (n_rows, Q)
    place: Position of a token in its branch. Shape: (n_rows, Q)
    chosen: Column of the right choice, -1 for none: first the list syntax, then
        the options. Shape: (n_rows, Q)
    legal: Whether a column may be chosen. Shape: (n_rows, Q, 4 + O)
    next_passage, next_branch: Next token IDs for the language-model loss, -1 for
        none. Shapes: (n_rows, P), (n_rows, Q)
    """

    passage: np.ndarray
    lengths: np.ndarray
    options: np.ndarray
    branches: np.ndarray
    owner: np.ndarray
    place: np.ndarray
    chosen: np.ndarray
    legal: np.ndarray
    next_passage: np.ndarray
    next_branch: np.ndarray


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


@dataclass
class Counts:
    """What packing left out, and why."""

    rows: int = 0
    too_long: int = 0
    questions: int = 0
    unspelled: int = 0  # questions with a mention that stands at no piece borders
    no_room: int = 0
    by_shape: Dict[str, int] = field(default_factory=dict)


def pack_conversation(
    row: dict, coder: Coder, shape: Shape, counts: Counts
) -> Optional[Tuple[Tuple[int, int], Row]]:
    """Pack one conversation.

    row (dict): The conversation.
    coder (Coder): The tokenizer.
    shape (Shape): The shapes allowed.
    counts (Counts): Added to.
    RETURNS (Optional[Tuple[Tuple[int, int], Row]]): Its bucket (P, n_windows) and
        the row; None if nothing is left to train on.
    RAISES (InputError): If it is no conversation.
    """
    passage, questions = from_conversation(row)
    prefix, guide = coder.prefix(passage), coder.piece_guide(passage)
    counts.rows += 1
    longest = max(len(prefix), len(guide.pieces))
    width = next((p for p in shape.passage if p >= longest), 0)
    if not width:
        counts.too_long += 1
        return None
    branches = []
    for kind, answer in questions:
        counts.questions += 1
        question = coder.question(kind)
        mentions = [
            coder.mention(m, guide) if isinstance(m, str) else None for m in answer
        ]
        if not all(mentions):
            counts.unspelled += 1
            continue
        # decoding ends a list that repeats itself, so that none may be learned
        mentions = list(dict.fromkeys(map(tuple, mentions)))
        answer = answer_pieces(mentions, coder.syntax)
        branches.append(make_branch(question, answer, guide))
    n_windows, slots = _fit(branches, shape, counts)
    if not slots:
        return None
    return (width, n_windows), _lay_out(prefix, guide, slots, n_windows, shape.window)


def _fit(
    branches: List[Branch], shape: Shape, counts: Counts
) -> Tuple[int, List[Tuple[int, Branch]]]:
    """Put branches into windows, each in the first one with room."""
    room: List[int] = []
    slots = []
    for branch in sorted(branches, key=lambda b: -len(b.inputs)):
        size = min(len(branch.inputs), shape.window)
        window = next((i for i, free in enumerate(room) if free >= size), len(room))
        if window == len(room):
            if len(room) == shape.max_windows:
                counts.no_room += 1
                continue
            room.append(shape.window)
        slots.append(((window + 1) * shape.window - room[window], branch))
        room[window] -= size
    return len(room), slots


def _lay_out(
    prefix: List[int],
    guide: PieceGuide,
    slots: List[Tuple[int, Branch]],
    n_windows: int,
    window: int,
) -> Row:
    """Write the branches of a row side by side."""
    width = n_windows * window
    tokens, place, kinds = (np.zeros(width, np.int32) for _ in range(3))
    owner, targets, chosen = (np.full(width, -1, np.int32) for _ in range(3))
    inside: List[Tuple[int, int]] = []
    column: Dict[int, int] = {}  # of a piece, where it stands for the first time
    for place_in_passage, piece in enumerate(guide.pieces):
        column.setdefault(piece, N_SYNTAX + place_in_passage)
    syntax = guide.syntax
    column.update({syntax.empty: 0, syntax.open: 1, syntax.next: 2, syntax.close: 3})
    for number, (start, branch) in enumerate(slots):
        size = min(len(branch.inputs), window)
        stop = start + size
        tokens[start:stop] = branch.inputs[:size]
        owner[start:stop] = number
        place[start:stop] = np.arange(size)
        targets[start:stop] = branch.targets[:size]
        for at, (kind, legal) in zip(range(start, stop), branch.choices):
            kinds[at] = kind
            if kind:
                chosen[at] = column[int(targets[at])]
                inside += [(at, column[piece]) for piece in legal]
    pairs = np.array(inside, np.int32).reshape(-1, 2)
    options = np.array(guide.pieces, np.int32)
    starts = np.array([column[piece] for piece in guide.places], np.int32)
    ids = np.array(prefix, np.int32)
    return Row(
        ids, options, starts, tokens, owner, place, targets, kinds, chosen, pairs
    )


def make_batch(rows: Sequence[Row], width: int, *, language_model_rows: int) -> Batch:
    """Pad rows of one bucket to arrays.

    rows (Sequence[Row]): The rows.
    width (int): Passage length of the bucket, in pieces.
    language_model_rows (int): The first so many rows also get the
        language-model loss.
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
        mention = np.flatnonzero(row.kinds == MENTION)
        legal[i, mention[:, None], row.starts] = True
        legal[i, row.inside[:, 0], row.inside[:, 1]] = True
        if i < language_model_rows:
            next_passage[i, : size - 1] = row.prefix[1:]
            next_branch[i] = row.targets
    lengths = np.array([len(row.prefix) for row in rows], np.int64)
    stacked = [
        np.stack([getattr(r, k) for r in rows])
        for k in ("branches", "owner", "place", "chosen")
    ]
    branches, owner, place, chosen = (a.astype(np.int64) for a in stacked)
    return Batch(
        passage,
        lengths,
        options,
        branches,
        owner,
        place,
        chosen,
        legal,
        next_passage,
        next_branch,
    )


def stream_batches(
    path: Path,
    coder: Coder,
    shape: Shape,
    *,
    tokens_per_batch: int,
    language_model_share: float,
    counts: Counts,
    skip: int = 0,
    rest: bool = False,
) -> Iterator[Tuple[int, Batch]]:
    """Stream conversations as batches, in the order of the file.

    path (Path): Conversations, JSON lines.
    coder (Coder): The tokenizer.
    shape (Shape): The shapes allowed.
    tokens_per_batch (int): Tokens of a batch, padding included.
    language_model_share (float): Share of rows with the language-model loss.
    counts (Counts): Added to.
    skip (int): Conversations to leave out at the start.
    rest (bool): Whether batches that are not full come at the end. Training leaves
        them: a forward is compiled for every shape.
    YIELDS (Tuple[int, Batch]): Number of conversations read so far, and a batch.
    """
    buckets: Dict[Tuple[int, int], List[Row]] = {}
    number = 0
    for number, conversation in enumerate(read_conversations(path), 1):
        if number > skip:
            packed = pack_conversation(conversation, coder, shape, counts)
            if packed is None:
                continue
            bucket, row = packed
            rows = buckets.setdefault(bucket, [])
            rows.append(row)
            width, n_windows = bucket
            full = tokens_per_batch // (width + n_windows * shape.window)
            if len(rows) >= full:
                name = f"{width}x{n_windows}"
                counts.by_shape[name] = counts.by_shape.get(name, 0) + 1
                share = round(language_model_share * full)
                yield number, make_batch(rows, width, language_model_rows=share)
                buckets[bucket] = []
    for (width, _), rows in buckets.items() if rest else ():
        if rows:
            yield number, make_batch(rows, width, language_model_rows=0)
