"""The answer tree: all types of a passage at once, about one forward per mention.

A passage is read once, with a branch per type that sees the passage and itself.
Every forward reads what is certain of each list in the making, and below it a draft:
what probably follows. The first one thus decides every empty answer and most first
pieces of a list, each later one most of a mention. Drafts decide when a choice is
computed, never what it is: answers, and the sums of a search, equal those written one
token at a time.

Branches that are done make room for the next passages, so that forwards stay full
and memory does not grow with the stream. What may follow is decided in `copying`,
how tokens are read in `llama`; here are only token IDs.
"""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Deque, Iterator, List, NamedTuple, Sequence

import numpy as np

from .branch import Decoding, Row, Trunk, Written
from .grove import Draft, Grove
from .llama import Llama, Reading

if TYPE_CHECKING:
    from torch import Tensor

GROVE_TOKENS = 256  # tokens; passages that are shorter share a grove
PLACES = 128  # logits that are computed at a time
IN_FLIGHT = 2  # forwards' worth of tokens that are remembered at a time


class _Part(NamedTuple):
    """What one grove has in a forward: passages that are read, and drafts."""

    grove: Grove
    passages: List[Trunk]
    drafts: List[Draft]


class _Forward:
    """One forward: the drafts of some groves."""

    def __init__(self, llama: Llama) -> None:
        self.llama = llama
        self.parts: List[_Part] = []
        self.readings: List[Reading] = []
        self.n_tokens = 0
        self.n_drafts = 0

    def add(self, grove: Grove, *, room: int) -> None:
        """Add as many drafts of a grove as there is room for, and one at least if
        nothing else is there.

        grove (Grove): The grove.
        room (int): Tokens of a forward.
        """
        part = _Part(grove, [], [])
        for branch, shoot in grove.shoots:
            draft = Draft(branch, shoot)
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
        drafts = [draft for part in self.parts for draft in part.drafts]
        # most branches end here: logits below are computed for the others only
        ends = self._logits(hidden, [d.first + d.last for d in drafts])
        going = [
            (d, d.follow(d.last, d.shoot, logits)) for d, logits in zip(drafts, ends)
        ]
        going = [(draft, nodes) for draft, nodes in going if nodes]
        guesses = [range(d.first + d.last + 1, d.first + len(d)) for d, _ in going]
        below = self._logits(hidden, [place for places in guesses for place in places])
        for (draft, nodes), places in zip(going, guesses):
            mine = list(islice(below, len(places)))
            while nodes:
                node, shoot = nodes.pop()
                nodes += draft.follow(node, shoot, mine[node - draft.last - 1])
        for part in self.parts:
            part.grove.settle(part.drafts)

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
    live: List[Grove] = []
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
                if not grove.shoots:
                    grove.memory = None
            live = [grove for grove in live if grove.shoots]
    return [
        [branch.written for branch in branches]
        for grove in groves
        for branches in grove.by_row()
    ]


def _plant(rows: Sequence[Row], decoding: Decoding) -> Iterator[Grove]:
    """Put short passages together, in order."""
    together: List[Row] = []
    width = 0
    for row in rows:
        if together and width + row.width > GROVE_TOKENS:
            yield Grove(together, decoding)
            together, width = [], 0
        together.append(row)
        width += row.width
    if together:
        yield Grove(together, decoding)


def _fill(
    llama: Llama, live: List[Grove], waiting: Deque[Grove], room: int
) -> _Forward:
    """Put together the next forward: what is being written, then what waits.

    live (List[Grove]): Groves in flight; those that begin are added.
    waiting (Deque[Grove]): Groves that are not; those that begin are taken.
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
