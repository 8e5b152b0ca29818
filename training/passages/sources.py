"""Find the sources of a corpus: paths in, documents and counts out, source by source.

A source is one input of the command, a file or a folder. Says how many passages each
gives and reports what became of them; cuts and draws none.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Sequence

from ..files import InputError
from .documents import Document, Faults, list_files, read_documents
from .sampling import Sample

OUTCOMES = (
    "kept",
    "too_short",
    "duplicates",
    "near_duplicates",
    "wrong_language",
    "contaminated",
    "not_drawn",
    "over_quota",
)  # every passage ends in one of these


@dataclass
class Source:
    """One of the inputs.

    name (str): File or folder name.
    path (Path): Where it is.
    files (List[Path]): What is read of it.
    sample (Sample): What is kept of it.
    counts (Counter): Files, documents, characters, passages, and what became of them.
    faults (Faults): What could not be read.
    """

    name: str
    path: Path
    files: List[Path]
    faults: Faults
    sample: Sample = field(default_factory=lambda: Sample(0))
    counts: Counter = field(default_factory=Counter)

    def documents(self, field: str) -> Iterator[Document]:
        """YIELDS (Document): All its documents; `field` is where JSON lines have them."""
        for path in self.files:
            inside = path.relative_to(self.path)
            name = _readable(Path(self.name, inside).as_posix())
            for document in read_documents(path, name, self.faults, field=field):
                self.counts["documents"] += not document.start
                self.counts["characters"] += len(document.text)
                yield document

    def report(self) -> Dict[str, object]:
        """RETURNS (Dict[str, object]): What was read, and what became of it."""
        read = ("documents", "characters", "passages")
        return {
            "quota": self.sample.quota,
            "files": len(self.files),
            "other_files": self.faults.other,
            **{key: self.counts[key] for key in (*read, *OUTCOMES)},
            "unusable": dict(sorted(self.faults.rows.items())),
            "faults": dict(sorted(self.faults.files.items())),
        }


def find_sources(paths: Sequence[Path], out: Path) -> List[Source]:
    """Find what to read.

    paths (Sequence[Path]): The inputs.
    out (Path): The output, which may not lie among them.
    RETURNS (List[Source]): One source an input. A name that is taken becomes the path.
    RAISES (InputError): If an input is not there, or of no format that can be read.
    """
    sources: Dict[str, Source] = {}
    for path in paths:
        if path.resolve() in (out.resolve(), *out.resolve().parents):
            raise InputError(
                f"{out} lies in the input {path}, and the next run would read it. "
                "Write it to another folder."
            )
        faults = Faults()
        name = _readable(path.resolve().name or str(path))
        name = _readable(str(path)) if name in sources else name
        if path.resolve() in {source.path.resolve() for source in sources.values()}:
            raise InputError(f"The input {path} is given twice. Give it once.")
        sources[name] = Source(name, path, list_files(path, faults), faults)
    return list(sources.values())


def _readable(name: str) -> str:
    """RETURNS (str): A file name, also one that is not UTF-8, as text."""
    return os.fsencode(name).decode("utf8", "replace")


def share_quota(
    names: Sequence[str], quota: int, own: Dict[str, int]
) -> Dict[str, int]:
    """Say how many passages each source gives.

    names (Sequence[str]): The sources.
    quota (int): Passages in all.
    own (Dict[str, int]): Source -> its passages; the others share the rest evenly.
    RETURNS (Dict[str, int]): Source -> passages.
    RAISES (InputError): If a source is not known, or nothing is left for one.
    """
    for name, number in own.items():
        if name not in names:
            raise InputError(
                f"There is no source {name!r}. The sources are {', '.join(names)}."
            )
        if number < 0:
            raise InputError(f"The quota of {name} must be 0 or more, got {number}.")
    others = sorted(set(names) - set(own))
    rest = quota - sum(own.values())
    if others and rest < len(others):
        raise InputError(
            f"The quota of {quota} passages leaves {max(0, rest)} for "
            f"{len(others)} sources: {', '.join(others)}. Raise --quota."
        )
    shares = {name: (rest + i) // len(others) for i, name in enumerate(others)}
    return {**shares, **own}
