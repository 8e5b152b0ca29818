"""What may come next in an answer, byte by byte: for tokenizers that spell words
otherwise inside quotes than in the passage, or merge a quote with a letter.

Serves the tokenizers of the LLaMA family: byte-level BPE, and sentencepiece with
byte fallback. Every token is a string of bytes; it is legal if its bytes can
follow. `copying` says what a guide is; here is the one for any vocabulary.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, FrozenSet, List, NamedTuple, Optional, Set

import numpy as np

from .copying import DRAFT, Guess, escape, is_blank

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # sentencepiece's fallback
UNIT = re.compile(r"\\(?:u[0-9a-f]{4}|.)|.", re.DOTALL)  # of JSON, never cut
# mode -> byte -> mode, outside of mentions
SYNTAX: Dict[str, Dict[int, str]] = {
    "lead": {ord(" "): "bare", ord("["): "open"},
    "bare": {ord("["): "open"},
    "open": {ord("]"): "closed", ord('"'): "begin"},
    "after": {ord("]"): "closed", ord(","): "comma"},
    "comma": {ord(" "): "blank"},
    "blank": {ord('"'): "begin"},
}
# what the shortest way to the next mention is written with
TO_MENTION = {
    "bare": b'["',
    "open": b'"',
    "after": b', "',
    "comma": b' "',
    "blank": b'"',
}
# what completes the empty list
TO_EMPTY = {"lead": (b" []", b"[]"), "bare": (b"[]",), "open": (b"]",)}
QUOTE = ord('"')


class Spelling:
    """The bytes of every token of a vocabulary."""

    def __init__(self, tokens: Dict[int, bytes]) -> None:
        """Index a vocabulary.

        tokens (Dict[int, bytes]): Token ID -> its bytes; special tokens left out.
        """
        self.tokens = tokens
        self.ids: Dict[bytes, List[int]] = {}
        self.beginnings: Set[bytes] = set()  # of at least one token
        for token, spelled in sorted(tokens.items()):
            self.ids.setdefault(spelled, []).append(token)
            self.beginnings.update(spelled[:i] for i in range(1, len(spelled) + 1))

    @classmethod
    def of(cls, tokenizer: "Tokenizer") -> Optional["Spelling"]:
        """Read a vocabulary.

        tokenizer (Tokenizer): Of the tokenizers library.
        RETURNS (Optional[Spelling]): None if it is of no kind that is known.
        """
        decoder = json.dumps(json.loads(tokenizer.to_str())["decoder"])
        special = tokenizer.get_added_tokens_decoder()
        plain = {t: i for t, i in tokenizer.get_vocab().items() if i not in special}
        if '"ByteLevel"' in decoder:
            from transformers.convert_slow_tokenizer import bytes_to_unicode

            of = {char: byte for byte, char in bytes_to_unicode().items()}
            return cls({i: bytes(of[c] for c in t) for t, i in plain.items()})
        if '"ByteFallback"' in decoder:
            return cls({i: _sentencepiece_bytes(t) for t, i in plain.items()})
        return None

    def spell(self, data: bytes) -> List[int]:
        """Spell bytes with the longest tokens that fit.

        data (bytes): What to spell.
        RETURNS (List[int]): Token IDs, up to the first byte that no token has.
        """
        ids: List[int] = []
        while data:
            size = next(
                (n for n in range(1, len(data) + 1) if data[:n] not in self.beginnings),
                len(data) + 1,
            )
            fitting = (n for n in range(size - 1, 0, -1) if data[:n] in self.ids)
            longest = next(fitting, 0)
            if not longest:
                break
            ids.append(self.ids[data[:longest]][-1])  # byte fallbacks come first
            data = data[longest:]
        return ids


def _sentencepiece_bytes(token: str) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@dataclass(frozen=True)
class SpelledState:
    """Where an answer stands.

    mode (str): A key of `SYNTAX`, "begin" (after a mention's opening quote),
        "inside" or "closed".
    positions (FrozenSet[int]): In "inside", the bytes of the passage that could
        come next in the mention.
    mention (bytes): The mention so far, or the last one until another begins.
    named (FrozenSet[bytes]): The mentions before it.
    """

    mode: str = "lead"
    positions: FrozenSet[int] = frozenset()
    mention: bytes = b""
    named: FrozenSet[bytes] = frozenset()


class _Path(NamedTuple):
    """Bytes that can follow a state, and where they lead."""

    spelled: bytes
    mode: str
    positions: FrozenSet[int]
    closed: int  # bytes of the mention after which another begins; -1 if none does


class ByteGuide:
    """The legal continuations of every answer about one passage, byte by byte."""

    start = SpelledState()

    def __init__(
        self, passage: str, spelling: Spelling, *, end: int, blank: bool
    ) -> None:
        """Index a passage.

        passage (str): The passage.
        spelling (Spelling): The vocabulary.
        end (int): Token ID that ends an answer.
        blank (bool): Whether an answer probably begins with a blank.
        """
        self.spelling, self.end, self.blank = spelling, end, blank
        escaped = escape(passage)
        self.data = escaped.encode()
        units = [(m[0], len(m[0].encode())) for m in UNIT.finditer(escaped)]
        places = np.cumsum([0, *(size for _, size in units)]).tolist()
        self.borders = frozenset(places)
        self.starts = frozenset(
            p for (u, _), p in zip(units, places) if not is_blank(u)
        )
        self.word_ends = frozenset(
            p for (u, _), p in zip([*units, (" ", 1)], places) if not u.isalnum()
        )
        self._begun = self._copy(self.starts)
        self._known: Dict[object, Dict[int, int]] = {}

    def legal(self, state: SpelledState) -> np.ndarray:
        """RETURNS (np.ndarray): IDs of the tokens that may come next, none twice."""
        if state.mode == "closed":
            return np.array([self.end])
        found = self._options(state)
        if not state.named:
            return np.array(list(found))
        # a list that repeats itself has said all; or it might never end
        begun = state.mention if state.mode in ("inside", "after") else b""
        repeats = {
            token
            for token, size in found.items()
            if size >= 0 and begun + self.spelling.tokens[token][:size] in state.named
        }
        return np.array([token for token in found if token not in repeats])

    def empties(self, state: SpelledState) -> Optional[np.ndarray]:
        """RETURNS (Optional[np.ndarray]): Which legal tokens make the list an empty
        one; None if none does."""
        if state.mode not in TO_EMPTY:
            return None
        rests = TO_EMPTY[state.mode]
        return np.array([self.spelling.tokens[t] in rests for t in self.legal(state)])

    def advance(self, state: SpelledState, token: int) -> SpelledState:
        """RETURNS (SpelledState): Where the answer stands after a legal token."""
        mode, positions = state.mode, state.positions
        mention, named = state.mention, state.named
        for byte in self.spelling.tokens.get(token, b""):
            before = mode
            mode, positions = self._follow(mode, positions)[byte]
            if mode == "inside":
                mention = (mention if before == "inside" else b"") + bytes([byte])
            elif mode == "comma":
                named |= {mention}
        return SpelledState(mode, positions, mention, named)

    def is_closed(self, state: SpelledState) -> bool:
        """RETURNS (bool): Whether the list is complete."""
        return state.mode == "closed"

    def ends_mention(self, state: SpelledState, token: int) -> bool:
        """RETURNS (bool): Whether a legal token closes a mention."""
        if state.mode not in ("begin", "inside"):
            return False
        after = self.advance(state, token)
        return after.mode not in ("begin", "inside") or after.named != state.named

    def draft(self, state: SpelledState) -> List[Guess]:
        """Guess what follows: a list opens; another mention begins; or the passage
        goes on from the first place where the mention can stand, with another
        mention after every word.

        state (SpelledState): Where the answer stands.
        RETURNS (List[Guess]): A tree of tokens.
        """
        guesses: List[Guess] = []
        if state.mode == "lead":
            self._chain(guesses, -1, b' ["' if self.blank else b'["')
        elif state.mode in TO_MENTION:
            self._chain(guesses, -1, TO_MENTION[state.mode])
        elif state.mode == "inside":
            place, parent = min(state.positions), -1
            ahead = self.spelling.spell(self.data[place : place + 8 * DRAFT])[:DRAFT]
            for token in [*ahead, None]:
                if place in self.word_ends:
                    self._chain(guesses, parent, b'", "')
                if token is not None:
                    guesses.append(Guess(parent, token))
                    parent = len(guesses) - 1
                    place += len(self.spelling.tokens[token])
        return guesses

    def _chain(self, guesses: List[Guess], parent: int, data: bytes) -> None:
        """Add the spelling of some bytes below a guess."""
        for token in self.spelling.spell(data):
            guesses.append(Guess(parent, token))
            parent = len(guesses) - 1

    def _follow(self, mode: str, positions: FrozenSet[int]) -> Dict[int, tuple]:
        """RETURNS (Dict[int, tuple]): Byte that may come next -> mode and positions."""
        if mode == "begin":
            return self._begun
        if mode == "inside":
            found = self._copy(positions)
            # escaped quotes begin with a backslash, so that this one is no copy
            if positions & self.borders:
                found[QUOTE] = ("after", frozenset())
            return found
        found = {b: (m, frozenset()) for b, m in SYNTAX.get(mode, {}).items()}
        if not self.starts:  # nothing to copy: only the empty list can be completed
            found = {b: (m, p) for b, (m, p) in found.items() if m != "begin"}
        return found

    def _copy(self, positions: FrozenSet[int]) -> Dict[int, tuple]:
        """RETURNS (Dict[int, tuple]): Next byte of the passage -> the places after it."""
        places: Dict[int, List[int]] = {}
        for p in positions:
            if p < len(self.data):
                places.setdefault(self.data[p], []).append(p + 1)
        return {b: ("inside", frozenset(ps)) for b, ps in places.items()}

    def _options(self, state: SpelledState) -> Dict[int, int]:
        """Walk all tokens that can follow.

        RETURNS (Dict[int, int]): Token ID -> how many of its bytes belong to the
            mention after which it begins another; -1 if it begins none.
        """
        key = (state.mode, state.positions)
        if key in self._known:
            return self._known[key]
        found: Dict[int, int] = {}
        todo = [_Path(b"", state.mode, state.positions, -1)]
        while todo:
            path = todo.pop()
            for byte, (mode, positions) in self._follow(*path[1:3]).items():
                spelled = path.spelled + bytes([byte])
                if spelled not in self.spelling.beginnings:
                    continue
                closed = path.closed
                if mode == "comma":
                    closed = max(0, len(path.spelled) - 1)
                for token in self.spelling.ids.get(spelled, ()):
                    found[token] = closed
                todo.append(_Path(spelled, mode, positions, closed))
        self._known[key] = dict(sorted(found.items()))
        return self._known[key]
