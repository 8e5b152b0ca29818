"""Files that outlive a kill and a full disk: whole or not at all, and on disk."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from ..errors import Errors


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and be sure that it is on disk.

    path (Path): The file.
    content (bytes): What it holds.
    RAISES (OSError): If the disk is full; what stood there stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add lines; all are on disk when this returns, or none is there."""
    data = b"".join(encode(row) for row in rows)
    # unbuffered: what a full disk refused must not be tried again by `close`
    with path.open("ab", buffering=0) as out:
        before = out.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[out.write(data) :]
            os.fsync(out.fileno())
        except OSError:
            os.ftruncate(out.fileno(), before)
            raise


def encode(row: Mapping[str, Any]) -> bytes:
    """RETURNS (bytes): A line of JSON."""
    return json.dumps(row, ensure_ascii=False).encode("utf8", "replace") + b"\n"


def sync_folder(path: Path) -> None:
    """Make a rename outlive a power cut, where folders can be synced."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say of a file that can't be written what that means for the run."""
    from filelock import Timeout

    try:
        yield
    except Timeout:
        raise
    except OSError as e:
        reason = e.strerror or repr(e)
        raise OSError(Errors.U113.format(path=str(path), reason=reason)) from e
