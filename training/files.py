"""Files that survive a kill: written whole or not at all, or line by line.

Everything that scripts of the workflow hand to each other goes through here.
Knows JSON lines and nothing of what is in them.
"""

import fcntl
import gzip
import json
import os
import re
import sys
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence, TextIO

# half a character: JSON can tell one, no file in UTF-8 can hold it
SURROGATE = re.compile("[\ud800-\udfff]")


class InputError(ValueError):
    """What a user can put right; told without a traceback."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script: errors that a user can put right end it with one line.

    main (Callable[[], None]): The script.
    """
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Write a file whole or not at all: nothing changes until everything is on disk.

    path (Path): The file; its folder is made.
    YIELDS (TextIO): Where to write.
    RAISES (OSError): If the disk is full; what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with writing(path) as out:
        out.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_rows(
    path: Path, *, fields: Sequence[str] = (), faults: Optional[Counter] = None
) -> Iterator[dict]:
    """Read JSON lines, gzipped or not.

    path (Path): The file.
    fields (Sequence[str]): What every row must have.
    faults (Optional[Counter]): Where lines that can't be used are counted, by what
        is wrong; without it they are errors.
    YIELDS (dict): One row. Blank lines are skipped.
    RAISES (InputError): If there is no such file, it is a torn archive, or a line
        can't be used.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Run the step that writes it first.")
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        fault, row = "", None
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            fault = "not UTF-8"
        except (ValueError, RecursionError):
            fault = "not JSON"
        else:
            if not isinstance(row, dict) or any(f not in row for f in fields):
                fault = f"no object with {', '.join(fields) or 'fields'}"
        if not fault:
            yield row
        elif faults is None:
            raise InputError(f"{path}, line {number}: {fault}.")
        else:
            faults[fault] += 1


def _lines(path: Path) -> Iterator[bytes]:
    """YIELDS (bytes): Lines of a file, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as lines:
        try:
            yield from lines
        except (EOFError, zlib.error) as error:
            raise InputError(f"{error} ({path})") from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep a second run away from a file while one writes it.

    path (Path): What is written. The lock goes when the process does.
    RAISES (InputError): If another run has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another run is writing {path}. Wait until it ends, or stop it."
            ) from None
        yield


class Journal:
    """JSON lines that are only ever added to, each on disk before the next is begun.

    A line that a kill tore is cut off when the journal is opened again.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, and mend its end.

        path (Path): The file; made if it is not there.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered: what a full disk refused must not be tried again by `close`
        self._out = path.open("ab+", buffering=0)
        self._mend()

    def _mend(self) -> None:
        end = self._out.seek(0, os.SEEK_END)
        at, tail = end, b""
        while at and b"\n" not in tail:
            step = min(at, 1 << 16)
            at -= step
            self._out.seek(at)
            tail = self._out.read(step)
        whole = at + tail.rfind(b"\n") + 1
        if whole < end:
            self._out.truncate(whole)
        self._out.seek(0, os.SEEK_END)

    def rows(self) -> Iterator[dict]:
        """YIELDS (dict): What stands there already."""
        yield from read_rows(self.path)

    def add(self, row: dict) -> None:
        """Add a row; it is on disk when this returns.

        row (dict): The row.
        RAISES (OSError): If the disk is full; the row is then taken back.
        """
        line = json.dumps(row, ensure_ascii=False).encode("utf8") + b"\n"
        before = self._out.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._out.write(line) :]
            os.fsync(self._out.fileno())
        except OSError:
            os.ftruncate(self._out.fileno(), before)
            raise

    def close(self) -> None:
        """Close the file."""
        self._out.close()
