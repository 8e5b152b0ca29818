"""The SOFC-Exp corpus: texts, and tables with the places of sentences and tokens.

SOURCE: boschresearch/sofc-exp_textmining_resources, README.md
"""

from pathlib import Path
from typing import Dict, Iterator, List, Literal, Sequence, Tuple

from .conll import decode
from .row import Reader, Row, join_tokens, malformed, read_lines, read_text, readers

Bounds = Tuple[int, int]


@readers.register("spacy-uniner.sofc.v1")
def make_sofc(*, layer: Literal["types", "slots"] = "types") -> Reader:
    """Create a reader of the corpus: each `texts/x.txt` among the files has its tables
    in `annotations/sentences/x.csv` and `annotations/entity_types_and_slots/x.csv`.

    layer (str): Which mentions: entity "types", or "slots" of an experiment.
    RETURNS (Reader): The reader. A passage is a sentence that tells of an experiment.
    """

    def read(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            if path.suffix == ".txt":
                text = read_text(path)
                tables = path.parent.parent / "annotations"
                sentences = _read_sentences(tables / "sentences" / f"{path.stem}.csv")
                tokens = tables / "entity_types_and_slots" / f"{path.stem}.csv"
                yield from _read_tokens(tokens, text, sentences, layer)

    return read


def _read_sentences(path: Path) -> Dict[str, Bounds]:
    """RETURNS (Dict[str, Tuple[int, int]]): Number of each sentence that tells of an
    experiment -> first character, last + 1."""
    found = {}
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) != 4 or not all(c.isdigit() for c in columns):
            raise malformed(path, number, "no number, mark, first and last character")
        if columns[1] == "1":
            found[columns[0]] = (int(columns[2]), int(columns[3]))
    return found


def _read_tokens(
    path: Path, text: str, sentences: Dict[str, Bounds], layer: str
) -> Iterator[Row]:
    """YIELDS (Row): The sentences, in the order of the table of tokens."""
    passages: Dict[str, List[Tuple[str, str, int]]] = {}
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) != 6 or not all(c.isdigit() for c in columns[:4]):
            raise malformed(
                path, number, "no sentence, token, first, last, type and slot"
            )
        if columns[0] in sentences:
            start = sentences[columns[0]][0]
            token = text[start + int(columns[2]) : start + int(columns[3])]
            tag = columns[4 if layer == "types" else 5]
            passages.setdefault(columns[0], []).append((token, tag, number))
    for passage in passages.values():
        yield join_tokens([token for token, _, _ in passage], decode(path, passage))
