"""The test sets, as data: one file for each row of the paper's Table 6, and those that
others add.

Says where a set comes from, how it is read and what its labels are called; fetches and
reads nothing. A package adds sets by an entry point `spacy_uniner_sets` that names a
function without arguments, which returns a folder of such files.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import catalogue
from confection import Config, ConfigValidationError

from ..errors import Errors

SETS = Path(__file__).parent / "sets"
SPLITS = ("train", "dev", "test")
added = catalogue.create("spacy_uniner", "sets", entry_points=True)


@dataclass(frozen=True)
class Source:
    """Where the files of a set are.

    repository (str): "owner/name" on GitHub; empty if they are not there.
    commit (str): Commit of the repository.
    hub (str): Name of a data set on the Hugging Face Hub; empty if it is not there.
    revision (str): Of the hub's repository.
    get (str): How to get the files, for a person, where no program may.
    files (Mapping[str, Tuple[str, ...]]): Split -> paths in the repository, or patterns
        such as "train/*.ann"; "all" for a set that has no splits of its own.
    sha256 (Mapping[str, str]): Split -> digest of its files (`fetching.digest`).
    """

    repository: str = ""
    commit: str = ""
    hub: str = ""
    revision: str = "main"
    get: str = ""
    files: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TestSet:
    """A test set, as its file describes it.

    name (str): Name of the row in Table 6, and of the file.
    dataset (str): Which of the paper's 43 sets it belongs to; empty if to none.
    domain (str): One of the paper's nine. licence (str): In the words of its source.
    zero_shot (bool): Whether the paper keeps it out of all training.
    table6 (Mapping[str, int]): "train", "dev", "test" passages and "types" as the
        paper counts them, where known.
    source (Source): Where its files are.
    reader (str): Name of what reads them (`readers`). options (Mapping[str, Any]): Its
        settings.
    labels (Mapping[str, str]): Raw label -> type, in words that a person would use.
    left_out (Tuple[str, ...]): Raw labels that are no type one could ask for.
    notes (str): What differs from the paper.
    """

    name: str
    dataset: str
    domain: str
    licence: str
    zero_shot: bool
    table6: Mapping[str, int]
    source: Source
    reader: str
    options: Mapping[str, Any]
    labels: Mapping[str, str]
    left_out: Tuple[str, ...]
    notes: str = ""

    @property
    def types(self) -> List[str]:
        """RETURNS (List[str]): What is asked, none twice."""
        kept = (t for raw, t in self.labels.items() if raw not in self.left_out)
        return list(dict.fromkeys(kept))


def load_sets(folder: Optional[Path] = None) -> Dict[str, TestSet]:
    """Read descriptions.

    folder (Optional[Path]): Where they are; None for ours and those that others add.
    RETURNS (Dict[str, TestSet]): Name -> set.
    RAISES (ValueError): U071, if a file does not describe a set.
    """
    folders = [folder] if folder else [SETS, *(f() for f in added.get_all().values())]
    paths = [path for each in folders for path in Path(each).glob("*.cfg")]
    return {path.stem: load_set(path) for path in sorted(paths)}


def load_set(path: Path) -> TestSet:
    """Read one description.

    path (Path): The file.
    RETURNS (TestSet): The set.
    RAISES (ValueError): U071, if it does not describe a set.
    """
    try:
        config = Config().from_disk(path)
        source, read = dict(config["source"]), dict(config["read"])
        files = source.pop("files", {})
        digests = source.pop("sha256", {})
        listed = {s: (p,) if isinstance(p, str) else tuple(p) for s, p in files.items()}
        return TestSet(
            **{"notes": "", "dataset": "", "zero_shot": False, **config["set"]},
            name=path.stem,
            table6=config.get("table6", {}),
            source=Source(**source, files=listed, sha256=digests),
            reader=read.pop("reader"),
            left_out=tuple(read.pop("left_out", ())),
            options=read,
            labels=config["labels"],
        )
    except (KeyError, TypeError, ConfigValidationError) as err:
        raise ValueError(Errors.U071.format(path=str(path), reason=err)) from err


def get_set(name: str, sets: Mapping[str, TestSet]) -> TestSet:
    """RETURNS (TestSet): The set of that name.
    RAISES (ValueError): U070, if there is none."""
    if name not in sets:
        raise ValueError(Errors.U070.format(name=name, known=", ".join(sets)))
    return sets[name]
