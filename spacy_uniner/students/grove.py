"""Passages that are read together: a slot for every token, and who sees whom.

Lays out the tokens of a forward (`llama` reads them) and keeps the books of the
slots afterwards: what became certain stays, what was guessed wrong is written over.
"""

from functools import lru_cache
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .branch import Branch, Decoding, Row, Shoot, Trunk
from .llama import Llama, Memory, Reading
from .search import Search

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
    """The new tokens of a shoot in one forward: what is pending, and guesses below."""

    def __init__(self, branch: Branch, shoot: Shoot) -> None:
        self.branch, self.shoot = branch, shoot
        self.last = len(shoot.pending) - 1  # certain up to here
        guesses = branch.draft(shoot)
        self.tokens = [*shoot.pending, *(guess.token for guess in guesses)]
        below = [
            self.last + 1 + g.parent if g.parent >= 0 else self.last for g in guesses
        ]
        self.parents = (*range(-1, self.last), *below)
        self.slots: List[int] = []
        self.first = 0  # row of the first token among all hidden states
        self.grown: List[Shoot] = []  # what goes on after this forward

    def __len__(self) -> int:
        return len(self.tokens)

    def follow(
        self, node: int, shoot: Shoot, logits: np.ndarray
    ) -> List[Tuple[int, Shoot]]:
        """Go on after a node: in this forward where the draft was right, else in the next.

        node (int): The node.
        shoot (Shoot): What is written with it.
        logits (np.ndarray): After it. Shape: (n_vocab,)
        RETURNS (List[Tuple[int, Shoot]]): Nodes below it, with what is written then.
        """
        further = []
        for token, grown in self.branch.grow(shoot, logits):
            child = self._child(node, token)
            if child >= 0:
                further.append((child, grown))
                continue
            line = self._line(node)
            grown.path = [*grown.path, *(self.slots[i] for i in line)]
            grown.position += len(line)
            grown.pending = [token]
            self.grown.append(grown)
        return further

    def _child(self, node: int, token: int) -> int:
        """RETURNS (int): The node for a token below another; -1 if none was drafted."""
        for i in range(max(node, self.last) + 1, len(self.tokens)):
            if self.parents[i] == node and self.tokens[i] == token:
                return i
        return -1

    def _line(self, node: int) -> List[int]:
        """RETURNS (List[int]): The nodes down to one, from the first on."""
        line = [node]
        while self.parents[line[-1]] >= 0:
            line.append(self.parents[line[-1]])
        return line[::-1]


class Grove:
    """Passages that are read together: slots for their tokens, and their branches."""

    def __init__(self, rows: Sequence[Row], decoding: Decoding) -> None:
        """Plant passages.

        rows (Sequence[Row]): The passages with their questions.
        decoding (Decoding): How answers are written.
        """
        self.rows = rows
        self.branches = [
            _make_branch(passage, question, decoding)
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
    def shoots(self) -> List[Tuple[Branch, Shoot]]:
        """RETURNS (List[Tuple[Branch, Shoot]]): Where there is more to write."""
        return [(b, shoot) for b in self.branches for shoot in b.shoots]

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
            end = at + len(draft)
            draft.slots = slots[at:end]
            sees, depth = _lineage(draft.parents)
            ids[at:end] = draft.tokens
            positions[at:end] = draft.shoot.position + depth
            visible[at:end, draft.branch.passage.slots] = True
            visible[at:end, draft.shoot.path] = True
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

    def settle(self, drafts: Sequence[Draft]) -> None:
        """Keep what became certain of drafts, and free the slots of the rest.

        drafts (Sequence[Draft]): All drafts of some branches in a forward.
        """
        for draft in drafts:
            branch = draft.branch
            branch.slots += draft.slots
            branch.shoots.remove(draft.shoot)
            branch.shoots += draft.grown
        for branch in {id(draft.branch): draft.branch for draft in drafts}.values():
            kept = {slot for shoot in branch.shoots for slot in shoot.path}
            self.free += [slot for slot in branch.slots if slot not in kept]
            branch.slots = [slot for slot in branch.slots if slot in kept]


def _make_branch(passage: Trunk, question: Sequence[int], decoding: Decoding) -> Branch:
    """RETURNS (Branch): A search, where lists are guided and what is in them is bounded."""
    guide = passage.row.guide
    if guide is None or not decoding.constrained or not decoding.mention_bound:
        return Branch(passage, question, decoding)
    return Search(passage, question, decoding, guide=guide)
