"""Get the raw files of a set: from a folder that mirrors their hosts, or from these.

Files lie under a root as `owner/name/commit/path` (GitHub), `datasets/name/revision/path`
(hub), or `path` (files that a person has to get). What is fetched is checked before it is
there; what was cut off goes on where it stopped.
"""

import fnmatch
import hashlib
import os
import tarfile
from pathlib import Path
from typing import Dict, Iterable, List, Sequence

import requests

from ..errors import Errors
from ..sums import sha256_of
from .registry import TestSet

RAW = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
ARCHIVE = "https://codeload.github.com/{repository}/tar.gz/{commit}"
HUB = "https://huggingface.co/datasets/{hub}/resolve/{revision}/{path}"
MIRROR = "SPACY_UNINER_MIRROR"  # environment: a folder with files that others fetched
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20  # bytes


def default_roots() -> List[Path]:
    """RETURNS (List[Path]): Where files are looked for: the mirror, then the cache. What
    is fetched goes to the last."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    mirror = os.environ.get(MIRROR)
    return [*([Path(mirror)] if mirror else []), Path(cache) / "spacy-uniner" / "sets"]


def find_files(test_set: TestSet, split: str, roots: Sequence[Path]) -> List[Path]:
    """Find the files of a split, and check them.

    test_set (TestSet): The set. split (str): "train", "dev" or "test".
    roots (Sequence[Path]): Where to look, in this order.
    RETURNS (List[Path]): The files, in the order of their description; those of a
        pattern by name.
    RAISES (FileNotFoundError): U075, if some are nowhere, with how to get them.
        (ValueError): U072, if they are others than those that are known.
    """
    part = part_of(test_set, split)
    for root in roots:
        folder = root / place_of(test_set)
        found = [_matches(folder, path) for path in test_set.source.files[part]]
        if all(found):
            paths = [path for each in found for path in each]
            check(test_set, part, folder, paths)
            return paths
    raise FileNotFoundError(
        Errors.U075.format(name=test_set.name, how=how_to_get(test_set))
    )


def part_of(test_set: TestSet, split: str) -> str:
    """RETURNS (str): Under what name the files of a split are described.
    RAISES (FileNotFoundError): U075, if the set has no such part."""
    files = test_set.source.files
    for part in (split, "all"):
        if part in files:
            return part
    how = (
        how_to_get(test_set)
        if not files
        else f"it has no {split} part, but {', '.join(files)}."
    )
    raise FileNotFoundError(Errors.U075.format(name=test_set.name, how=how))


def place_of(test_set: TestSet) -> Path:
    """RETURNS (Path): The folder of a set's files, below a root."""
    source = test_set.source
    if source.repository:
        return Path(source.repository, source.commit)
    return Path("datasets", source.hub, source.revision) if source.hub else Path()


def how_to_get(test_set: TestSet) -> str:
    """RETURNS (str): What a person has to do to have the set."""
    source = test_set.source
    if source.get:
        return source.get
    where = f"github.com/{source.repository}" if source.repository else source.hub
    if source.files:
        return f"fetch it with `python -m spacy_uniner.benchmark fetch {test_set.name}` ({where})."
    return f"it comes from {where}; its files are not described yet."


def _matches(folder: Path, pattern: str) -> List[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def digest(folder: Path, paths: Sequence[Path]) -> str:
    """Tell whether files are the same.

    folder (Path): What their names are told from. paths (Sequence[Path]): The files.
    RETURNS (str): SHA-256, in hex: of the file if there is one, and otherwise of a
        line "SHA-256  name" for each, in the order of names.
    """
    each = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    if len(each) == 1:
        return next(iter(each.values()))
    lines = "".join(f"{each[name]}  {name}\n" for name in sorted(each))
    return hashlib.sha256(lines.encode("utf8")).hexdigest()


def check(test_set: TestSet, part: str, folder: Path, paths: Sequence[Path]) -> None:
    """RAISES (ValueError): U072, if files are others than those that are known."""
    expected = test_set.source.sha256.get(part)
    found = digest(folder, paths) if expected else expected
    if found != expected:
        raise ValueError(
            Errors.U072.format(
                name=test_set.name,
                split=part,
                found=found,
                expected=expected,
                path=str(folder),
            )
        )


def fetch(test_set: TestSet, root: Path) -> None:
    """Fetch all files of a set that are not there.

    test_set (TestSet): The set. root (Path): Where files go.
    RAISES (FileNotFoundError): U075, if no program may. (ValueError): U072, if what came
        is not what is known; U078, for an archive that would write elsewhere.
        (requests.RequestException): If the host can't be reached or does not give it.
    """
    source, folder = test_set.source, root / place_of(test_set)
    if not source.files or not (source.repository or source.hub):
        raise FileNotFoundError(
            Errors.U075.format(name=test_set.name, how=how_to_get(test_set))
        )
    patterns = [path for paths in source.files.values() for path in paths]
    if any("*" in pattern for pattern in patterns):
        if not all(_matches(folder, pattern) for pattern in patterns):
            archive = (
                root / f"{source.repository.replace('/', '-')}-{source.commit}.tar.gz"
            )
            url = ARCHIVE.format(repository=source.repository, commit=source.commit)
            download(url, archive)
            unpack(archive, folder, patterns)
            archive.unlink()
    for path in patterns:
        if "*" not in path and not (folder / path).exists():
            form = RAW if source.repository else HUB
            download(form.format(**vars(source), path=path), folder / path)
    for part, listed in source.files.items():
        check(
            test_set,
            part,
            folder,
            [p for each in listed for p in _matches(folder, each)],
        )


def download(url: str, path: Path) -> None:
    """Download a file, from where an earlier try stopped.

    url (str): Its address. path (Path): Where it goes when it is complete.
    RAISES (requests.RequestException): If it does not come.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    at = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # parts are of the file itself
    if at:
        headers["Range"] = f"bytes={at}-"
    with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it was longer than the file, so it was another
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
    part.replace(path)


def unpack(archive: Path, folder: Path, patterns: Iterable[str]) -> None:
    """Unpack the files that fit, without the folder that holds them all.

    archive (Path): A .tar.gz. folder (Path): Where they go.
    patterns (Iterable[str]): Such as "train/*.ann".
    RAISES (ValueError): U078, if a file would be written outside of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(patterns)
    with tarfile.open(archive) as packed:
        for member in packed:
            member.name = member.name.partition("/")[2]
            if not any(fnmatch.fnmatch(member.name, pattern) for pattern in wanted):
                continue
            try:
                packed.extract(member, folder, filter="data")
            except tarfile.FilterError as err:
                raise ValueError(
                    Errors.U078.format(path=str(archive), member=member.name)
                ) from err


def present(
    sets: Dict[str, TestSet], split: str, roots: Sequence[Path]
) -> Dict[str, str]:
    """Tell what is at hand.

    sets (Dict[str, TestSet]): Name -> set. split (str): The part that is asked for.
    roots (Sequence[Path]): Where to look.
    RETURNS (Dict[str, str]): Name -> why it is not at hand; empty if it is.
    """
    told = {}
    for name, test_set in sets.items():
        try:
            find_files(test_set, split, roots)
            told[name] = ""
        except FileNotFoundError as err:
            told[name] = str(err)
    return told
