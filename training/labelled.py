"""Where labelled passages come from: published sets, and answers of teachers.

Opens what a config names, cleaned, one passage at a time. Knows nothing of
questions.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from .cleaning import Cleaning, clean_answer, is_text
from .files import InputError, read_rows
from .sets import Labelled, read_set, set_types

ANSWERS = "answers"


@dataclass(frozen=True)
class Source:
    """A line of the config: "LIMIT PATH SPLIT [partial] [repeat]".

    name (str): Its name in reports, and in the dataset field.
    limit (int): Passages taken per epoch; 0 for all.
    path (Path): Folder of a set, or a file of answers.
    split (str): Split of a set.
    complete (bool): Whether unmarked text is surely no mention.
    repeat (bool): Whether passages are taken again until the limit is reached.
    """

    name: str
    limit: int
    path: Path
    split: str = "train"
    complete: bool = True
    repeat: bool = False

    @property
    def is_set(self) -> bool:
        """RETURNS (bool): Whether it is a published set with its own types."""
        return self.path.is_dir()

    def types(self) -> List[str]:
        """RETURNS (List[str]): The closed list of types of a set; empty if open."""
        return set_types(self.path) if self.is_set else []

    def rows(self, cleaning: Cleaning, counts: Counter) -> Iterator[Labelled]:
        """Read the passages.

        cleaning (Cleaning): How answers are cleaned. Sets are taken as they are, and
            so are rows with `queries`, which tell what is absent as well.
        counts (Counter): What was kept, repaired and dropped; added to.
        YIELDS (Labelled): One passage.
        """
        if self.is_set:
            yield from read_set(self.path, self.split, complete=self.complete)
            return
        faults: Counter = Counter()
        for row in read_rows(self.path, fields=["text"], faults=faults):
            if "queries" in row:
                if is_text(row["text"]) and isinstance(row["queries"], dict):
                    yield Labelled(row["text"], row["queries"], self.complete)
                else:
                    counts["answer dropped: no text or queries"] += 1
                continue
            cleaned = clean_answer(row, cleaning, counts)
            if cleaned is not None:
                cleaned.complete = self.complete
                yield cleaned
        counts.update({f"line dropped: {k}": n for k, n in faults.items()})


def parse_source(name: str, line: str, data: Path, answers: Path) -> Source:
    """Read a line of the config.

    name (str): Its name.
    line (str): "LIMIT PATH SPLIT [partial] [repeat]"; the limit may be "all"; the path is
        below the data folder, or "answers", or begins with "./": below this one.
    data (Path): Folder of sets.
    answers (Path): What teachers answered.
    RETURNS (Source): The source.
    RAISES (InputError): If the line is none, or nothing lies there.
    """
    limit, path, *rest = [*str(line).split(), "", ""]
    words = [word for word in rest if word]
    splits = [word for word in words if word not in ("-", "partial", "repeat")]
    is_number = limit.isdigit() and int(limit) > 0
    if not (limit == "all" or is_number) or not path or len(splits) > 1:
        raise InputError(
            f"Source {name!r} is {line!r}; it must be 'LIMIT PATH SPLIT [partial] "
            "[repeat]', such as '10000 ner/wnut17 train' or 'all answers'."
        )
    place = answers if path == ANSWERS else data / path
    if path.startswith("./"):
        place = Path(path)
    if not place.exists():
        raise InputError(f"Source {name!r}: there is nothing at {place}.")
    return Source(
        name,
        0 if limit == "all" else int(limit),
        place,
        splits[0] if splits else "train",
        "partial" not in words,
        "repeat" in words,
    )
