"""What may come next while an answer is written, so that every mention stays a
verbatim stretch of the passage.

Works on the pieces of the JSON-escaped passage: a mention starts and ends at
piece borders. That is exact for a tokenizer that splits words and punctuation
and keeps the list syntax in single pieces, as the shipped student's does. Used
for the loss in training and for decoding, so both see the same choices.
"""

import json
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

SYNTAX_PIECES = ("[]", '["', '", "', '"]')


@dataclass(frozen=True)
class ListSyntax:
    """Token IDs of the list syntax.

    empty (int): The whole empty list, `[]`.
    open (int): Opens a list and its first mention, `["`.
    next (int): Ends a mention and opens another, `", "`.
    close (int): Ends the last mention and the list, `"]`.
    end (int): Ends the answer.
    """

    empty: int
    open: int
    next: int
    close: int
    end: int


@dataclass(frozen=True)
class CopyState:
    """Where an answer stands.

    mode (str): "start", "mention" (at its first piece), "inside", "closed" or "done".
    positions (FrozenSet[int]): In "inside", the places in the passage, in pieces,
        that could continue the mention.
    mention (Tuple[int, ...]): Token IDs of the mention so far.
    named (FrozenSet[Tuple[int, ...]]): The mentions before it.
    """

    mode: str = "start"
    positions: FrozenSet[int] = frozenset()
    mention: Tuple[int, ...] = ()
    named: FrozenSet[Tuple[int, ...]] = frozenset()


class CopyGuide:
    """The legal continuations of every answer about one passage."""

    def __init__(
        self,
        pieces: Sequence[int],
        syntax: ListSyntax,
        *,
        can_start: Optional[Sequence[bool]] = None,
        can_end: Optional[Sequence[bool]] = None,
    ) -> None:
        """Index a passage.

        pieces (Sequence[int]): Token IDs of the JSON-escaped passage. Shape: (n_pieces,)
        syntax (ListSyntax): Token IDs of the list syntax.
        can_start (Optional[Sequence[bool]]): Whether a mention may start with a
            piece; everywhere if None. Shape: (n_pieces,)
        can_end (Optional[Sequence[bool]]): Whether it may end with a piece.
        """
        self.pieces = list(pieces)
        self.syntax = syntax
        self.can_end = [True] * len(self.pieces) if can_end is None else can_end
        self.places: Dict[int, List[int]] = {}  # piece -> where a mention may start
        for place, piece in enumerate(self.pieces):
            if can_start is None or can_start[place]:
                self.places.setdefault(piece, []).append(place)

    def legal(self, state: CopyState) -> List[int]:
        """List what may come next.

        state (CopyState): Where the answer stands.
        RETURNS (List[int]): Token IDs, none twice.
        """
        syntax = self.syntax
        if state.mode == "start":
            # nothing to copy: only the empty list can be completed
            return [syntax.empty, syntax.open] if self.places else [syntax.empty]
        if state.mode == "mention":
            return list(self.places)
        if state.mode == "inside":
            whole = any(self.can_end[p - 1] for p in state.positions)
            if not whole:
                return self.following(state)
            # a list that repeats itself has said all; or it might never end
            again = [] if state.mention in state.named else [syntax.next]
            return [*again, syntax.close, *self.following(state)]
        return [syntax.end]

    def following(self, state: CopyState) -> List[int]:
        """List the pieces that would continue a mention.

        state (CopyState): A state inside a mention.
        RETURNS (List[int]): Token IDs, none twice.
        """
        ends = (p for p in sorted(state.positions) if p < len(self.pieces))
        return list(dict.fromkeys(self.pieces[p] for p in ends))

    def advance(self, state: CopyState, token: int) -> CopyState:
        """Take one step.

        state (CopyState): Where the answer stands.
        token (int): A legal token ID.
        RETURNS (CopyState): Where it stands after the token.
        """
        if state.mode == "start":
            return CopyState("closed" if token == self.syntax.empty else "mention")
        if state.mode == "mention":
            after = frozenset(p + 1 for p in self.places[token])
            return CopyState("inside", after, (token,), state.named)
        if state.mode == "inside":
            if token == self.syntax.next:
                return CopyState("mention", named=state.named | {state.mention})
            if token == self.syntax.close:
                return CopyState("closed")
            going = (p for p in state.positions if p < len(self.pieces))
            after = frozenset(p + 1 for p in going if self.pieces[p] == token)
            return CopyState("inside", after, (*state.mention, token), state.named)
        return CopyState("done")

    def find(self, mention: Sequence[int]) -> int:
        """Find a mention among the pieces.

        mention (Sequence[int]): Token IDs.
        RETURNS (int): The first place where it stands, or -1.
        """
        size = len(mention)
        for place in self.places.get(mention[0], []) if size else []:
            if self.pieces[place : place + size] == list(mention):
                return place
        return -1


def escape(text: str) -> str:
    """Write a text as it stands between the quotes of a JSON string.

    text (str): Any text.
    RETURNS (str): Its JSON escape; characters beyond ASCII stay.
    """
    return json.dumps(text, ensure_ascii=False)[1:-1]


def answer_pieces(
    mentions: Sequence[Sequence[int]], syntax: ListSyntax
) -> Tuple[int, ...]:
    """Write an answer as token IDs.

    mentions (Sequence[Sequence[int]]): Token IDs of each mention, in order.
    syntax (ListSyntax): Token IDs of the list syntax.
    RETURNS (Tuple[int, ...]): Token IDs of the answer with its end.
    """
    if not mentions:
        return (syntax.empty, syntax.end)
    out: List[int] = []
    for mention in mentions:
        out.append(syntax.next if out else syntax.open)
        out.extend(mention)
    return (*out, syntax.close, syntax.end)
