"""The answer tree: all types of a passage at once, about one forward per mention.

A passage is read once, with a branch per type that sees the passage and itself.
Every forward reads what is certain of each branch, and below it a draft: what
probably follows. The first one thus decides every empty answer and most first
pieces of a list, each later one most of a mention. Drafts decide when a choice is
computed, never what it is: answers equal those written one token at a time.

Branches that are done make room for the next passages, so that forwards stay full
and memory does not grow with the stream. What may follow is decided in `copying`,
how tokens are read in `llama`; here are only token IDs.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    Deque,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from .copying import Guess, Guide
from .llama import Llama, Memory, Reading

if TYPE_CHECKING:
    from torch import Tensor

GROVE_TOKENS = 256  # tokens; passages that are shorter share a grove
PLACES = 256  # logits that are computed at a time
IN_FLIGHT = 2  # forwards' worth of tokens that are remembered at a time


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
class _Passage:
    """A passage and its place in a grove.

    row (Row): Its tokens.
    slots (List[int]): Where they are; empty as long as they are not read.
    """

    row: Row
    slots: List[int] = field(default_factory=list)


class _Branch:
    """An answer and its place in a grove."""

    def __init__(
        self, passage: _Passage, question: Sequence[int], decoding: Decoding
    ) -> None:
        """Plant a branch.

        passage (_Passage): What is asked about.
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


@lru_cache(maxsize=4096)
def _lineage(parents: Tuple[int, ...]) -> Tuple[np.ndarray, np.ndarray]:
    """Tell who descends from whom.

    parents (Tuple[int, ...]): Parent of each node, before it; -1 for none.
    RETURNS (Tuple[np.ndarray, np.ndarray]): Whether a node (row) sees another, itself
        included, shape: (n_nodes, n_nodes); and its depth, shape: (n_nodes,)
    """
    sees = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] |= sees[parent]
    return sees, sees.sum(1) - 1


class _Draft:
    """The new tokens of a branch in one forward: what is pending, and guesses below."""

    def __init__(self, branch: _Branch) -> None:
        self.branch = branch
        self.last = len(branch.pending) - 1  # certain up to here
        guesses = branch.draft()
        self.tokens = [*branch.pending, *(guess.token for guess in guesses)]
        below = [
            self.last + 1 + g.parent if g.parent >= 0 else self.last for g in guesses
        ]
        self.parents = (*range(-1, self.last), *below)
        self.slots: List[int] = []
        self.first = 0  # row of the first token among all hidden states

    def __len__(self) -> int:
        return len(self.tokens)

    def child(self, node: int, token: int) -> int:
        """RETURNS (int): The node for a token below another; -1 if none was drafted."""
        for i in range(max(node, self.last) + 1, len(self.tokens)):
            if self.parents[i] == node and self.tokens[i] == token:
                return i
        return -1


class _Grove:
    """Passages that are read together: slots for their tokens, and their branches."""

    def __init__(self, rows: Sequence[Row], decoding: Decoding) -> None:
        """Plant passages.

        rows (Sequence[Row]): The passages with their questions.
        decoding (Decoding): How answers are written.
        """
        self.rows = rows
        self.branches = [
            _Branch(passage, question, decoding)
            for passage in map(_Passage, rows)
            for question in passage.row.questions
        ]
        self.memory: Optional[Memory] = None
        self.n_used = 0  # slots up to the highest that was ever taken
        self.free: List[int] = []

    @property
    def width(self) -> int:
        """RETURNS (int): Tokens of the first forward, about."""
        return sum(row.width for row in self.rows)

    @property
    def live(self) -> List[_Branch]:
        """RETURNS (List[_Branch]): The branches with more to write."""
        return [branch for branch in self.branches if branch.is_live]

    def _take(self, n: int) -> List[int]:
        """RETURNS (List[int]): Slots that hold nothing of use."""
        taken = [self.free.pop() for _ in range(min(n, len(self.free)))]
        fresh = range(self.n_used, self.n_used + n - len(taken))
        self.n_used = fresh.stop
        return [*taken, *fresh]

    def reading(
        self, llama: Llama, passages: Sequence[_Passage], drafts: Sequence[_Draft]
    ) -> Reading:
        """Lay out the tokens of a forward.

        llama (Llama): Who reads.
        passages (Sequence[_Passage]): Those that are not read yet.
        drafts (Sequence[_Draft]): The drafts of some branches.
        RETURNS (Reading): The tokens, passages first.
        """
        n_new = sum(len(p.row.prefix) for p in passages) + sum(map(len, drafts))
        needed = max(self.n_used, self.n_used - len(self.free) + n_new)
        roomy = needed + needed // 4
        if self.memory is None:
            self.memory = Memory(llama, roomy)
        elif self.memory.n_slots < needed:
            self.memory.grow(roomy)
        slots = self._take(n_new)
        ids, positions = np.empty(n_new, np.int64), np.empty(n_new, np.int64)
        visible = np.zeros((n_new, self.n_used), bool)
        at = 0
        for passage in passages:
            end = at + len(passage.row.prefix)
            passage.slots = slots[at:end]
            ids[at:end] = passage.row.prefix
            positions[at:end] = np.arange(end - at)
            visible[at:end, passage.slots] = np.tri(end - at, dtype=bool)
            at = end
        for draft in drafts:
            branch, end = draft.branch, at + len(draft)
            draft.slots = slots[at:end]
            sees, depth = _lineage(draft.parents)
            ids[at:end] = draft.tokens
            positions[at:end] = branch.position + depth
            visible[at:end, branch.passage.slots] = True
            visible[at:end, branch.path] = True
            visible[at:end, draft.slots] = sees
            at = end
        return Reading(self.memory, ids, positions, np.array(slots), visible)

    def forget(self, reading: Reading, passages: Sequence[_Passage]) -> None:
        """Take back a layout that could not be read."""
        for passage in passages:
            passage.slots = []
        self.free += reading.slots.tolist()
        if len(self.free) == self.n_used:
            self.memory, self.n_used, self.free = None, 0, []

    def by_row(self) -> Iterator[List[_Branch]]:
        """YIELDS (List[_Branch]): The branches of each row."""
        rest = iter(self.branches)
        for row in self.rows:
            yield [next(rest) for _ in row.questions]

    def settle(self, draft: _Draft, kept: Sequence[int], pending: List[int]) -> None:
        """Keep what became certain of a draft, and free the slots of the rest.

        kept (Sequence[int]): Nodes that are certain, in order.
        pending (List[int]): What was chosen after them.
        """
        branch = draft.branch
        branch.path += [draft.slots[node] for node in kept]
        branch.position += len(kept)
        branch.pending = pending
        if branch.is_live:
            self.free += [s for i, s in enumerate(draft.slots) if i not in kept]
        else:
            self.free += branch.path + [s for s in draft.slots if s not in branch.path]


class _Part(NamedTuple):
    """What one grove has in a forward: passages that are read, and drafts."""

    grove: _Grove
    passages: List[_Passage]
    drafts: List[_Draft]


class _Forward:
    """One forward: the drafts of some groves."""

    def __init__(self, llama: Llama) -> None:
        self.llama = llama
        self.parts: List[_Part] = []
        self.readings: List[Reading] = []
        self.n_tokens = 0
        self.n_drafts = 0

    def add(self, grove: _Grove, *, room: int) -> None:
        """Add as many drafts of a grove as there is room for, and one at least if
        nothing else is there.

        grove (_Grove): The grove.
        room (int): Tokens of a forward.
        """
        part = _Part(grove, [], [])
        for branch in grove.live:
            draft = _Draft(branch)
            passage = branch.passage
            is_new = not passage.slots and passage not in part.passages
            size = len(draft) + (len(passage.row.prefix) if is_new else 0)
            if self.n_drafts and self.n_tokens + size > room:
                break
            part.drafts.append(draft)
            if is_new:
                part.passages.append(passage)
            self.n_tokens += size
            self.n_drafts += 1
        if part.drafts:
            self.parts.append(part)

    def cancel(self) -> None:
        """Leave the groves as they were."""
        for part, reading in zip(self.parts, self.readings):
            part.grove.forget(reading, part.passages)

    def read(self) -> "Tensor":
        """Read the tokens.

        RETURNS (Tensor): Hidden states. Shape: (n_tokens, hidden)
        RAISES (torch.OutOfMemoryError): If memory can't hold them; then `cancel`.
        """
        at = 0
        for grove, passages, drafts in self.parts:
            self.readings.append(grove.reading(self.llama, passages, drafts))
            at += len(self.readings[-1].ids) - sum(map(len, drafts))
            for draft in drafts:
                draft.first = at
                at += len(draft)
        return self.llama.read(self.readings)

    def choose(self, hidden: "Tensor") -> None:
        """Choose what can be chosen.

        hidden (Tensor): Hidden states. Shape: (n_tokens, hidden)
        """
        every = [(part.grove, draft) for part in self.parts for draft in part.drafts]
        # most branches end here: logits below are computed for the others only
        ends = self._logits(hidden, [d.first + d.last for _, d in every])
        going: List[Tuple[_Grove, _Draft, int]] = []
        for (grove, draft), logits in zip(every, ends):
            token = draft.branch.choose(logits)
            child = draft.child(draft.last, token) if draft.branch.is_live else -1
            if child < 0:
                grove.settle(draft, range(draft.last + 1), [token])
            else:
                going.append((grove, draft, child))
        guesses = [range(d.first + d.last + 1, d.first + len(d)) for _, d, _ in going]
        below = self._logits(hidden, [place for places in guesses for place in places])
        for (grove, draft, node), places in zip(going, guesses):
            mine = list(islice(below, len(places)))
            kept = list(range(draft.last + 1))
            while node >= 0:
                kept.append(node)
                token = draft.branch.choose(mine[node - draft.last - 1])
                node = draft.child(node, token) if draft.branch.is_live else -1
            grove.settle(draft, kept, [token])

    def _logits(self, hidden: "Tensor", places: Sequence[int]) -> Iterator[np.ndarray]:
        """Compute logits some places at a time, fewer where memory is short.

        YIELDS (np.ndarray): Logits of one place after another. Shape: (n_vocab,)
        """
        import torch

        at, size = 0, PLACES
        while at < len(places):
            try:
                logits = self.llama.logits(hidden, places[at : at + size])
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
                continue
            yield from logits.cpu().numpy()
            at += size


def write_tree(
    llama: Llama, rows: Sequence[Row], decoding: Decoding
) -> List[List[Written]]:
    """Write the answers to all questions of some passages.

    llama (Llama): The model.
    rows (Sequence[Row]): Passages with their questions.
    decoding (Decoding): How answers are written.
    RETURNS (List[List[Written]]): For each row one answer per question, in order.
    RAISES (torch.OutOfMemoryError): If memory can't hold the draft of one answer.
        (FloatingPointError): If logits are not finite.
    """
    import torch

    groves = list(_plant(rows, decoding))
    waiting = deque(grove for grove in groves if grove.branches)
    live: List[_Grove] = []
    room = decoding.tokens_per_batch
    with torch.inference_mode():
        while waiting or live:
            forward = _fill(llama, live, waiting, room)
            try:
                hidden = forward.read()
            except torch.OutOfMemoryError:
                forward.cancel()
                if forward.n_drafts == 1:
                    raise
                room = forward.n_tokens // 2
                continue
            forward.choose(hidden)
            for grove in live:
                if not grove.live:
                    grove.memory = None
            live = [grove for grove in live if grove.live]
    return [
        [branch.written for branch in branches]
        for grove in groves
        for branches in grove.by_row()
    ]


def _plant(rows: Sequence[Row], decoding: Decoding) -> Iterator[_Grove]:
    """Put short passages together, in order."""
    together: List[Row] = []
    width = 0
    for row in rows:
        if together and width + row.width > GROVE_TOKENS:
            yield _Grove(together, decoding)
            together, width = [], 0
        together.append(row)
        width += row.width
    if together:
        yield _Grove(together, decoding)


def _fill(
    llama: Llama, live: List[_Grove], waiting: Deque[_Grove], room: int
) -> _Forward:
    """Put together the next forward: what is being written, then what waits.

    live (List[_Grove]): Groves in flight; those that begin are added.
    waiting (Deque[_Grove]): Groves that are not; those that begin are taken.
    room (int): Tokens of a forward.
    RETURNS (_Forward): At most so many tokens, or a single draft.
    """
    forward = _Forward(llama)
    for grove in live:
        forward.add(grove, room=room)
    remembered = sum(grove.memory.n_slots for grove in live if grove.memory)
    while waiting:
        n_first = waiting[0].width
        fits = forward.n_tokens + n_first <= room
        if forward.n_drafts and not (fits and remembered + n_first <= IN_FLIGHT * room):
            break
        grove = waiting.popleft()
        live.append(grove)
        forward.add(grove, room=room)
        remembered += n_first
    return forward
