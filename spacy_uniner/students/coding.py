"""Between text and token IDs: prompts in, IDs out; IDs in, answer text out.

One copy for every student and for training. A marker of the template becomes
one special ID, and text can never produce one, whatever stands in it.
"""

import json
import re
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from ..errors import Errors
from ..prompt import Piece, get_template, render_prefix, render_question
from .copying import (
    SYNTAX_PIECES,
    Guide,
    ListSyntax,
    PieceGuide,
    answer_pieces,
    escape,
    is_blank,
)
from .spelling import ByteGuide, Spelling

if TYPE_CHECKING:
    from tokenizers import Tokenizer


MAX_QUESTIONS = 10_000  # questions whose tokens are remembered
ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")  # of JSON


class Coder:
    """A tokenizer together with a template."""

    def __init__(
        self, tokenizer: "Tokenizer", template: str, *, source: str = ""
    ) -> None:
        """Look up markers and list syntax.

        tokenizer (Tokenizer): The tokenizer of the checkpoint, of the tokenizers library.
        template (str): Name of the prompt template.
        source (str): Where the tokenizer came from, for messages.
        RAISES (ValueError): U033, if a marker is not a single token.
        """
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # text never makes a marker
        self.template = template
        self.markers: Dict[str, int] = {}
        for marker in get_template(template).markers:
            found = self._special_id(marker)
            if found is None:
                raise ValueError(
                    Errors.U033.format(path=source, marker=marker, template=template)
                )
            self.markers[marker] = found
        self.end = self.markers[get_template(template).end]
        # with these pieces, what may be copied is told piece by piece; else by bytes
        found_all = [self._special_id(piece) for piece in SYNTAX_PIECES]
        known = [found for found in found_all if found is not None]
        complete = len(known) == len(SYNTAX_PIECES)
        self.syntax = ListSyntax(*[*known, self.end]) if complete else None
        self.spelling = None if complete else Spelling.of(tokenizer)
        asked = get_template(template).question
        self._blank = not asked[-1].is_marker  # text goes on with a blank
        self._questions: Dict[str, List[int]] = {}

    def _special_id(self, piece: str) -> Optional[int]:
        """RETURNS (Optional[int]): The ID of a special piece; None if it is none."""
        found = self.tokenizer.token_to_id(piece)
        if found is None:
            return None
        added = self.tokenizer.get_added_tokens_decoder().get(found)
        return found if added is not None and added.special else None

    def text(self, text: str) -> List[int]:
        """RETURNS (List[int]): Token IDs of plain text; no special ones."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pieces(self, pieces: Sequence[Piece]) -> List[int]:
        """RETURNS (List[int]): Token IDs of a rendered prompt."""
        ids: List[int] = []
        for piece in pieces:
            ids += (
                [self.markers[piece.text]] if piece.is_marker else self.text(piece.text)
            )
        return ids

    def prefix(self, passage: str, dataset: Optional[str] = None) -> List[int]:
        """RETURNS (List[int]): Token IDs of what all types of a passage share."""
        pieces = render_prefix(passage, dataset=dataset, template=self.template)
        return self.pieces(pieces)

    def question(self, entity_type: str) -> List[int]:
        """RETURNS (List[int]): Token IDs of the question for a type."""
        if len(self._questions) > MAX_QUESTIONS:
            self._questions.clear()
        if entity_type not in self._questions:
            pieces = render_question(entity_type, template=self.template)
            self._questions[entity_type] = self.pieces(pieces)
        return self._questions[entity_type]

    def guide(self, passage: str) -> Optional[Guide]:
        """RETURNS (Optional[Guide]): What answers about a passage may hold; None if
        the tokenizer is of no kind that is known."""
        if self.syntax is not None:
            return self.piece_guide(passage)
        if self.spelling is not None:
            return ByteGuide(passage, self.spelling, end=self.end, blank=self._blank)
        return None

    def piece_guide(self, passage: str) -> PieceGuide:
        """Index a passage for a tokenizer that keeps the list syntax in single pieces.

        passage (str): The passage.
        RETURNS (PieceGuide): What answers about it may hold.
        RAISES (ValueError): U045, if the tokenizer does not.
        """
        if self.syntax is None:
            raise ValueError(Errors.U045.format(pieces=" ".join(SYNTAX_PIECES)))
        ids, offsets, escaped = self._escaped(" " + passage)
        cut = {
            i for m in ESCAPE.finditer(escaped) for i in range(m.start() + 1, m.end())
        }
        blank = {m.start() for m in ESCAPE.finditer(escaped) if is_blank(m[0])}
        # pieces of one character share its offsets
        can_start = [
            start not in cut
            and start not in blank
            and (i == 0 or start >= offsets[i - 1][1])
            and bool(escaped[start:end].strip())
            for i, (start, end) in enumerate(offsets)
        ]
        can_end = [
            end not in cut and (i + 1 == len(offsets) or offsets[i + 1][0] >= end)
            for i, (_, end) in enumerate(offsets)
        ]
        ends_word = [not escaped[end : end + 1].isalnum() for _, end in offsets]
        return PieceGuide(
            ids, self.syntax, can_start=can_start, can_end=can_end, ends_word=ends_word
        )

    def mention(self, mention: str, guide: PieceGuide) -> List[int]:
        """Spell a mention with the pieces of its passage.

        mention (str): A verbatim stretch of the passage.
        guide (PieceGuide): The passage.
        RETURNS (List[int]): Token IDs; empty if it stands at no piece borders.
        """
        for spelled in (" " + mention, mention):
            ids, _, _ = self._escaped(spelled)
            if guide.find(ids) >= 0:
                return ids
        return []

    def _escaped(self, text: str) -> Tuple[List[int], List[Tuple[int, int]], str]:
        """Tokenize a text as it stands in JSON, cut after every escape: the `n` of a
        line break must not join the word that follows.

        text (str): Any text.
        RETURNS (Tuple[List[int], List[Tuple[int, int]], str]): Token IDs, where
            each stands in the escaped text, and the escaped text.
        """
        escaped = escape(text)
        cuts = [0, *(m.end() for m in ESCAPE.finditer(escaped)), len(escaped)]
        ids: List[int] = []
        offsets: List[Tuple[int, int]] = []
        for start, end in zip(cuts, cuts[1:]):
            part = self.tokenizer.encode(escaped[start:end], add_special_tokens=False)
            ids += part.ids
            offsets += [(start + i, start + j) for i, j in part.offsets]
        return ids, offsets, escaped

    def answer_ids(self, mentions: Sequence[str], guide: Optional[Guide]) -> List[int]:
        """Spell an answer as it is to be written.

        mentions (Sequence[str]): Verbatim stretches of the passage, in order.
        guide (Optional[Guide]): What `guide` says about the passage.
        RETURNS (List[int]): Token IDs with the end; empty if the tokenizer keeps the
            list syntax in single pieces, and a mention stands at no piece borders.
        """
        if isinstance(guide, PieceGuide):
            spelled = [tuple(self.mention(m, guide)) for m in mentions]
            known = list(dict.fromkeys(spelled))
            return list(answer_pieces(known, guide.syntax)) if all(spelled) else []
        text = json.dumps(list(mentions), ensure_ascii=False)
        tokens = self.spelling.tokens if self.spelling else {}
        # sentencepiece puts a blank before everything that it spells
        if self._blank and not tokens.get(self.text(text)[0], b"").startswith(b" "):
            text = " " + text
        return [*self.text(text), self.end]

    def tail(self, text: str, n_chars: int) -> int:
        """RETURNS (int): How many tokens of a text reach into its last characters."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        return sum(end > len(text) - n_chars for _, end in found.offsets)

    def answer(self, ids: Sequence[int]) -> str:
        """RETURNS (str): The text of an answer, its end left out."""
        kept = [i for i in ids if i != self.end]
        return self.tokenizer.decode(kept, skip_special_tokens=False)

    def answer_offsets(self, ids: Sequence[int]) -> List[Tuple[int, int]]:
        """Locate the tokens of an answer in its text.

        ids (Sequence[int]): Token IDs of an answer.
        RETURNS (List[Tuple[int, int]]): Start and end of each token, in characters.
        """
        ends = [len(self.answer(ids[:i])) for i in range(len(ids) + 1)]
        # half a character may decode to more than the whole
        for i in range(len(ends) - 2, -1, -1):
            ends[i] = min(ends[i], ends[i + 1])
        return list(zip(ends, ends[1:]))
