"""The folder a run writes: shard files, and what is known of them.

`manifest.json` says what the run was given. `shards.jsonl`, its journal, has a line
for each shard that is done, with the SHA-256 of its file; a shard without a line is
not done, whatever files lie there. `errors.jsonl` is made from the journal. All are
mended when a run goes on. One process writes: the lock goes when it does.
"""

import hashlib
import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set

from ..errors import Errors
from ..sums import sha256_of
from .plan import compare
from .working import Result
from .writing import append_rows, encode, sync_folder, telling, write_whole

MANIFEST, JOURNAL, ERRORS = "manifest.json", "shards.jsonl", "errors.jsonl"
LOCK = ".lock"
COUNTED = ("documents", "written", "entities")
ROW = {"shard", "file", "sha256", "ledger", "errors", *COUNTED}  # of the journal


class Folder:
    """A folder that is being written."""

    def __init__(self, path: Path, format: str) -> None:
        """Nothing is touched yet; see `opened`.

        path (Path): The folder.
        format (str): The ending of shard files.
        """
        self.path = path
        self.format = format
        self.done: Set[int] = set()  # shards
        self.n_shards: Optional[int] = None  # in all, once all input was read
        self.totals: Counter = Counter()  # of shards that are done
        self.ledger: Counter = Counter()
        self.damaged: List[str] = []  # files that are made again

    @contextmanager
    def opened(self, plan: Mapping[str, Any]) -> Iterator["Folder"]:
        """Take the folder, and mend what a kill left behind.

        plan (Mapping[str, Any]): What the run is given: "inputs" and "settings".
        YIELDS (Folder): Itself.
        RAISES (ValueError): U111, if it holds a run that was given something else;
            U112, if another run has it; U117, if it holds anything else. (OSError):
            U113, if it can't be written.
        """
        from filelock import FileLock, Timeout

        with telling(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            with telling(self.path):
                lock.acquire(timeout=0)
        except Timeout as e:
            raise ValueError(Errors.U112.format(path=str(self.path))) from e
        try:
            self._check(plan)
            self._mend()
            yield self
        finally:
            lock.release()

    def commit(self, result: Result) -> None:
        """Put a shard on disk; when this returns, it is done for good.

        result (Result): The shard.
        RAISES (OSError): U113, if the disk is full. The shard is not done then.
        """
        name = f"shard-{result.number:06}.{self.format}"
        row = {
            "shard": result.number,
            "file": name,
            "first": result.first,
            "last": result.last,
            **{key: getattr(result, key) for key in COUNTED},
            "bytes": len(result.content),
            "sha256": hashlib.sha256(result.content).hexdigest(),
            "ledger": result.ledger,
            "errors": result.faults,
        }
        with telling(self.path):
            write_whole(self.path / name, result.content)
            append_rows(self.path / JOURNAL, [row])
            self._count(row)
            if result.faults:
                append_rows(self.path / ERRORS, result.faults)

    def finish(self, n_shards: int) -> None:
        """Write down that the input has no more shards.

        n_shards (int): How many there are.
        """
        if self.n_shards is None:
            with telling(self.path):
                append_rows(self.path / JOURNAL, [{"shards": n_shards}])
            self.n_shards = n_shards

    def _count(self, row: Mapping[str, Any]) -> None:
        self.done.add(row["shard"])
        self.totals.update({key: row[key] for key in COUNTED})
        self.totals["errors"] += len(row["errors"])
        self.ledger.update(row["ledger"])

    def _check(self, plan: Mapping[str, Any]) -> None:
        """Compare with what the folder's run was given, or begin one."""
        file = self.path / MANIFEST
        if not file.exists():
            others = [p.name for p in self.path.iterdir() if p.name[0] != "."]
            if others:
                self._refuse(f"there is no {MANIFEST}, but {sorted(others)[0]!r}")
            self._begin(plan)
            return
        try:
            known = json.loads(file.read_bytes().decode("utf8", "surrogateescape"))
            told = {what: known[what] for what in ("inputs", "settings")}
        except (ValueError, KeyError, TypeError) as e:
            self._refuse(f"{MANIFEST} can't be read ({e!r})")
        for what, before in told.items():
            difference = compare(before, json.loads(json.dumps(plan[what])))
            if difference and self._is_bare():
                self._begin(plan)
                return
            if difference:
                message = Errors.U111.format(
                    path=str(self.path), what=what, difference=difference
                )
                raise ValueError(message)

    def _is_bare(self) -> bool:
        """Tell whether nothing is done yet that would not fit; of the file that a kill
        left without a line, nothing is kept.

        RETURNS (bool): Whether another run may begin.
        """
        files = list(self.path.glob("shard-*.*"))
        if any(read_journal(self.path / JOURNAL)) or len(files) > 1:
            return False
        for file in files:
            file.unlink()
        return True

    def _begin(self, plan: Mapping[str, Any]) -> None:
        text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
        with telling(self.path):
            write_whole(self.path / MANIFEST, text.encode("utf8", "surrogateescape"))

    def _refuse(self, reason: str) -> None:
        raise ValueError(Errors.U117.format(path=str(self.path), reason=reason))

    def _mend(self) -> None:
        """Keep what is whole: lines of the journal whose files are as they were."""
        journal, errors = self.path / JOURNAL, self.path / ERRORS
        with telling(self.path):
            for part in self.path.glob(".*.part"):
                part.unlink()
        parts = [path.with_name(f".{path.name}.part") for path in (journal, errors)]
        with telling(self.path):
            with parts[0].open("wb") as kept, parts[1].open("wb") as faults:
                for row in read_journal(journal):
                    if "shards" in row:
                        self.n_shards = row["shards"]
                    elif self._is_whole(row):
                        self._count(row)
                        faults.writelines(encode(fault) for fault in row["errors"])
                    else:
                        continue
                    kept.write(encode(row))
                for out in (kept, faults):
                    out.flush()
                    os.fsync(out.fileno())
            for part, path in zip(parts, (journal, errors)):
                part.replace(path)
            sync_folder(self.path)

    def _is_whole(self, row: Mapping[str, Any]) -> bool:
        if row["shard"] in self.done:
            return False
        file = self.path / row["file"]
        if file.is_file() and sha256_of(file) == row["sha256"]:
            return True
        self.damaged.append(file.name)
        return False


def read_journal(path: Path) -> Iterator[Dict[str, Any]]:
    """Read the lines that are whole; a kill may have torn the last.

    path (Path): The journal.
    YIELDS (Dict[str, Any]): A shard, or how many there are.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and (ROW <= row.keys() or "shards" in row):
                yield row
