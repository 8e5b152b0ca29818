"""Passages that are read together: a slot for every token, and who sees whom.

Lays out the tokens of a forward (`llama` reads them) and keeps the books of the
slots afterwards: what became certain stays, what was guessed wrong is written over.
"""

from functools import lru_cache
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .branch import Branch, Decoding, Row, Trunk
from .llama import Llama, Memory, Reading

SLOTS_STEP = 64  # what numbers of slots are rounded up to


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


def _round_up(n_slots: int) -> int:
    """Like `llama.pad`: attention too is prepared, and kept, for every shape it meets."""
    return -(-n_slots // SLOTS_STEP) * SLOTS_STEP


class Draft:
    """The new tokens of a branch in one forward: what is pending, and guesses below."""

    def __init__(self, branch: Branch) -> None:
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


class Grove:
    """Passages that are read together: slots for their tokens, and their branches."""

    def __init__(self, rows: Sequence[Row], decoding: Decoding) -> None:
        """Plant passages.

        rows (Sequence[Row]): The passages with their questions.
        decoding (Decoding): How answers are written.
        """
        self.rows = rows
        self.branches = [
            Branch(passage, question, decoding)
            for passage in map(Trunk, rows)
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
    def live(self) -> List[Branch]:
        """RETURNS (List[Branch]): The branches with more to write."""
        return [branch for branch in self.branches if branch.is_live]

    def _take(self, n: int) -> List[int]:
        """RETURNS (List[int]): Slots that hold nothing of use."""
        taken = [self.free.pop() for _ in range(min(n, len(self.free)))]
        fresh = range(self.n_used, self.n_used + n - len(taken))
        self.n_used = fresh.stop
        return [*taken, *fresh]

    def reading(
        self, llama: Llama, passages: Sequence[Trunk], drafts: Sequence[Draft]
    ) -> Reading:
        """Lay out the tokens of a forward.

        llama (Llama): Who reads.
        passages (Sequence[Trunk]): Those that are not read yet.
        drafts (Sequence[Draft]): The drafts of some branches.
        RETURNS (Reading): The tokens, passages first.
        """
        n_new = sum(len(p.row.prefix) for p in passages) + sum(map(len, drafts))
        needed = max(self.n_used, self.n_used - len(self.free) + n_new)
        roomy = _round_up(needed + needed // 4)
        if self.memory is None:
            self.memory = Memory(llama, roomy)
        elif self.memory.n_slots < needed:
            self.memory.grow(roomy)
        slots = self._take(n_new)
        ids, positions = np.empty(n_new, np.int64), np.empty(n_new, np.int64)
        visible = np.zeros((n_new, _round_up(self.n_used)), bool)
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

    def forget(self, reading: Reading, passages: Sequence[Trunk]) -> None:
        """Take back a layout that could not be read."""
        for passage in passages:
            passage.slots = []
        self.free += reading.slots.tolist()
        if len(self.free) == self.n_used:
            self.memory, self.n_used, self.free = None, 0, []

    def by_row(self) -> Iterator[List[Branch]]:
        """YIELDS (List[Branch]): The branches of each row."""
        rest = iter(self.branches)
        for row in self.rows:
            yield [next(rest) for _ in row.questions]

    def settle(self, draft: Draft, kept: Sequence[int], pending: List[int]) -> None:
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
