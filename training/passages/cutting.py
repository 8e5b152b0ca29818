"""Cut documents into passages that fit: texts in, stretches of them out.

A passage takes as many sentences as fit and follows the one before; a sentence
that is too long is cut at a blank, and where there is none between characters.
Nothing but blanks at the cuts is left out. Knows nothing of files or sampling.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Sequence, Tuple

from ..files import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SMALLEST = 8  # tokens; a character of UTF-8 alone can take four
GUESS = 5  # characters a token; a text of more hardly fits
NEARBY = 200  # characters that are searched for ends of sentences together
LOOKAHEAD = 32  # characters after a mark; tell whether a sentence begins there

Stretch = Tuple[int, int]  # start and end, in characters


class Cutter:
    """Cuts documents at sentences, by the length that a tokenizer gives."""

    def __init__(
        self, tokenizer: "Tokenizer", *, max_tokens: int = 256, language: str = "en"
    ) -> None:
        """Make a cutter.

        tokenizer (Tokenizer): What counts, of the tokenizers library.
        max_tokens (int): Longest passage, in tokens, without special tokens.
        language (str): Whose rules tell where a token of spaCy ends; "xx" for none.
        RAISES (InputError): If the limit is too small for any text.
        """
        import spacy
        from spacy.pipeline import Sentencizer

        if max_tokens < SMALLEST:
            raise InputError(
                f"Passages must have room for {SMALLEST} tokens or more, got "
                f"{max_tokens}."
            )
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.nlp = spacy.blank(language)
        self._sentencizer = Sentencizer()
        marks = "".join(map(re.escape, sorted(self._sentencizer.punct_chars)))
        self._marks = re.compile(f"[{marks}]")

    def cut(self, texts: Sequence[str]) -> List[List[Stretch]]:
        """Cut documents.

        texts (Sequence[str]): The documents, at best some hundred at a time.
        RETURNS (List[List[Stretch]]): The passages of each, in order, without blanks
            at their ends. Shape: (n_texts, n_passages)
        """
        bodies = [_strip(text, 0, len(text)) for text in texts]
        longest = GUESS * self.max_tokens
        short = [i for i, (start, end) in enumerate(bodies) if end - start <= longest]
        counts = self._count([texts[i][slice(*bodies[i])] for i in short])
        fits = {i for i, count in zip(short, counts) if count <= self.max_tokens}
        # what spaCy learns of words is forgotten, or memory would grow for ever
        with self.nlp.memory_zone():
            return [
                [body] * (body[0] < body[1]) if i in fits else [*self._pieces(text)]
                for i, (text, body) in enumerate(zip(texts, bodies))
            ]

    def _count(self, texts: Sequence[str]) -> List[int]:
        """RETURNS (List[int]): Length of each text, in tokens."""
        batch = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(row) for row in batch]

    def _pieces(self, text: str) -> Iterator[Stretch]:
        """YIELDS (Stretch): As many sentences as fit, again and again."""
        at, stop = _strip(text, 0, len(text))
        while at < stop:
            row, end = self._fill(text, at, stop)
            if end < stop:
                end = self._sentence(text, at, end) or _blank(text, at, end)
                end = _strip(text, at, end)[1]
                if not _ends_word(row, end - at):
                    end = self._shorten(text, at, end)
            yield at, end
            at = _strip(text, end, stop)[0]

    def _fill(self, text: str, at: int, stop: int) -> Tuple["Encoding", int]:
        """RETURNS (Tuple[Encoding, int]): More tokens than fit, or all that are left;
        and where in the text it is full."""
        width = GUESS * self.max_tokens
        while True:
            end = min(at + width, stop)
            row = self.tokenizer.encode(text[at:end], add_special_tokens=False)
            if len(row) > self.max_tokens:
                # the next token begins earlier where a character takes several
                last, after = row.offsets[self.max_tokens - 1 : self.max_tokens + 1]
                return row, at + max(1, min(last[1], after[0]))
            if end == stop:
                return row, stop
            width += width // 2

    def _sentence(self, text: str, at: int, end: int) -> int:
        """Find the last sentence that fits.

        Whether one ends at a mark depends on the words around it, so spaCy reads
        those and nothing else.

        RETURNS (int): Where the sentence after it begins; 0 if none fits.
        """
        limit = _strip(text, end, len(text))[0]
        word = limit
        for mark in self._marks_before(text, at, end):
            if mark >= word:
                continue  # the word was read already
            word = _blank(text, at, mark) if mark > at else at
            doc = self.nlp.make_doc(text[word : mark + LOOKAHEAD])
            begins = [word + s.start_char for s in self._sentencizer(doc).sents]
            fitting = [place for place in begins[1:] if place <= limit]
            if fitting:
                return fitting[-1]
        return 0

    def _marks_before(self, text: str, at: int, end: int) -> Iterator[int]:
        """YIELDS (int): Where marks that end sentences stand, the last one first."""
        for right in range(end, at, -NEARBY):
            marks = self._marks.finditer(text, max(at, right - NEARBY), right)
            yield from reversed([mark.start() for mark in marks])

    def _shorten(self, text: str, start: int, end: int) -> int:
        """RETURNS (int): Where to end so that the passage fits when it stands alone.

        Hardly ever earlier than asked: some words take more tokens when they are cut.
        """
        while end > start + 1 and self._count([text[start:end]])[0] > self.max_tokens:
            end = _strip(text, start, _blank(text, start, end - 1))[1]
        return end


def _ends_word(row: "Encoding", length: int) -> bool:
    """Tell whether the tokens of a beginning are a beginning of the tokens.

    Tokenizers split text into words first and these into tokens, so what follows a
    word changes nothing in it.

    row (Encoding): The tokens of a text.
    length (int): Of the beginning, in characters.
    RETURNS (bool): Whether it ends where one of the tokenizer's words does.
    """
    last = row.char_to_token(length - 1)
    if last is None or last + 1 >= len(row):
        return False
    return row.token_to_word(last) != row.token_to_word(last + 1)


def _strip(text: str, start: int, end: int) -> Stretch:
    """RETURNS (Stretch): The stretch without blanks at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _blank(text: str, at: int, end: int) -> int:
    """RETURNS (int): The last place in (at, end] next to a blank, else the end."""
    for place in range(min(end, len(text) - 1), at, -1):
        if text[place].isspace():
            return place
    return end


def load_tokenizer(folder: Path) -> "Tokenizer":
    """Load the tokenizer that passages are measured with.

    folder (Path): Its folder.
    RETURNS (Tokenizer): The tokenizer, that never cuts or pads.
    RAISES (InputError): If there is no `tokenizer.json` in it, or it is none.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(
            f"There is no {path}. Give the folder of a checkpoint or tokenizer."
        )
    try:
        settings = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{path} is no tokenizer: it has no model.")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # text never makes a marker
    return tokenizer
