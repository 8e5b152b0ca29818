"""What may come next while an answer is written, so that every mention stays a
verbatim stretch of the passage; and what will probably come, to be checked at once.

`PieceGuide` works on the pieces of the JSON-escaped passage: a mention starts and
ends at piece borders. That is exact for a tokenizer that splits words and
punctuation and keeps the list syntax in single pieces, as the shipped student's
does. Used for the loss in training and for decoding, so both see the same choices.
Other tokenizers are guided byte by byte, in `spelling`.
"""

import json
from dataclasses import dataclass
from typing import (
    Any,
    Dict,
    FrozenSet,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

import numpy as np

SYNTAX_PIECES = ("[]", '["', '", "', '"]')
DRAFT = 4  # pieces that are guessed beyond the last certain one


class Guess(NamedTuple):
    """A token of a draft.

    parent (int): The guess it follows; -1 for the last certain token.
    token (int): Its ID.
    """

    parent: int
    token: int


class Guide(Protocol):
    """The legal continuations of every answer about one passage."""

    @property
    def start(self) -> Any:
        """RETURNS (Any): The state before the first token; states are never changed."""

    def legal(self, state: Any) -> np.ndarray:
        """RETURNS (np.ndarray): IDs of the tokens that may come next, none twice."""

    def empties(self, state: Any) -> Optional[np.ndarray]:
        """RETURNS (Optional[np.ndarray]): Which of them make the list an empty one;
        None if none does."""

    def advance(self, state: Any, token: int) -> Any:
        """RETURNS (Any): The state after a legal token."""

    def is_closed(self, state: Any) -> bool:
        """RETURNS (bool): Whether the list is complete."""

    def ends_mention(self, state: Any, token: int) -> bool:
        """RETURNS (bool): Whether a legal token closes a mention."""

    def draft(self, state: Any) -> List[Guess]:
        """RETURNS (List[Guess]): What probably follows, as a tree of legal tokens."""


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


class PieceGuide:
    """The legal continuations of every answer about one passage, piece by piece."""

    start = CopyState()

    def __init__(
        self,
        pieces: Sequence[int],
        syntax: ListSyntax,
        *,
        can_start: Optional[Sequence[bool]] = None,
        can_end: Optional[Sequence[bool]] = None,
        ends_word: Optional[Sequence[bool]] = None,
    ) -> None:
        """Index a passage.

        pieces (Sequence[int]): Token IDs of the JSON-escaped passage. Shape: (n_pieces,)
        syntax (ListSyntax): Token IDs of the list syntax.
        can_start (Optional[Sequence[bool]]): Whether a mention may start with a
            piece; everywhere if None. Shape: (n_pieces,)
        can_end (Optional[Sequence[bool]]): Whether it may end with a piece.
        ends_word (Optional[Sequence[bool]]): Whether it probably ends there, if it
            comes so far. Decides what is drafted, never what is legal.
        """
        self.pieces = list(pieces)
        self.syntax = syntax
        everywhere = [True] * len(self.pieces)
        self.can_end = everywhere if can_end is None else can_end
        self.ends_word = everywhere if ends_word is None else ends_word
        self.places: Dict[int, List[int]] = {}  # piece -> where a mention may start
        for place, piece in enumerate(self.pieces):
            if can_start is None or can_start[place]:
                self.places.setdefault(piece, []).append(place)
        self._starts = np.array(list(self.places), np.int64)
        # nothing to copy: only the empty list can be completed
        openings = [syntax.empty, syntax.open] if self.places else [syntax.empty]
        self._openings = np.array(openings)
        self._empties = self._openings == syntax.empty

    def legal(self, state: CopyState) -> np.ndarray:
        """List what may come next.

        state (CopyState): Where the answer stands.
        RETURNS (np.ndarray): Token IDs, none twice. Shape: (n_legal,)
        """
        syntax = self.syntax
        if state.mode == "start":
            return self._openings
        if state.mode == "mention":
            return self._starts
        if state.mode == "inside":
            following = self.following(state)
            if not any(self.can_end[p - 1] for p in state.positions):
                return np.array(following)
            # a list that repeats itself has said all; or it might never end
            again = [] if state.mention in state.named else [syntax.next]
            return np.array([*again, syntax.close, *following])
        return np.array([syntax.end])

    def empties(self, state: CopyState) -> Optional[np.ndarray]:
        """RETURNS (Optional[np.ndarray]): Which legal tokens make the list an empty
        one; None if none does."""
        return self._empties if state.mode == "start" else None

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

    def is_closed(self, state: CopyState) -> bool:
        """RETURNS (bool): Whether the list is complete."""
        return state.mode in ("closed", "done")

    def ends_mention(self, state: CopyState, token: int) -> bool:
        """RETURNS (bool): Whether a legal token closes a mention."""
        return token in (self.syntax.next, self.syntax.close)

    def draft(self, state: CopyState) -> List[Guess]:
        """Guess what follows: a list opens; or the passage goes on from the first
        place where the mention can stand, with another mention after every word.

        state (CopyState): Where the answer stands.
        RETURNS (List[Guess]): A tree of tokens.
        """
        if state.mode == "start":
            return [Guess(-1, self.syntax.open)]
        if state.mode != "inside":
            return []
        place = min(state.positions)
        chain = self.pieces[place : place + DRAFT]
        guesses: List[Guess] = []
        parent = -1
        for i in range(len(chain) + 1):
            if self.ends_word[place + i - 1]:
                guesses.append(Guess(parent, self.syntax.next))
            if i < len(chain):
                guesses.append(Guess(parent, chain[i]))
                parent = len(guesses) - 1
        return guesses

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


def is_blank(unit: str) -> bool:
    """Tell whether a character is white space.

    unit (str): One character as it stands in JSON, perhaps escaped.
    RETURNS (bool): Whether it is.
    """
    return json.loads(f'"{unit}"').isspace()


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
