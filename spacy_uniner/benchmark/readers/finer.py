"""FiNER-ORD: a table of tokens with labels, and one of sentences to part them by.

SOURCE: gtfintechlab/FiNER, data/news_data
"""

from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from .conll import decode
from .row import Reader, Row, join_tokens, malformed, read_table, readers

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
GOLD, SENTENCES = "_gold_data.csv", "_input_df.csv"
Line = Tuple[str, str, int]


@readers.register("spacy-uniner.finer.v1")
def make_finer() -> Reader:
    """Create a reader of the set: each `x_gold_data.csv` among the files has its
    sentences in `x_input_df.csv`. Both may be packed by gzip.

    RETURNS (Reader): The reader. A passage is a sentence.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            if GOLD in path.name:
                other = path.with_name(path.name.replace(GOLD, SENTENCES))
                sentences = _read_sentences(other)
                for doc, tokens in _read_gold(path).items():
                    for passage in _part(path, tokens, sentences.get(doc, [])):
                        words = [token for token, _, _ in passage]
                        yield join_tokens(words, decode(path, passage))

    return read


def _read_gold(path: Path) -> Dict[str, List[Line]]:
    """RETURNS (Dict[str, List[Tuple[str, str, int]]]): Document -> token, tag, line."""
    found: Dict[str, List[Line]] = {}
    columns = ("gold_label", "gold_token", "doc_idx")
    for number, (label, token, doc) in read_table(path, *columns):
        if not label.isdigit() or int(label) >= len(LABELS):
            raise malformed(path, number, f"label {label!r} is none of 0 to 6")
        found.setdefault(doc, []).append((token, LABELS[int(label)], number))
    return found


def _read_sentences(path: Path) -> Dict[str, List[int]]:
    """RETURNS (Dict[str, List[int]]): Document -> length of each sentence, in
    characters without white space, in which the tables differ."""
    found: Dict[str, List[int]] = {}
    for _, (doc, text) in read_table(path, "doc_idx", "text"):
        found.setdefault(doc, []).append(_length(text))
    return found


def _part(path: Path, tokens: List[Line], lengths: List[int]) -> Iterator[List[Line]]:
    """YIELDS (List[Tuple[str, str, int]]): The tokens of each sentence that has any; a
    token across a bound belongs to the first of the two.
    RAISES (ValueError): U073, if tokens are left that no sentence has."""
    at, read, end = 0, 0, 0  # token; characters read, and at the end of the sentence
    for length in lengths:
        start, end = at, end + length
        while at < len(tokens) and read < end:
            read += _length(tokens[at][0])
            at += 1
        if at > start:
            yield tokens[start:at]
    if at < len(tokens):
        token, _, line = tokens[at]
        raise malformed(path, line, f"no sentence of the document has token {token!r}")


def _length(text: str) -> int:
    """RETURNS (int): Number of characters that are no white space."""
    return sum(map(len, text.split()))
