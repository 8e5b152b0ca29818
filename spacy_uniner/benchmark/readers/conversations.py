"""The paper's own test files: a text, a question and an answer in each conversation.

SOURCE: universal-ner/universal-ner, src/eval/test_data
"""

import re
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

from .records import parse, read_records
from .row import Reader, Row, malformed, readers

TEXT = "Text: "
QUESTION = re.compile(r"What describes (.+) in the text\?")


@readers.register("spacy-uniner.conversations.v1")
def make_conversations() -> Reader:
    """Create a reader of lists of `{"conversations": [{"value"}, ...]}`, each a text, an
    answer to it, a question "What describes X in the text?" and its answer.

    RETURNS (Reader): The reader. A passage has the answers of all questions that follow
        one another with its text, and no spans.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        last = Row("", [], answers={})
        end = Row("", [], answers={})
        for row in chain(read_records(paths, _convert), [end]):
            known, new = last.answers or {}, row.answers or {}
            if row.text == last.text and not known.keys() & new.keys():
                known.update(new)
                continue
            if known:
                yield last
            last = row

    return read


def _convert(path: Path, number: int, found: Dict[str, Any]) -> Row:
    """RETURNS (Row): A text with one answer."""
    turns = [turn["value"] for turn in found["conversations"]]
    text, asked, told = turns[0], turns[2], turns[3]
    question = QUESTION.fullmatch(asked)
    mentions = parse(path, number, told)
    if not text.startswith(TEXT) or question is None:
        raise malformed(path, number, f"no text or no question: {asked!r}")
    if not isinstance(mentions, list) or not all(isinstance(m, str) for m in mentions):
        raise malformed(path, number, f"no list of strings: {told!r}")
    answers = {question[1]: mentions}
    return Row(text[len(TEXT) :], [], is_tokenized=True, answers=answers)
